//! Differences between two `key.json`, named by the recipe's keys.

use serde_json::Value;

/// A setting that differs.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Difference {
    /// The recipe's key: `lr`, `model.lora.rank`, `rewards.cot.weight`.
    pub(super) key: String,
    /// The old value; null where the setting was absent.
    pub(super) old: Value,
    /// The new value; null where the setting is absent.
    pub(super) new: Value,
}

/// Returns the settings in which `old` and `new` differ, except for the parents.
pub(super) fn differences(old: &Value, new: &Value) -> Vec<Difference> {
    let mut found = Vec::new();
    let mut path = Vec::new();
    visit(&mut path, &without_parents(old), &without_parents(new), &mut |path, old, new| {
        found.push(Difference { key: recipe_key(path), old: old.clone(), new: new.clone() });
    });
    found
}

fn without_parents(json: &Value) -> Value {
    let mut json = json.clone();
    if let Value::Object(fields) = &mut json {
        fields.shift_remove("parents");
    }
    if let Some(players) = json.pointer_mut("/spec/work/arena/players") {
        *players = players.as_array().into_iter().flatten().map(player).collect();
    }
    json
}

/// Replaces a player of an arena by one string: its name, with the seeds of its models.
fn player(player: &Value) -> Value {
    let seeds = player["models"].as_array().into_iter().flatten().filter_map(|model| model["seed"].as_u64());
    let seeds: Vec<String> = seeds.map(|seed| seed.to_string()).collect();
    let name = player["name"].as_str().unwrap_or_default();
    let untrained = || player["models"][0]["model"]["files"].as_str().unwrap_or_default().get(..12).unwrap_or_default();
    let which = if seeds.is_empty() { format!("model {}", untrained()) } else { format!("seed {}", seeds.join(", ")) };
    Value::String(format!("{name} ({which})"))
}

/// Calls `found` with every leaf in which `old` and `new` differ.
fn visit(path: &mut Vec<String>, old: &Value, new: &Value, found: &mut dyn FnMut(&[String], &Value, &Value)) {
    match (old, new) {
        _ if old == new => {}
        // A choice among alternatives (`{"steps": 10}`, `{"epochs": 1.0}`) is one setting.
        (Value::Object(before), Value::Object(after))
            if before.len() == 1 && after.len() == 1 && before.keys().ne(after.keys()) =>
        {
            found(path, old, new);
        }
        (Value::Object(before), Value::Object(after)) => {
            let gone = before.keys().filter(|name| !after.contains_key(*name));
            for name in after.keys().chain(gone) {
                path.push(name.clone());
                let side = |fields: &serde_json::Map<String, Value>| fields.get(name).cloned().unwrap_or_default();
                visit(path, &side(before), &side(after), found);
                path.pop();
            }
        }
        (Value::Array(before), Value::Array(after)) if before.iter().chain(after).all(Value::is_object) => {
            visit_items(path, before, after, found);
        }
        _ => found(path, old, new),
    }
}

/// Compares lists of tables by position. In lists of different lengths, it first removes the items that both contain.
fn visit_items(
    path: &mut Vec<String>,
    before: &[Value],
    after: &[Value],
    found: &mut dyn FnMut(&[String], &Value, &Value),
) {
    let (mut before, mut after): (Vec<&Value>, Vec<&Value>) = (before.iter().collect(), after.iter().collect());
    if before.len() != after.len() {
        let common: Vec<&Value> = before.iter().filter(|item| after.contains(item)).copied().collect();
        for item in common {
            for side in [&mut before, &mut after] {
                if let Some(at) = side.iter().position(|other| *other == item) {
                    side.remove(at);
                }
            }
        }
    }
    let count = before.len().max(after.len());
    for index in 0..count {
        if count > 1 {
            path.push(format!("[{index}]"));
        }
        let item = |side: &[&Value]| side.get(index).map_or(Value::Null, |item| (*item).clone());
        visit(path, &item(&before), &item(&after), found);
        if count > 1 {
            path.pop();
        }
    }
}

/// Returns the recipe's key for a path in `key.json`. Specs group settings that recipes have side by side.
fn recipe_key(path: &[String]) -> String {
    const GROUPS: [&str; 11] =
        ["optimizer", "loss", "sampling", "templates", "adamw", "muon", "wsd", "schedule", "rubric", "mode", "length"];
    let parts: Vec<&str> = path.iter().map(String::as_str).collect();
    let parts = match parts.as_slice() {
        ["spec", "work", _kind, rest @ ..] if !rest.is_empty() => rest,
        ["spec", rest @ ..] => rest,
        other => other,
    };
    let mut key = String::new();
    let mut skip = 0;
    for (at, part) in parts.iter().enumerate() {
        let is_last = at + 1 == parts.len();
        let is_name = at > 0 && parts[at - 1] == "rewards"; // name of a reward, which is arbitrary
        if skip > 0 && !is_last {
            skip -= 1;
        } else if *part == "component" && !is_last {
            skip = 1; // the component's kind
        } else if part.starts_with('[') {
            key.push_str(part);
        } else if is_last || is_name || !(GROUPS.contains(part) || (*part == "data" && key.starts_with("data"))) {
            if !key.is_empty() {
                key.push('.');
            }
            key.push_str(part);
        }
    }
    match key.as_str() {
        "model.files" => "model.path".to_owned(),
        "pairing.adaptive.max_comparisons" => "max_comparisons".to_owned(),
        "pairing" => "pairs".to_owned(),
        "overlong.buffer_tokens" => "overlong_buffer_tokens".to_owned(),
        "overlong.penalty" => "overlong_penalty".to_owned(),
        "zero_std.resample.max_prompts" => "max_resampled_prompts".to_owned(),
        _ => key,
    }
}

/// Formats a value briefly; null is `none`.
pub(super) fn shown(value: &Value) -> String {
    const LONGEST: usize = 40;
    let text = match value {
        Value::Null => "none".to_owned(),
        Value::String(text) if text.len() == 64 && text.bytes().all(|b| b.is_ascii_hexdigit()) => text[..12].to_owned(),
        Value::String(word) if word.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_') => word.clone(),
        Value::String(text) => format!("{text:?}"),
        Value::Array(items) if items.iter().any(|item| item.is_object() || item.is_array()) => "[...]".to_owned(),
        Value::Array(items) => format!("[{}]", items.iter().map(shown).collect::<Vec<_>>().join(", ")),
        // An alternative is shown by its name, with its value where that is a scalar.
        Value::Object(fields) if fields.len() == 1 => {
            let (name, inner) = fields.iter().next().expect("there is one");
            if inner.is_object() || inner.is_array() { name.clone() } else { format!("{name} {}", shown(inner)) }
        }
        Value::Object(_) => "{...}".to_owned(),
        Value::Bool(_) | Value::Number(_) => value.to_string(),
    };
    if text.chars().count() <= LONGEST { text } else { text.chars().take(LONGEST - 1).chain(['…']).collect() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn described(old: &Value, new: &Value) -> Vec<String> {
        let described = |change: Difference| format!("{} {} -> {}", change.key, shown(&change.old), shown(&change.new));
        differences(old, new).into_iter().map(described).collect()
    }

    fn sft(work: &Value) -> Value {
        json!({ "kind": "sft", "spec": { "seed": 1, "work": { "sft": work } }, "parents": [] })
    }

    #[test]
    fn settings_have_the_names_that_recipes_give_them() {
        let old =
            json!({ "optimizer": { "lr": 0.1, "optimizer": { "adamw": { "eps": 1e-8 } } }, "length": { "steps": 3 } });
        let new = json!({ "optimizer": { "lr": 0.2, "optimizer": { "adamw": { "eps": 1e-6 } } }, "length": { "epochs": 2.0 } });
        assert_eq!(
            described(&sft(&old), &sft(&new)),
            ["lr 0.1 -> 0.2", "eps 1e-8 -> 1e-6", "length steps 3 -> epochs 2.0"]
        );
        let weight = |weight: f64| json!({ "rewards": { "length": { "weight": weight, "component": { "cot": { "leak": weight } } } } });
        assert_eq!(
            described(&sft(&weight(1.0)), &sft(&weight(2.0))),
            ["rewards.length.weight 1.0 -> 2.0", "rewards.length.leak 1.0 -> 2.0"]
        );
    }

    #[test]
    fn what_one_side_lacks_is_none_there() {
        let reward = |names: &[&str]| {
            let all: serde_json::Map<String, Value> =
                names.iter().map(|name| ((*name).to_owned(), json!({ "weight": 1, "scale": 2 }))).collect();
            sft(&json!({ "rewards": all }))
        };
        assert_eq!(described(&reward(&["a", "b"]), &reward(&["a", "b", "c"])), ["rewards.c none -> {...}"]);
        let data = |files: &[&str]| {
            sft(
                &json!({ "data": [{ "weight": 1, "data": { "files": files.iter().map(|file| json!({ "digest": file })).collect::<Vec<_>>() } }] }),
            )
        };
        assert_eq!(described(&data(&["x", "y", "z"]), &data(&["y", "z"])), ["data.files digest x -> none"]);
        assert_eq!(described(&data(&["x", "y"]), &data(&["x", "z"])), ["data.files[1].digest y -> z"]);
    }
}
