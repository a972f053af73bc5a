#![doc = include_str!("docs/format.md")]

use super::explain::{excerpt, tag_fault};
use super::{Reward, RewardError, Sample, Verdict};
use crate::recipe::spec::{FormatSpec, Grading};
use regex::Regex;
use std::error::Error;

/// The component.
pub(super) enum Format {
    Tags { tags: Vec<String>, grading: Grading, answers: Vec<String> },
    Pattern(Regex),
    JsonSchema(Box<jsonschema::Validator>),
}

impl Format {
    pub(super) fn new(spec: &FormatSpec) -> Result<Self, Box<dyn Error + Send + Sync>> {
        Ok(match spec {
            FormatSpec::Tags { tags, grading, answers } => {
                let answers = answers.iter().map(|answer| answer.trim().to_lowercase()).collect();
                Self::Tags { tags: tags.clone(), grading: *grading, answers }
            }
            FormatSpec::Pattern(pattern) => Self::Pattern(Regex::new(&format!(r"\A(?:{pattern})\z"))?),
            FormatSpec::JsonSchema(schema) => {
                Self::JsonSchema(Box::new(jsonschema::validator_for(schema).map_err(|error| error.to_string())?))
            }
        })
    }

    /// From 0 to 1.
    fn value(&self, text: &str) -> f64 {
        let holds = |holds| f64::from(u8::from(holds));
        match self {
            Self::Tags { tags, grading, answers } => {
                let right = right_tags(text, tags, answers);
                match grading {
                    Grading::Binary => holds(right == tags.len()),
                    Grading::Graded => right as f64 / tags.len() as f64,
                }
            }
            Self::Pattern(pattern) => holds(pattern.is_match(text)),
            Self::JsonSchema(schema) => holds(serde_json::from_str(text).is_ok_and(|value| schema.is_valid(&value))),
        }
    }
}

impl Reward for Format {
    fn rate(&mut self, samples: &[Sample<'_>], texts: &[Option<&str>]) -> Result<Vec<Verdict>, RewardError> {
        let value = |text: Option<&str>| text.map_or(0.0, |text| self.value(text));
        Ok(samples.iter().zip(texts).map(|(_, text)| Verdict::Value(value(*text))).collect())
    }

    fn explain(&mut self, _sample: &Sample<'_>, text: Option<&str>) -> Option<String> {
        let text = text?;
        Some(match self {
            Self::Tags { tags, answers, .. } => tag_fault(text, tags)
                .or_else(|| answer_fault(text, answers))
                .unwrap_or_else(|| "each tag is there once, in order".to_owned()),
            Self::Pattern(pattern) if pattern.is_match(text) => "the pattern matches".to_owned(),
            Self::Pattern(_) => "the pattern does not match the whole text".to_owned(),
            Self::JsonSchema(schema) => match serde_json::from_str(text) {
                Ok(value) => match schema.validate(&value) {
                    Ok(()) => "the schema is fulfilled".to_owned(),
                    Err(error) => format!("the schema is not fulfilled: {error}"),
                },
                Err(error) => format!("it is no JSON: {error}"),
            },
        })
    }
}

/// How many of `tags` are right in `text`, of which `answer` holds one of `answers`, if there are any.
fn right_tags(text: &str, tags: &[String], answers: &[String]) -> usize {
    let places: Vec<Option<Place>> = tags.iter().map(|tag| place(text, tag)).collect();
    let is_blank = |text: &str| text.trim().is_empty();
    let is_right = |(i, place): (usize, &Option<Place>)| {
        let Some(Place { start, end }) = *place else { return false };
        let others = || places.iter().flatten();
        let is_in_order = places[..i].iter().flatten().all(|earlier| earlier.end <= start);
        let end_before = others().map(|other| other.end).filter(|end| *end <= start).max().unwrap_or(0);
        let is_last = others().all(|other| other.start < end);
        let is_answer = tags[i] != FormatSpec::ANSWER || answer_fault(text, answers).is_none();
        is_answer && is_in_order && is_blank(&text[end_before..start]) && (!is_last || is_blank(&text[end..]))
    };
    places.iter().enumerate().filter(|pair| is_right(*pair)).count()
}

/// Why what stands inside `<answer>` is none of `answers`; absent if it is, or if there are none.
fn answer_fault(text: &str, answers: &[String]) -> Option<String> {
    let Place { start, end } = place(text, FormatSpec::ANSWER)?;
    let inside = &text[start + "<answer>".len()..end - "</answer>".len()];
    let given = inside.trim().to_lowercase();
    let is_one = answers.is_empty() || answers.contains(&given);
    (!is_one).then(|| format!("<answer> holds {}, which is none of {}", excerpt(inside), answers.join(", ")))
}

/// Where a tag stands, in bytes.
#[derive(Clone, Copy)]
struct Place {
    start: usize,
    end: usize,
}

/// The place of `tag`, if it stands once and is closed.
fn place(text: &str, tag: &str) -> Option<Place> {
    let only = |part: &str| {
        let mut places = text.match_indices(part).map(|(at, _)| at);
        places.next().filter(|_| places.next().is_none())
    };
    let closing = format!("</{tag}>");
    let (start, end) = (only(&format!("<{tag}>"))?, only(&closing)?);
    (start < end).then_some(Place { start, end: end + closing.len() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rewards::testing::{rate_one, sample};
    use proptest::prelude::*;
    use serde_json::json;

    fn rate_as(grading: Grading, text: &str) -> Verdict {
        let tags = vec!["think".to_owned(), "answer".to_owned()];
        rate_by(&FormatSpec::Tags { tags, grading, answers: Vec::new() }, text)
    }

    #[test]
    fn an_answer_is_one_of_the_options() {
        let tags = vec!["think".to_owned(), "answer".to_owned()];
        let form =
            |grading| FormatSpec::Tags { tags: tags.clone(), grading, answers: ["A", "B"].map(str::to_owned).to_vec() };
        let rated = |grading, text: &str| rate_by(&form(grading), text);
        assert_eq!(rated(Grading::Binary, "<think>so</think><answer> b </answer>"), Verdict::Value(1.0));
        let wrong = "<think>so</think><answer>Radiomycosis</answer>";
        assert_eq!(rated(Grading::Binary, wrong), Verdict::Value(0.0));
        assert_eq!(rated(Grading::Graded, wrong), Verdict::Value(0.5));
        let told = Format::new(&form(Grading::Binary)).unwrap().explain(&sample(wrong), Some(wrong));
        assert_eq!(told.as_deref(), Some("<answer> holds `Radiomycosis`, which is none of a, b"));
    }

    fn rate_by(spec: &FormatSpec, text: &str) -> Verdict {
        rate_one(&mut Format::new(spec).unwrap(), sample(text), Some(text))
    }

    fn rate(text: &str) -> Verdict {
        rate_as(Grading::Binary, text)
    }

    #[test]
    fn every_tag_once_in_order_and_closed_is_right() {
        assert_eq!(rate("<think>a</think><answer>B</answer>"), Verdict::Value(1.0));
        assert_eq!(rate(" <think>a < b\n</think>\n\n<answer></answer>\n"), Verdict::Value(1.0));
    }

    #[test]
    fn anything_else_is_wrong_or_partly_right() {
        for (wrong, share) in [
            ("", 0.0),
            ("B", 0.0),
            ("<think>a</think>", 0.5),
            ("<answer>B</answer>", 0.5),
            ("<answer>B</answer><think>a</think>", 0.5),
            ("<think>a<answer>B</answer></think>", 0.5),
            ("<think>a</think> so <answer>B</answer>", 0.5),
            ("so <think>a</think><answer>B</answer>", 0.5),
            ("<think>a</think><answer>B</answer> and more", 0.5),
            ("so <think>a</think> so <answer>B</answer>", 0.0),
            ("<think>a</think><answer>B", 0.0),
            ("<think>a</think>\n<answer>B</answer><answer>C</answer>", 0.0),
            ("<think><think>a</think><answer>B</answer>", 0.0),
            ("<think>a</think></think><answer>B</answer>", 0.0),
            ("<Think>a</Think><answer>B</answer>", 0.0),
            ("</think>a<think> <answer>B</answer>", 0.0),
        ] {
            assert_eq!(rate(wrong), Verdict::Value(0.0), "{wrong:?}");
            assert_eq!(rate_as(Grading::Graded, wrong), Verdict::Value(share), "{wrong:?}");
        }
    }

    #[test]
    fn a_pattern_is_matched_by_the_whole_text() {
        let rate = |text| rate_by(&FormatSpec::Pattern(r"\w+: [A-D]|none".to_owned()), text);
        assert_eq!(rate("Answer: B"), Verdict::Value(1.0));
        assert_eq!(rate("none"), Verdict::Value(1.0));
        for wrong in ["The answer: B", "Answer: B.", "Answer: B\n", "none of them", ""] {
            assert_eq!(rate(wrong), Verdict::Value(0.0), "{wrong:?}");
        }
    }

    #[test]
    fn json_has_to_fulfil_its_schema() {
        let schema = json!({
            "type": "object", "required": ["answer"], "additionalProperties": false,
            "properties": { "answer": { "enum": ["A", "B"] }, "confidence": { "type": "number", "maximum": 1 } },
        });
        let rate = |text| rate_by(&FormatSpec::JsonSchema(schema.clone()), text);
        assert_eq!(rate(r#"{"answer": "B", "confidence": 0.5}"#), Verdict::Value(1.0));
        for wrong in [
            "",
            "B",
            r#"{"answer": "C"}"#,
            r#"{"answer": "B", "why": ""}"#,
            "{}",
            r#"{"answer": "B"} so"#,
            r#"{"answer": "B""#,
        ] {
            assert_eq!(rate(wrong), Verdict::Value(0.0), "{wrong:?}");
        }
    }

    #[test]
    fn a_part_that_is_not_there_has_no_form() {
        let pattern = &mut Format::new(&FormatSpec::Pattern(".*".to_owned())).unwrap();
        assert_eq!(rate_one(pattern, sample("x"), None), Verdict::Value(0.0));
    }

    proptest! {
        #[test]
        fn a_grade_lies_between_0_and_1_and_is_1_where_everything_is_right(
            text in "(<think>|</think>|<answer>|</answer>|\\PC| )*",
            right in "<think>[a-z]*</think> *<answer>[a-z]*</answer>( x)?"
        ) {
            for text in [text, right] {
                prop_assert!([Verdict::Value(0.0), Verdict::Value(1.0)].contains(&rate(&text)));
                let Verdict::Value(grade) = rate_as(Grading::Graded, &text) else { panic!("nothing is missing") };
                prop_assert!((0.0..=1.0).contains(&grade));
                prop_assert_eq!(rate(&text) == Verdict::Value(1.0), grade >= 1.0);
            }
        }

        #[test]
        fn what_is_wrong_has_a_fault_and_nothing_else(text in "(<think>|</think>|<answer>|</answer>|x| ){0,8}") {
            let fault = tag_fault(&text, &["think".to_owned(), "answer".to_owned()]);
            prop_assert_eq!(rate(&text), Verdict::binary(fault.is_none()), "{:?}", fault);
        }
    }
}
