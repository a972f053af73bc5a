//! The schema of a key that takes one string or several.

pub(in crate::recipe) fn string_or_strings(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
    schemars::json_schema!({ "type": ["string", "array"], "items": { "type": "string" }, "minItems": 1 })
}
