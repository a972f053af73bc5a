//! The recipe's JSON Schema: what `orchestrate schema` prints and `validate` checks against.

use crate::architecture::LINEAR_LAYERS;
use crate::recipe::tables::defaults;
use crate::recipe::tables::recipe::RecipeFile;
use crate::rewards::{KINDS, table_name};
use schemars::generate::SchemaSettings;
use serde_json::{Map, Value, json};
use std::sync::LazyLock;

/// The table types that take defaults, and where `defaults.toml` keeps them.
const DEFAULTED: &[(&str, &[&str])] = &[
    ("ModelTable", &["model"]),
    ("LoraTable", &["lora"]),
    ("DataTable", &["data"]),
    ("CptTable", &["stages", "cpt"]),
    ("SftTable", &["stages", "sft"]),
    ("GrpoTable", &["stages", "grpo"]),
    ("EvalTable", &["stages", "eval"]),
    ("GenerateTable", &["stages", "generate"]),
    ("CommandStageTable", &["stages", "command"]),
    ("ArenaTable", &["stages", "arena"]),
    ("SimilarityTable", &["arena_judges", "similarity"]),
    ("PairJudgesTable", &["arena_judges", "judge"]),
    ("HttpEndpoint", &["endpoints"]),
    ("JudgeServer", &["judges"]),
    ("SweepTable", &["sweep"]),
    ("RuntimeTable", &["runtime"]),
    ("Retries", &["runtime", "retries"]),
];

static SCHEMA: LazyLock<Value> = LazyLock::new(|| {
    let generator = SchemaSettings::draft2020_12().for_deserialize().into_generator();
    let mut schema = generator.into_root_schema_for::<RecipeFile>().to_value();
    remove_nulls(&mut schema);
    for (table, path) in DEFAULTED {
        let section = path.iter().fold(defaults::built_in(), |table, key| {
            table[*key].as_table().expect("each section of defaults.toml is a table")
        });
        add_defaults(&mut schema["$defs"][*table], section);
        if path[0] == "arena_judges" {
            // a judge's kind is its name unless it says otherwise
            drop_required(&mut schema["$defs"][*table], "kind");
        }
    }
    for kind in KINDS {
        let table = &mut schema["$defs"][table_name(kind.name)];
        add_defaults(table, defaults::built_in()["rewards"][kind.name].as_table().expect("each kind has defaults"));
        drop_required(table, "kind"); // a component's kind is its name unless it says otherwise
    }
    let seed = toml::Table::from_iter([("seed".to_owned(), defaults::built_in()["seed"].clone())]);
    add_defaults(&mut schema, &seed);
    drop_required(&mut schema, "runtime");
    schema
});

/// The JSON Schema of a recipe, with descriptions and defaults, for editors: it refuses what the types alone let pass.
pub fn schema() -> Value {
    let mut schema = SCHEMA.clone();
    refine(&mut schema);
    schema
}

/// The same for a file that is one of several layers: it extends another, or another extends it. No key is required.
pub fn layer_schema() -> Value {
    let mut schema = schema();
    without_required(&mut schema);
    schema
}

fn without_required(schema: &mut Value) {
    match schema {
        Value::Array(items) => items.iter_mut().for_each(without_required),
        Value::Object(object) => {
            if object.get("required").is_some_and(Value::is_array) && object.contains_key("properties") {
                object.remove("required");
            }
            object.remove("minProperties");
            object.values_mut().for_each(without_required);
        }
        _ => {}
    }
}

/// Adds what resolving a recipe refuses too, so that an editor marks it: scopes, devices and layers of no such name,
/// numbers that are too large, a length that is given twice.
fn refine(schema: &mut Value) {
    const SCOPE: &str = "^(completion|think|answer|explanation|tag:.+)$";
    const DEVICE: &str = "^(auto|cpu|cuda:[0-9]+)$";
    let layers = LINEAR_LAYERS.map(|layer| layer.name);
    let Some(tables) = schema.get_mut("$defs").and_then(Value::as_object_mut) else { return };
    for (name, table) in tables.iter_mut() {
        let Some(properties) = table.get_mut("properties").and_then(Value::as_object_mut) else { continue };
        for (key, property) in properties.iter_mut() {
            match (name.as_str(), key.as_str()) {
                (_, "scope") => property["pattern"] = json!(SCOPE),
                ("RuntimeTable", "device") => property["pattern"] = json!(DEVICE),
                ("LoraTable", "target_modules") => {
                    let words: Vec<&str> = ["all-linear"].into_iter().chain(layers).collect();
                    let word = json!({ "enum": words });
                    property["anyOf"] = json!([word, { "type": "array", "items": { "enum": layers } }]);
                }
                _ => bound(property),
            }
        }
        let has = |key: &str| table["properties"].get(key).is_some();
        if has("steps") && has("epochs") {
            table["not"] = json!({ "required": ["steps", "epochs"] });
        }
    }
}

/// The greatest number that an integer of this width holds.
fn bound(property: &mut Value) {
    let most = match property["format"].as_str() {
        Some("uint8") => u64::from(u8::MAX),
        Some("uint16") => u64::from(u16::MAX),
        Some("uint32") => u64::from(u32::MAX),
        // TOML's integers are signed
        Some("uint" | "uint64") => i64::MAX.unsigned_abs(),
        _ => return,
    };
    if property.get("maximum").is_none() {
        property["maximum"] = json!(most);
    }
}

/// The whole schema, for walking.
pub(in crate::recipe) fn root() -> &'static Value {
    &SCHEMA
}

/// What `schema` stands for, if it is a reference.
pub(in crate::recipe) fn resolved(schema: &'static Value) -> &'static Value {
    let Some(reference) = schema.get("$ref").and_then(Value::as_str) else { return schema };
    let definition = reference.strip_prefix("#/$defs/").and_then(|name| SCHEMA["$defs"].get(name));
    definition.expect("references lead into the schema's definitions")
}

/// TOML has no null: an `Option` is a key that may be absent.
fn remove_nulls(schema: &mut Value) {
    match schema {
        Value::Array(items) => items.iter_mut().for_each(remove_nulls),
        Value::Object(object) => {
            object.values_mut().for_each(remove_nulls);
            if let Some(Value::Array(types)) = object.get_mut("type") {
                types.retain(|name| name != "null");
                if let [only] = types.as_slice() {
                    let only = only.clone();
                    object.insert("type".to_owned(), only);
                }
            }
            if let Some(Value::Array(branches)) = object.get_mut("anyOf") {
                branches.retain(|branch| *branch != json!({ "type": "null" }));
                if let [Value::Object(only)] = branches.as_slice() {
                    let only = only.clone();
                    object.remove("anyOf");
                    object.extend(only);
                }
            }
        }
        _ => {}
    }
}

fn add_defaults(schema: &mut Value, section: &toml::Table) {
    for (key, default) in section {
        drop_required(schema, key);
        let property = schema["properties"].get_mut(key).and_then(Value::as_object_mut);
        let property: &mut Map<String, Value> = property.expect("each default belongs to a key");
        property.insert("default".to_owned(), serde_json::to_value(default).expect("TOML values are JSON values"));
    }
}

fn drop_required(schema: &mut Value, key: &str) {
    if let Some(Value::Array(required)) = schema.get_mut("required") {
        required.retain(|name| name != key);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_have_descriptions_bounds_and_defaults() {
        let schema = schema();
        let group_size = &schema["$defs"]["GrpoTable"]["properties"]["group_size"];
        assert_eq!(group_size["description"], "Completions per prompt.");
        assert_eq!((&group_size["minimum"], &group_size["default"]), (&json!(2), &json!(8)));
        assert_eq!(schema["properties"]["seed"]["default"], 0);
        for (table, definition) in schema["$defs"].as_object().expect("the schema has definitions") {
            for (key, property) in definition["properties"].as_object().into_iter().flatten() {
                assert!(property.get("description").is_some(), "`{table}.{key}` has no description");
            }
        }
    }

    #[test]
    fn only_keys_without_a_default_are_required() {
        let schema = schema();
        assert_eq!(schema["required"], json!(["stages"]));
        assert_eq!(schema["$defs"]["GrpoTable"]["required"], json!(["kind", "data", "steps", "rewards"]));
        assert_eq!(schema["$defs"]["SemanticTable"]["required"], json!(["encoder"]));
        assert_eq!(schema["$defs"]["LoraTable"]["required"], json!([]));
    }

    #[test]
    fn an_editor_marks_what_resolving_a_recipe_refuses() {
        let recipe = |text: &str| -> Value {
            let recipe = format!("[model]\npath = \"m\"\n[data.d]\npath = \"d.jsonl\"\n{text}");
            serde_json::to_value(recipe.parse::<toml::Table>().unwrap()).unwrap()
        };
        let validator = jsonschema::validator_for(&schema()).unwrap();
        let sft = |keys: &str| format!("[stages.s]\nkind = \"sft\"\ndata = \"d\"\nsteps = 3\n{keys}");
        let is_valid = |text: &str| validator.is_valid(&recipe(text));
        assert!(is_valid(&sft("seq_len = 64\n[runtime]\ndevice = \"cuda:1\"")));
        assert!(is_valid(&sft("[stages.s.model]\nlora = { target_modules = [\"q_proj\"] }")));
        for wrong in [
            "epochs = 1.0",
            "[stages.s.model]\nlora = { rank = 99999999999 }",
            "[runtime]\ndevice = \"gpu\"",
            "[stages.s.model]\nlora = { target_modules = [\"query\"] }",
            "[stages.e]\nkind = \"eval\"\ndata = \"d\"\n[stages.e.rewards.rouge]\nscope = \"thnk\"",
        ] {
            assert!(!is_valid(&sft(wrong)), "{wrong}");
        }
    }

    #[test]
    fn the_recipes_of_the_repository_fit_the_schema_of_their_kind() {
        let directory = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../recipes");
        let whole = jsonschema::validator_for(&schema()).unwrap();
        let layer = jsonschema::validator_for(&layer_schema()).unwrap();
        let files = walkdir::WalkDir::new(directory).into_iter().map(|entry| entry.unwrap().into_path());
        let mut checked = (0, 0);
        for path in files.filter(|path| path.extension().is_some_and(|extension| extension == "toml")) {
            let recipe: toml::Table = fs_err::read_to_string(&path).unwrap().parse().unwrap();
            let is_layer = recipe.contains_key("extends") || path.components().any(|part| part.as_os_str() == "shared");
            let recipe = serde_json::to_value(recipe).unwrap();
            let validator = if is_layer { &layer } else { &whole };
            let errors: Vec<String> =
                validator.iter_errors(&recipe).map(|error| format!("{}: {error}", error.instance_path())).collect();
            assert!(errors.is_empty(), "{}: {errors:?}", path.display());
            if is_layer { checked.1 += 1 } else { checked.0 += 1 }
        }
        assert!(checked.0 >= 1 && checked.1 >= 3, "{checked:?}");
    }

    #[test]
    fn no_key_can_be_null() {
        assert!(!schema().to_string().contains("\"null\""));
    }
}
