//! The JSON protocol with a user's program or service: a question about a completion, and the answer.

use crate::rewards::components::judge::shortened;
use crate::rewards::{RewardValue, Sample};
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// The number of characters of each text that an explanation shows.
const SHOWN: usize = 40;

/// The largest absolute value of a reward. A larger one would dominate the mean and the spread of its group.
const LARGEST_VALUE: f64 = 1e6;

/// A completion as it is sent to a program or service.
#[derive(Serialize)]
pub(in crate::rewards) struct RewardQuestion<'a> {
    prompt: &'a str,
    completion: &'a str,
    /// The scope's part of the completion; `null` where it has none.
    text: Option<&'a str>,
    reference: Option<&'a str>,
    answer: Option<&'a str>,
}

impl<'a> RewardQuestion<'a> {
    pub(in crate::rewards) fn new(sample: &Sample<'a>, text: Option<&'a str>) -> Self {
        let Sample { prompt, completion, reference, answer, .. } = *sample;
        Self { prompt, completion, text, reference, answer }
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
