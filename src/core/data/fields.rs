//! The texts of a row: the strings in the fields that the templates of its data set name.
//!
//! Words that a template adds to every row are not among them, so two data sets with the same instructions have no text
//! in common because of these.

use crate::recipe::spec::{DataSpec, Templates, TextUse};
use serde_json::{Map, Value};
use std::collections::BTreeSet;

/// The places of a row's texts, as dotted names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TextFields(BTreeSet<String>);

impl TextFields {
    /// Returns the fields of a data set that is put to this use.
    pub fn of(data: &DataSpec, used: TextUse) -> Self {
        let Templates { system, prompt, completion, reference, answer, text } = &data.templates;
        let templates: Vec<&Option<String>> = match used {
            TextUse::Documents => vec![text],
            TextUse::Conversations => vec![system, prompt, completion],
            TextUse::Questions => vec![prompt, completion, reference, answer],
        };
        let mut fields: BTreeSet<String> = templates.into_iter().flatten().flat_map(|text| named_in(text)).collect();
        match (used, &data.messages, text) {
            (TextUse::Documents, _, None) => {
                fields.insert("text".to_owned());
            }
            (TextUse::Conversations | TextUse::Questions, Some(messages), _) => {
                fields.insert(messages.clone());
            }
            _ => {}
        }
        Self(fields)
    }

    /// Calls `take` with each text of a row.
    pub fn each<'a>(&self, row: &'a Map<String, Value>, take: &mut dyn FnMut(&'a str)) {
        for name in &self.0 {
            if let Some(value) = row.get(name) {
                strings(value, take);
                continue;
            }
            let mut parts = name.split('.');
            let Some(mut value) = parts.next().and_then(|first| row.get(first)) else { continue };
            for part in parts {
                // beyond a text or a list, the name is that of a method or of a loop's variable
                match value.get(part) {
                    Some(below) => value = below,
                    None => break,
                }
            }
            strings(value, take);
        }
    }
}

/// Returns the fields that a template names. A template that is invalid, which was reported, names none.
fn named_in(template: &str) -> BTreeSet<String> {
    let environment = minijinja::Environment::new();
    let Ok(template) = environment.template_from_str(template) else { return BTreeSet::new() };
    let nested: BTreeSet<String> = template.undeclared_variables(true).into_iter().collect();
    // a name whose beginning is named as a whole adds nothing
    let is_below = |name: &str| name.match_indices('.').any(|(end, _)| nested.contains(&name[..end]));
    nested.iter().filter(|name| !is_below(name)).cloned().collect()
}

fn strings<'a>(value: &'a Value, take: &mut dyn FnMut(&'a str)) {
    match value {
        Value::String(text) => take(text),
        Value::Array(items) => items.iter().for_each(|item| strings(item, take)),
        Value::Object(fields) => fields.values().for_each(|item| strings(item, take)),
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::recipe::spec::{Selection, Split};
    use serde_json::json;

    fn texts(templates: Templates, messages: Option<&str>, used: TextUse, row: &Value) -> Vec<String> {
        let data = DataSpec {
            files: Vec::new(),
            eval_fraction: 0.0,
            dev_fraction: 0.0,
            split: Split::All,
            max_rows: None,
            messages: messages.map(str::to_owned),
            templates,
            selection: Selection::default(),
            decontaminate: None,
        };
        let mut found = Vec::new();
        TextFields::of(&data, used).each(row.as_object().unwrap(), &mut |text| found.push(text.to_owned()));
        found
    }

    #[test]
    fn only_what_the_row_contributes_to_a_template_is_its_text() {
        let row = json!({
            "question": "Which organ?", "options": {"A": "heart", "B": "liver"}, "meta": {"source": "x", "why": "pumps"},
            "answer": "A", "unused": "nothing",
        });
        let templates = Templates {
            prompt: Some(
                "Answer: {{ question }}{% for k, v in options|items %}{{ k }}) {{ v }}{% endfor %}".to_owned(),
            ),
            completion: Some("{{ meta.why }} {{ answer }}".to_owned()),
            reference: Some("{{ meta.why }}".to_owned()),
            text: Some("{{ unused }}".to_owned()),
            ..Templates::default()
        };
        let found = |used| texts(templates.clone(), None, used, &row);
        assert_eq!(found(TextUse::Conversations), ["A", "pumps", "heart", "liver", "Which organ?"]);
        assert_eq!(found(TextUse::Questions), found(TextUse::Conversations));
        assert_eq!(found(TextUse::Documents), ["nothing"]);
        assert_eq!(texts(Templates::default(), None, TextUse::Documents, &json!({"text": "a", "b": "c"})), ["a"]);
    }

    #[test]
    fn messages_and_whole_objects_are_read_to_their_ends() {
        let row = json!({"turns": [{"role": "user", "content": "Why?"}, {"role": "assistant", "content": "So."}]});
        let found = texts(Templates::default(), Some("turns"), TextUse::Conversations, &row);
        assert_eq!(found, ["user", "Why?", "assistant", "So."]);
        let prompt = |text: &str| Templates { prompt: Some(text.to_owned()), ..Templates::default() };
        let row = json!({"q": {"text": "Why?", "id": 3}, "a.b": "dotted"});
        assert_eq!(texts(prompt("{{ q.text }}{{ q }}"), None, TextUse::Questions, &row), ["Why?"]);
        assert_eq!(texts(prompt("{{ q.text.upper() }}"), None, TextUse::Questions, &row), ["Why?"]);
        assert_eq!(texts(prompt("always the same"), None, TextUse::Questions, &row), [""; 0]);
    }
}
