//! The JSON protocol with a user's program or service: a question about a completion, and the answer.

use crate::rewards::components::judge::shortened;
use crate::rewards::{BuildError, ReadRows, RewardValue, RowFields, Sample};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// The number of characters of each text that an explanation shows.
const SHOWN: usize = 40;

/// The largest absolute value of a reward. A larger one would dominate the mean and the spread of its group.
const LARGEST_VALUE: f64 = 1e6;

/// The most named numbers in an answer.
const MOST_METRICS: usize = 32;
/// The most characters of the name of a number.
const LONGEST_NAME: usize = 40;

/// What a question has on request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Sent {
    /// All fields of the row.
    Row,
    /// The training step.
    Step,
    /// The completions of the same row that are rated together, and the place of this one among them.
    Group,
}

/// Returns `sent` in one order and each once, since the order does not change a question.
pub(in crate::rewards) fn in_order(sent: &[Sent]) -> Vec<Sent> {
    sent.iter().copied().collect::<BTreeSet<Sent>>().into_iter().collect()
}

/// What the questions of a component have besides texts.
#[derive(Default)]
pub(in crate::rewards) struct Extras {
    send: Vec<Sent>,
    /// The fields of rows; absent if they are not sent.
    rows: Option<Arc<RowFields>>,
    step: Option<u64>,
}

impl Extras {
    /// Reads the rows if they are sent.
    pub(in crate::rewards) fn new(send: &[Sent], rows: &ReadRows<'_>) -> Result<Self, BuildError> {
        let rows = send.contains(&Sent::Row).then(rows).transpose().map_err(BuildError::Rows)?;
        Ok(Self { send: send.to_vec(), rows, step: None })
    }

    fn row(&self, sample: &Sample<'_>) -> Option<&Value> {
        self.rows.as_ref()?.get(sample.row?)
    }

    pub(in crate::rewards) fn set_step(&mut self, step: u64) {
        self.step = Some(step);
    }

    /// Returns the questions of a batch.
    pub(in crate::rewards) fn questions<'a>(
        &'a self,
        samples: &[Sample<'a>],
        texts: &[Option<&'a str>],
    ) -> Vec<RewardQuestion<'a>> {
        let mut questions: Vec<RewardQuestion<'a>> =
            samples.iter().zip(texts).map(|(sample, text)| RewardQuestion::new(sample, *text)).collect();
        let sends = |what: Sent| self.send.contains(&what);
        for (question, sample) in questions.iter_mut().zip(samples) {
            question.row = sends(Sent::Row).then(|| self.row(sample).unwrap_or(&Value::Null));
            question.step = sends(Sent::Step).then(|| Value::from(self.step));
        }
        if sends(Sent::Group) {
            let mut start = 0;
            for group in samples.chunk_by(|a, b| of_row(a) == of_row(b)) {
                let completions: Vec<&str> = group.iter().map(|sample| sample.completion).collect();
                for (index, question) in questions[start..start + group.len()].iter_mut().enumerate() {
                    question.group = Some(Group { index, completions: completions.clone() });
                }
                start += group.len();
            }
        }
        questions
    }
}

/// Returns what the samples of one row share.
fn of_row<'a>(sample: &Sample<'a>) -> (&'a str, Option<&'a str>, Option<&'a str>, Option<&'a str>) {
    (sample.prompt, sample.reference, sample.answer, sample.row)
}

/// The completions of a row that are rated together.
#[derive(Serialize)]
struct Group<'a> {
    index: usize,
    completions: Vec<&'a str>,
}

/// A completion as it is sent to a program or service.
#[derive(Serialize)]
pub(in crate::rewards) struct RewardQuestion<'a> {
    prompt: &'a str,
    completion: &'a str,
    /// The scope's part of the completion; `null` where it has none.
    text: Option<&'a str>,
    reference: Option<&'a str>,
    answer: Option<&'a str>,
    /// The row's fields; `null` for a text without a row.
    #[serde(skip_serializing_if = "Option::is_none")]
    row: Option<&'a Value>,
    /// The step; `null` where there is none.
    #[serde(skip_serializing_if = "Option::is_none")]
    step: Option<Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    group: Option<Group<'a>>,
}

impl<'a> RewardQuestion<'a> {
    /// The question with nothing but texts.
    pub(in crate::rewards) fn new(sample: &Sample<'a>, text: Option<&'a str>) -> Self {
        let Sample { prompt, completion, reference, answer, .. } = *sample;
        Self { prompt, completion, text, reference, answer, row: None, step: None, group: None }
    }
}

impl RewardQuestion<'_> {
    /// The question as JSON for display, with long texts truncated.
    pub(in crate::rewards) fn shown(&self) -> String {
        let mut shown = serde_json::to_value(self).expect("a question serializes");
        for (_, text) in shown.as_object_mut().into_iter().flatten() {
            if let Value::String(text) = text
                && let Some((end, _)) = text.char_indices().nth(SHOWN)
            {
                text.truncate(end);
                text.push('…');
            }
        }
        format!("`{shown}`")
    }
}

#[derive(Deserialize)]
struct ServiceReply {
    value: Option<f64>,
    missing: Option<String>,
}

/// Parses an answer: `{"value": number}` or `{"missing": "why"}`, ignoring other fields. All else is an error.
pub(in crate::rewards) fn verdict(answer: &Value) -> Result<RewardValue, String> {
    match ServiceReply::deserialize(answer) {
        Ok(ServiceReply { value: Some(value), missing: None }) if value.abs() <= LARGEST_VALUE => {
            Ok(RewardValue::Value(value))
        }
        Ok(ServiceReply { value: Some(value), missing: None }) if value.is_finite() => {
            Ok(RewardValue::Missing(format!("its value {value:e} is outside ±{LARGEST_VALUE}")))
        }
        Ok(ServiceReply { value: None, missing: Some(reason) }) => Ok(RewardValue::Missing(reason)),
        _ => Err(no_answer(&answer.to_string())),
    }
}

/// Returns the named numbers in an answer's `metrics`; the error says why they cannot be used.
pub(in crate::rewards) fn metrics(answer: &Value) -> Result<BTreeMap<String, f64>, String> {
    let Some(metrics) = answer.get("metrics") else { return Ok(BTreeMap::new()) };
    let is_name = |name: &str| {
        let is_part = |c: char| c.is_ascii_alphanumeric() || c == '_';
        name.starts_with(|c: char| c.is_ascii_alphabetic()) && name.len() <= LONGEST_NAME && name.chars().all(is_part)
    };
    let Some(metrics) = metrics.as_object() else { return Err("its `metrics` are not an object".to_owned()) };
    if metrics.len() > MOST_METRICS {
        return Err(format!("its `metrics` have {} names, more than {MOST_METRICS}", metrics.len()));
    }
    let read = |(name, value): (&String, &Value)| match value.as_f64() {
        Some(value) if is_name(name) => Ok((name.clone(), value)),
        Some(_) => Err(format!("{} in its `metrics` is not a name of letters, digits and `_`", shortened(name))),
        None => Err(format!("{} in its `metrics` is not a number", shortened(name))),
    };
    metrics.iter().map(read).collect()
}

/// Parses the text of an answer with [`verdict`].
pub(in crate::rewards) fn verdict_of_text(answer: &str) -> Result<RewardValue, String> {
    serde_json::from_str(answer).map_err(|_| no_answer(answer)).and_then(|answer| verdict(&answer))
}

fn no_answer(text: &str) -> String {
    format!("its answer is not {{\"value\": number}} or {{\"missing\": \"why\"}}: {}", shortened(text))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rewards::testing::sample;
    use proptest::prelude::*;

    #[test]
    fn a_question_has_all_fields_and_null_for_what_is_not_there() {
        let rated = Sample { prompt: "Q\n", reference: Some("r"), ..sample("<answer>B</answer>") };
        let question = serde_json::to_string(&RewardQuestion::new(&rated, Some("B"))).unwrap();
        let written = r#"{"prompt":"Q\n","completion":"<answer>B</answer>","text":"B","reference":"r","answer":null}"#;
        assert_eq!(question, written);
        assert!(serde_json::to_string(&RewardQuestion::new(&rated, None)).unwrap().contains(r#""text":null"#));
    }

    #[test]
    fn a_person_is_shown_the_beginnings_of_texts() {
        let long = "ä".repeat(50);
        let rated = Sample { answer: Some("B"), ..sample(&long) };
        let cut = "ä".repeat(40) + "…";
        let shown =
            format!("`{{\"prompt\":\"\",\"completion\":\"{cut}\",\"text\":null,\"reference\":null,\"answer\":\"B\"}}`");
        assert_eq!(RewardQuestion::new(&rated, None).shown(), shown);
    }

    #[test]
    fn a_number_is_a_value_and_a_reason_is_missing() {
        assert_eq!(verdict_of_text(r#"{"value": -2.5, "note": "bad"}"#), Ok(RewardValue::Value(-2.5)));
        assert_eq!(verdict_of_text(r#" {"missing": "no key"} "#), Ok(RewardValue::Missing("no key".to_owned())));
    }

    #[test]
    fn anything_else_is_no_answer() {
        let others = [
            "",
            "1",
            "[]",
            "{}",
            r#"{"value": NaN}"#,
            r#"{"value": Infinity}"#,
            r#"{"value": 1e999}"#,
            r#"{"value": "1"}"#,
            r#"{"value": true}"#,
            r#"{"value": null}"#,
            r#"{"value": 1, "missing": "but"}"#,
            r#"{"missing": 1}"#,
            r#"{"value": 1"#,
            r#"{"score": 1}"#,
        ];
        for other in others {
            let reason = verdict_of_text(other).unwrap_err();
            assert!(reason.starts_with("its answer is not {\"value\": number}"), "{other}: {reason}");
        }
    }

    #[test]
    fn rows_steps_and_groups_are_sent_on_request() {
        let rows = RowFields::from([("r1".to_owned(), serde_json::json!({"level": 3}))]);
        let rows = Arc::new(rows);
        let read = || Ok(Arc::clone(&rows));
        let mut extras = Extras::new(&[Sent::Row, Sent::Step, Sent::Group], &read).unwrap();
        let of = |completion, row| Sample { row, ..sample(completion) };
        let samples = [of("a", Some("r1")), of("b", Some("r1")), of("c", Some("r2"))];
        let asked = |extras: &Extras| {
            let questions = extras.questions(&samples, &[Some("a"), None, Some("c")]);
            questions.iter().map(|question| serde_json::to_value(question).unwrap()).collect::<Vec<Value>>()
        };
        let found = asked(&extras);
        assert_eq!(found[0]["row"], serde_json::json!({"level": 3}));
        assert_eq!(found[0]["group"], serde_json::json!({"index": 0, "completions": ["a", "b"]}));
        assert_eq!(found[1]["group"]["index"], 1);
        assert_eq!(found[2]["group"], serde_json::json!({"index": 0, "completions": ["c"]}));
        for question in &found {
            assert_eq!(question.get("step"), Some(&Value::Null));
        }
        assert_eq!(found[2].get("row"), Some(&Value::Null), "the row is not known");
        extras.set_step(7);
        assert_eq!(asked(&extras)[2]["step"], 7);
    }

    #[test]
    fn numbers_in_an_answer_have_names() {
        let read = |text: &str| metrics(&serde_json::from_str(text).unwrap());
        assert_eq!(read(r#"{"value": 1}"#), Ok(BTreeMap::new()));
        let two = BTreeMap::from([("all".to_owned(), 1.0), ("n_1".to_owned(), -2.5)]);
        assert_eq!(read(r#"{"value": 1, "metrics": {"all": 1, "n_1": -2.5}}"#), Ok(two));
        for (text, reason) in [
            (r#"{"metrics": [1]}"#, "not an object"),
            (r#"{"metrics": {"a": "b"}}"#, "`a` in its `metrics` is not a number"),
            (r#"{"metrics": {"a": null}}"#, "is not a number"),
            (r#"{"metrics": {"a/b": 1}}"#, "is not a name"),
            (r#"{"metrics": {"": 1}}"#, "is not a name"),
        ] {
            assert!(read(text).unwrap_err().contains(reason), "{text}");
        }
    }

    #[test]
    fn a_number_that_cannot_be_meant_is_missing() {
        for value in ["1e308", "-1e308", "1000001", "-3.5e38"] {
            let Ok(RewardValue::Missing(reason)) = verdict_of_text(&format!(r#"{{"value": {value}}}"#)) else {
                panic!("{value}")
            };
            assert!(reason.contains("is outside ±1000000"), "{reason}");
        }
    }

    proptest! {
        #[test]
        fn no_text_gives_a_value_that_is_not_finite(text in r#"(\{"value": ?|-|[0-9]{1,4}|e[0-9]{1,3}|\.|NaN|\}|\PC)*"#) {
            if let Ok(RewardValue::Value(value)) = verdict_of_text(&text) {
                prop_assert!(value.is_finite());
            }
        }

        #[test]
        fn every_number_that_can_be_meant_comes_through(value in -LARGEST_VALUE..=LARGEST_VALUE) {
            let text = serde_json::json!({"value": value}).to_string();
            let Ok(RewardValue::Value(read)) = verdict_of_text(&text) else { panic!("{text}") };
            prop_assert!((read - value).abs() <= value.abs() * 1e-15);
        }
    }
}
