//! Why a stage is not in the cache: what its key differs in from the nearest result that is.

use serde_json::Value;

/// Differences that are shown; more than that is another stage altogether.
const MOST: usize = 3;

/// Why `key_json` is a miss, given the `key.json` of every result in the cache.
pub fn miss_reasons(key_json: &Value, cached: &[Value]) -> Vec<String> {
    let same_kind = cached.iter().filter(|other| other["kind"] == key_json["kind"]);
    let nearest = same_kind
        .map(|other| {
            let mut found = Vec::new();
            differences("", other, key_json, &mut found);
            found
        })
        .min_by_key(Vec::len);
    match nearest {
        None => vec!["never run".into()],
        Some(found) if found.is_empty() => vec!["its result is gone".into()],
        Some(found) if found.iter().all(|(path, _)| path.starts_with("parents")) => {
            vec!["starts from another result".into()]
        }
        Some(found) if found.len() > MOST => vec!["never run".into()],
        Some(found) => {
            let own = found.iter().filter(|(path, _)| !path.starts_with("parents"));
            own.map(|(path, change)| format!("{} {change}", shortened(path))).collect()
        }
    }
}

/// `spec.work.grpo.optimizer.lr` is `optimizer.lr` to a reader who sees the stage's kind in the same row.
fn shortened(path: &str) -> &str {
    let inner = path.strip_prefix("spec.").unwrap_or(path);
    match inner.strip_prefix("work.") {
        Some(work) => work.split_once('.').map_or(work, |(_, rest)| rest),
        None => inner,
    }
}

/// Collects the leaves in which `old` and `new` differ, with `old -> new`.
fn differences(path: &str, old: &Value, new: &Value, found: &mut Vec<(String, String)>) {
    let below = |name: &str| if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") };
    match (old, new) {
        (Value::Object(before), Value::Object(after)) => {
            for (name, value) in after {
                differences(&below(name), before.get(name).unwrap_or(&Value::Null), value, found);
            }
            for name in before.keys().filter(|name| !after.contains_key(*name)) {
                differences(&below(name), &before[name], &Value::Null, found);
            }
        }
        (Value::Array(before), Value::Array(after)) if before.len() == after.len() => {
            for (i, (before, after)) in before.iter().zip(after).enumerate() {
                differences(&below(&i.to_string()), before, after, found);
            }
        }
        _ if old != new => found.push((path.to_owned(), format!("{} -> {}", shown(old), shown(new)))),
        _ => {}
    }
}

/// A leaf in a few characters.
fn shown(value: &Value) -> String {
    const LONGEST: usize = 24;
    let text = match value {
        Value::Null => "none".to_owned(),
        Value::String(text) if text.len() == 64 && text.bytes().all(|b| b.is_ascii_hexdigit()) => text[..12].to_owned(),
        Value::String(text) => format!("{text:?}"),
        Value::Object(_) | Value::Array(_) => "...".to_owned(),
        Value::Bool(_) | Value::Number(_) => value.to_string(),
    };
    if text.chars().count() <= LONGEST { text } else { text.chars().take(LONGEST - 1).chain(['…']).collect() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn key(lr: f64, parent: &str) -> Value {
        json!({"kind": "sft", "spec": {"seed": 1, "work": {"sft": {"optimizer": {"lr": lr}}}}, "parents": [parent]})
    }

    #[test]
    fn a_changed_setting_is_named_with_both_values() {
        let cached = [key(0.1, "a"), json!({"kind": "cpt"})];
        assert_eq!(miss_reasons(&key(0.2, "a"), &cached), ["optimizer.lr 0.1 -> 0.2"]);
    }

    #[test]
    fn a_changed_parent_is_told_from_a_change_of_its_own() {
        assert_eq!(miss_reasons(&key(0.1, "b"), &[key(0.1, "a")]), ["starts from another result"]);
        assert_eq!(miss_reasons(&key(0.2, "b"), &[key(0.1, "a")]), ["optimizer.lr 0.1 -> 0.2"]);
    }

    #[test]
    fn a_kind_that_never_ran_has_nothing_to_compare_with() {
        assert_eq!(miss_reasons(&key(0.1, "a"), &[json!({"kind": "cpt"})]), ["never run"]);
    }
}
