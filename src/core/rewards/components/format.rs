#![doc = include_str!("docs/format.md")]

use crate::rewards::component::{Kind, Measure};
use crate::rewards::spec::{TAG_RULE, is_tag};
use crate::rewards::table::{At, regular_expression};
use crate::rewards::text::explain::{excerpt, tag_fault};
use crate::rewards::{BuildError, Reward, RewardError, RewardValue, Sample, Scope, Setup, TableContext};
use regex::Regex;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::error::Error;

/// Whether the text has the form that one of `tags`, `pattern` and `json_schema` says.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct FormatTable {
    /// Names of the tags that must occur once each, in this order, closed, with only white space around them.
    #[schemars(length(min = 1))]
    pub tags: Option<Vec<String>>,
    /// `binary`: 1 when all tags are right, else 0; `graded`: the share of the tags that are.
    pub grading: Option<Grading>,
    /// What the tag `answer` may hold, e.g. the letters of the options, in upper or lower case; default: anything.
    #[schemars(length(min = 1))]
    pub answers: Option<Vec<String>>,
    /// Regular expression that the whole text is to match, instead of `tags`.
    pub pattern: Option<String>,
    /// JSON schema that the text is to fulfil, instead of `tags`: a table, or the path of a file.
    #[schemars(
        with = "Option<serde_json::Value>",
        extend("type" = ["string", "object"], "additionalProperties" = true)
    )]
    pub json_schema: Option<toml::Value>,
}

/// The required form of a text.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum FormatSpec {
    /// Tags that each occur once, in order, closed, with only white space between them.
    Tags {
        /// The names of the tags, in order.
        tags: Vec<String>,
        /// The value of a text in which some tags are right.
        grading: Grading,
        /// The permitted texts of the tag `answer`, ignoring case; empty: any text.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        answers: Vec<String>,
    },
    /// A regular expression that matches the whole text.
    Pattern(String),
    /// A JSON schema to which the text, as JSON, conforms.
    JsonSchema(serde_json::Value),
}

impl FormatSpec {
    /// The name of the tag to which `answers` applies.
    pub const ANSWER: &str = "answer";
}

/// What a form is worth that is right in part.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Grading {
    /// 0, unless all tags are right.
    Binary,
    /// The share of the tags that are right.
    Graded,
}

impl Kind for FormatSpec {
    const NAME: &'static str = "format";
    const PAGE: &'static str = include_str!("docs/format.md");
    const DEFAULTS: &'static str = r#"
scope = "completion"
tags = ["think", "answer"] # unless there is a pattern or a json_schema
grading = "binary" # with `tags` only
"#;

    type Table = FormatTable;

    fn trim_defaults(defaults: &mut toml::Table, written: &toml::Table) {
        if ["pattern", "json_schema"].iter().any(|key| written.contains_key(*key)) {
            defaults.remove("tags");
            defaults.remove("grading");
        }
    }

    fn resolve(table: &Self::Table, recipe: &mut dyn TableContext) -> Option<Self> {
        let before = recipe.problems();
        let forms = [
            ("tags", table.tags.is_some()),
            ("pattern", table.pattern.is_some()),
            ("json_schema", table.json_schema.is_some()),
        ];
        let said: Vec<&str> = forms.iter().filter(|(_, is_said)| *is_said).map(|(name, _)| *name).collect();
        if let [first, second, ..] = said[..] {
            let message = format!("`{}` has both `{first}` and `{second}`", recipe.name(At::Table));
            let help = "one of `tags`, `pattern` and `json_schema` says what is right; use two components for two";
            recipe.problem(At::Key(second), message, "a second form", help);
            return None;
        }
        if table.grading.is_some() && table.tags.is_none() {
            let at = At::Key("grading");
            let message = format!("`{}` has no effect without `tags`", recipe.name(at));
            recipe.problem(at, message, "no effect", "a pattern or a schema gives 0 or 1 only");
        }
        if let Some(answers) = &table.answers {
            check_answers(answers, table.tags.as_deref(), recipe);
        }
        let spec = match (&table.tags, &table.pattern, &table.json_schema) {
            (Some(tags), _, _) => tags_fit(tags, recipe).then(|| Self::Tags {
                tags: tags.clone(),
                grading: table.grading.unwrap_or(Grading::Binary),
                answers: table.answers.clone().unwrap_or_default(),
            }),
            (_, Some(pattern), _) => {
                regular_expression(recipe, "pattern", pattern).map(|_| Self::Pattern(pattern.clone()))
            }
            (_, _, Some(schema)) => json_schema(schema, recipe).map(Self::JsonSchema),
            (None, None, None) => None, // the defaults have `tags`, so another form was written and is not valid
        };
        spec.filter(|_| recipe.problems() == before)
    }
}

impl Measure for FormatSpec {
    fn build(&self, _scope: &Scope, _setup: &mut Setup<'_>) -> Result<Box<dyn Reward>, BuildError> {
        Ok(Box::new(Format::new(self).map_err(BuildError::Setting)?))
    }
}

fn check_answers(answers: &[String], tags: Option<&[String]>, recipe: &mut dyn TableContext) {
    let at = At::Key("answers");
    let key = recipe.name(at);
    if !tags.is_some_and(|tags| tags.iter().any(|tag| tag == FormatSpec::ANSWER)) {
        let help = "add `answer` to `tags`; a pattern itself says what is valid where";
        recipe.problem(at, format!("`{key}` has no effect without the tag `answer`"), "no effect", help);
    } else if answers.iter().any(|answer| answer.trim().is_empty()) {
        let help = "leave it out: an empty answer is never valid";
        recipe.problem(at, format!("`{key}` holds an empty answer"), "an empty text", help);
    }
}

fn tags_fit(tags: &[String], recipe: &mut dyn TableContext) -> bool {
    let before = recipe.problems();
    for (index, tag) in tags.iter().enumerate() {
        let at = At::Item("tags", index);
        if !is_tag(tag) {
            recipe.problem(at, format!("`{tag}` is not a valid tag name"), "not a tag's name", TAG_RULE);
        }
        if tags[..index].contains(tag) {
            let message = format!("the tag `{tag}` is listed twice");
            recipe.problem(at, message, "again", "each tag occurs once in a completion");
        }
    }
    recipe.problems() == before
}

/// Returns the JSON schema from a file or from the recipe itself.
fn json_schema(written: &toml::Value, recipe: &mut dyn TableContext) -> Option<serde_json::Value> {
    const KEY: &str = "json_schema";
    let schema = match written {
        toml::Value::String(path) => recipe.json("JSON schema", path, KEY)?,
        table => serde_json::to_value(table).expect("a recipe's numbers are finite"),
    };
    if let Err(error) = jsonschema::validator_for(&schema) {
        let at = At::Key(KEY);
        let message = format!("`{}` is not a valid JSON schema: {error}", recipe.name(at));
        let help = "a schema is like { type = \"object\", required = [\"answer\"] }; it cannot refer to other files";
        recipe.problem(at, message, "not a schema", help);
        return None;
    }
    Some(schema)
}

/// The `format` component.
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

    /// Returns the value of `text`, from 0 to 1.
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
    fn rate(&mut self, samples: &[Sample<'_>], texts: &[Option<&str>]) -> Result<Vec<RewardValue>, RewardError> {
        let value = |text: Option<&str>| text.map_or(0.0, |text| self.value(text));
        Ok(samples.iter().zip(texts).map(|(_, text)| RewardValue::Value(value(*text))).collect())
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
                Err(error) => format!("it is not JSON: {error}"),
            },
        })
    }
}

/// Returns the number of `tags` that are right in `text`; the tag `answer` must also hold one of `answers`, if any.
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

/// Returns the reason why the text inside `<answer>` is not one of `answers`; `None` if it is, or without `answers`.
fn answer_fault(text: &str, answers: &[String]) -> Option<String> {
    let Place { start, end } = place(text, FormatSpec::ANSWER)?;
    let inside = &text[start + "<answer>".len()..end - "</answer>".len()];
    let given = inside.trim().to_lowercase();
    let is_one = answers.is_empty() || answers.contains(&given);
    (!is_one).then(|| format!("<answer> holds {}, which is none of {}", excerpt(inside), answers.join(", ")))
}

/// The position of a tag, in bytes.
#[derive(Clone, Copy)]
struct Place {
    start: usize,
    end: usize,
}

/// Returns the position of `tag`, if it occurs once and is closed.
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

    fn rate_as(grading: Grading, text: &str) -> RewardValue {
        let tags = vec!["think".to_owned(), "answer".to_owned()];
        rate_by(&FormatSpec::Tags { tags, grading, answers: Vec::new() }, text)
    }

    #[test]
    fn an_answer_is_one_of_the_options() {
        let tags = vec!["think".to_owned(), "answer".to_owned()];
        let form =
            |grading| FormatSpec::Tags { tags: tags.clone(), grading, answers: ["A", "B"].map(str::to_owned).to_vec() };
        let rated = |grading, text: &str| rate_by(&form(grading), text);
        assert_eq!(rated(Grading::Binary, "<think>so</think><answer> b </answer>"), RewardValue::Value(1.0));
        let wrong = "<think>so</think><answer>Radiomycosis</answer>";
        assert_eq!(rated(Grading::Binary, wrong), RewardValue::Value(0.0));
        assert_eq!(rated(Grading::Graded, wrong), RewardValue::Value(0.5));
        let told = Format::new(&form(Grading::Binary)).unwrap().explain(&sample(wrong), Some(wrong));
        assert_eq!(told.as_deref(), Some("<answer> holds `Radiomycosis`, which is none of a, b"));
    }

    fn rate_by(spec: &FormatSpec, text: &str) -> RewardValue {
        rate_one(&mut Format::new(spec).unwrap(), sample(text), Some(text))
    }

    fn rate(text: &str) -> RewardValue {
        rate_as(Grading::Binary, text)
    }

    #[test]
    fn every_tag_once_in_order_and_closed_is_right() {
        assert_eq!(rate("<think>a</think><answer>B</answer>"), RewardValue::Value(1.0));
        assert_eq!(rate(" <think>a < b\n</think>\n\n<answer></answer>\n"), RewardValue::Value(1.0));
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
            assert_eq!(rate(wrong), RewardValue::Value(0.0), "{wrong:?}");
            assert_eq!(rate_as(Grading::Graded, wrong), RewardValue::Value(share), "{wrong:?}");
        }
    }

    #[test]
    fn a_pattern_is_matched_by_the_whole_text() {
        let rate = |text| rate_by(&FormatSpec::Pattern(r"\w+: [A-D]|none".to_owned()), text);
        assert_eq!(rate("Answer: B"), RewardValue::Value(1.0));
        assert_eq!(rate("none"), RewardValue::Value(1.0));
        for wrong in ["The answer: B", "Answer: B.", "Answer: B\n", "none of them", ""] {
            assert_eq!(rate(wrong), RewardValue::Value(0.0), "{wrong:?}");
        }
    }

    #[test]
    fn json_has_to_fulfil_its_schema() {
        let schema = json!({
            "type": "object", "required": ["answer"], "additionalProperties": false,
            "properties": { "answer": { "enum": ["A", "B"] }, "confidence": { "type": "number", "maximum": 1 } },
        });
        let rate = |text| rate_by(&FormatSpec::JsonSchema(schema.clone()), text);
        assert_eq!(rate(r#"{"answer": "B", "confidence": 0.5}"#), RewardValue::Value(1.0));
        for wrong in [
            "",
            "B",
            r#"{"answer": "C"}"#,
            r#"{"answer": "B", "why": ""}"#,
            "{}",
            r#"{"answer": "B"} so"#,
            r#"{"answer": "B""#,
        ] {
            assert_eq!(rate(wrong), RewardValue::Value(0.0), "{wrong:?}");
        }
    }

    #[test]
    fn a_part_that_is_not_there_has_no_form() {
        let pattern = &mut Format::new(&FormatSpec::Pattern(".*".to_owned())).unwrap();
        assert_eq!(rate_one(pattern, sample("x"), None), RewardValue::Value(0.0));
    }

    proptest! {
        #[test]
        fn a_grade_lies_between_0_and_1_and_is_1_where_everything_is_right(
            text in "(<think>|</think>|<answer>|</answer>|\\PC| )*",
            right in "<think>[a-z]*</think> *<answer>[a-z]*</answer>( x)?"
        ) {
            for text in [text, right] {
                prop_assert!([RewardValue::Value(0.0), RewardValue::Value(1.0)].contains(&rate(&text)));
                let RewardValue::Value(grade) = rate_as(Grading::Graded, &text) else { panic!("nothing is missing") };
                prop_assert!((0.0..=1.0).contains(&grade));
                prop_assert_eq!(rate(&text) == RewardValue::Value(1.0), grade >= 1.0);
            }
        }

        #[test]
        fn what_is_wrong_has_a_fault_and_nothing_else(text in "(<think>|</think>|<answer>|</answer>|x| ){0,8}") {
            let fault = tag_fault(&text, &["think".to_owned(), "answer".to_owned()]);
            prop_assert_eq!(rate(&text), RewardValue::binary(fault.is_none()), "{:?}", fault);
        }
    }
}
