//! Every key of a recipe, for people: what `orchestrate schema` says to editors.

use crate::recipe::tables::schema::{resolved, root};
use serde_json::Value;
use std::sync::LazyLock;

/// The keys of one kind of table.
#[derive(Clone, Debug)]
pub struct KeySection {
    /// What it is called: `grpo`, `semantic`, `model.lora`, `recipe` for the top level.
    pub name: String,
    /// How the table is written, e.g. `[stages.NAME]` with `kind = "grpo"`.
    pub heading: String,
    /// What it is.
    pub description: String,
    /// Its keys, as they stand in the schema.
    pub keys: Vec<RecipeKey>,
}

/// A key.
#[derive(Clone, Debug)]
pub struct RecipeKey {
    /// The key.
    pub name: String,
    /// What its value is: `integer, at least 2`, `string`, `table`.
    pub value: String,
    /// Its default in TOML; `required`, or `none` where it may be absent.
    pub default: String,
    /// What it does.
    pub meaning: String,
    /// The words that it may be, with what each means.
    pub words: Vec<(String, String)>,
}

/// Every table of a recipe: the top level, what stands below it, the kinds of stage, the reward components, the judges
/// of an arena.
pub fn key_sections() -> &'static [KeySection] {
    &SECTIONS
}

static SECTIONS: LazyLock<Vec<KeySection>> = LazyLock::new(|| {
    let definition = |name: &str| &root()["$defs"][name];
    let mut sections = vec![section("recipe", "the top level of a recipe", root())];
    for (name, heading, table) in [
        ("model", "[model]", "ModelTable"),
        ("model.lora", "[model.lora]", "LoraTable"),
        ("data", "[data.NAME]", "DataTable"),
        ("data.join", "[data.NAME.join]", "JoinTable"),
        ("grpo.credit", "[stages.NAME.credit]", "CreditTable"),
        ("length.of_reference", "[stages.NAME.rewards.length.of_reference]", "OfReference"),
        ("sweep", "[sweep]", "SweepTable"),
        ("sweep.variants", "[[sweep.variants]]", "VariantTable"),
        ("compare", "[compare]", "CompareSettings"),
        ("runtime", "[runtime]", "RuntimeTable"),
        ("runtime.retries", "[runtime.retries]", "Retries"),
        ("runtime.judges", "[runtime.judges.NAME]", "JudgeServer"),
        ("runtime.endpoints", "[runtime.endpoints.NAME]", "HttpEndpoint"),
    ] {
        sections.push(section(name, heading, definition(table)));
    }
    for (table, heading) in [
        ("StageTable", "[stages.NAME] with kind ="),
        ("RewardTable", "[stages.NAME.rewards.COMPONENT], kind ="),
        ("ArenaJudgeTable", "[stages.NAME.judges.JUDGE], kind ="),
    ] {
        for branch in definition(table)["anyOf"].as_array().into_iter().flatten() {
            let kind = resolved(branch)["properties"]["kind"]["const"].as_str().unwrap_or_default();
            // names of reward components that stages or an arena's judges have too
            let name = match table {
                "ArenaJudgeTable" => format!("arena.judges.{kind}"),
                "RewardTable" if sections.iter().any(|known| known.name == kind) => format!("rewards.{kind}"),
                _ => kind.to_owned(),
            };
            let mut found = section(&name, &format!("{heading} \"{kind}\""), resolved(branch));
            if let Some(description) = branch["description"].as_str() {
                found.description = one_line(description);
            }
            sections.push(found);
        }
    }
    sections
});

fn section(name: &str, heading: &str, table: &'static Value) -> KeySection {
    let required: Vec<&str> = table["required"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    let properties = table["properties"].as_object().into_iter().flatten();
    let key = |(name, schema): (&String, &'static Value)| RecipeKey {
        name: name.clone(),
        value: value_words(schema),
        default: match schema.get("default") {
            Some(Value::Null) => "none".to_owned(),
            Some(default) => in_toml(default),
            None if required.contains(&name.as_str()) => "required".to_owned(),
            None => "none".to_owned(),
        },
        meaning: one_line(schema["description"].as_str().unwrap_or_default()),
        words: words(schema),
    };
    KeySection {
        name: name.to_owned(),
        heading: heading.to_owned(),
        description: one_line(table["description"].as_str().unwrap_or_default()),
        keys: properties.map(key).collect(),
    }
}

/// The words that a value may be.
fn words(schema: &'static Value) -> Vec<(String, String)> {
    let choices = resolved(schema)["oneOf"].as_array().into_iter().flatten();
    let word = |choice: &Value| {
        Some((choice["const"].as_str()?.to_owned(), one_line(choice["description"].as_str().unwrap_or_default())))
    };
    let described: Vec<(String, String)> = choices.filter_map(word).collect();
    let listed = resolved(schema)["enum"].as_array().into_iter().flatten().filter_map(Value::as_str);
    if described.is_empty() { listed.map(|word| (word.to_owned(), String::new())).collect() } else { described }
}

fn value_words(schema: &'static Value) -> String {
    let schema = resolved(schema);
    if let Some(word) = schema["const"].as_str() {
        return format!("{word:?}");
    }
    if !words(schema).is_empty() {
        return "one of the words below".to_owned();
    }
    let named = |name: &str| match name {
        "object" => "table".to_owned(),
        "number" => "number".to_owned(),
        name => name.to_owned(),
    };
    let kind = match &schema["type"] {
        Value::String(name) if name == "array" => match schema["items"]["type"].as_str() {
            Some(items) => format!("array of {}s", named(items)),
            None => "array".to_owned(),
        },
        Value::String(name) => named(name),
        Value::Array(names) => names.iter().filter_map(Value::as_str).map(named).collect::<Vec<_>>().join(" or "),
        _ => "table".to_owned(),
    };
    let bound = |key: &str, words: &str| {
        let bound = schema.get(key).and_then(Value::as_f64)?;
        Some(format!("{words} {bound}"))
    };
    let bounds = [
        bound("minimum", "at least"),
        bound("exclusiveMinimum", "above"),
        bound("maximum", "at most"),
        bound("exclusiveMaximum", "below"),
    ];
    [Some(kind)].into_iter().chain(bounds).flatten().collect::<Vec<_>>().join(", ")
}

/// A default as a recipe has it.
fn in_toml(value: &Value) -> String {
    toml::Value::try_from(value).map_or_else(|_| value.to_string(), |value| value.to_string())
}

fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(section: &str, key: &str) -> RecipeKey {
        let section = key_sections().iter().find(|known| known.name == section).expect("there is such a table");
        section.keys.iter().find(|known| known.name == key).expect("it has such a key").clone()
    }

    #[test]
    fn keys_have_values_defaults_and_meanings() {
        let group_size = key("grpo", "group_size");
        assert_eq!((group_size.value.as_str(), group_size.default.as_str()), ("integer, at least 2", "8"));
        assert_eq!(group_size.meaning, "Completions per prompt.");
        assert_eq!(key("grpo", "steps").default, "required");
        let zero_std = key("grpo", "zero_std");
        assert_eq!(zero_std.default, "\"keep\"");
        assert!(zero_std.words.iter().any(|(word, meaning)| word == "keep" && !meaning.is_empty()));
        assert_eq!(key("model.lora", "rank").default, "32");
        assert_eq!(key("semantic", "encoder").default, "required");
    }

    #[test]
    fn every_table_of_the_schema_has_a_section_of_another_name() {
        let names: std::collections::BTreeSet<&str> = key_sections().iter().map(|known| known.name.as_str()).collect();
        assert_eq!(names.len(), key_sections().len());
        for (name, table) in root()["$defs"].as_object().unwrap() {
            // a stage's own model has the keys of `[model]`
            if table["type"] == "object" && name != "ModelOverride" {
                let is_there = key_sections().iter().any(|known| {
                    table["properties"]
                        .as_object()
                        .is_some_and(|properties| properties.keys().eq(known.keys.iter().map(|key| &key.name)))
                });
                assert!(is_there, "{name}");
            }
        }
    }
}
