#![doc = include_str!("docs/length.md")]

use crate::rewards::component::{Kind, Measure};
use crate::rewards::table::At;
use crate::rewards::text::explain::wanted;
use crate::rewards::{BuildError, Reward, RewardError, RewardValue, Sample, Scope, Setup, TableContext};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::fmt::Write as _;

/// 1 for a text within a range of words, falling in a straight line to 0 outside, and 0 where the text is not there.
/// What a completion loses near `max_new_tokens`, in tokens, is the stage's `overlong_buffer_tokens`.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct LengthTable {
    /// Fewest words of value 1; default: no limit, if there is `max_words`.
    #[schemars(range(min = 1))]
    pub min_words: Option<usize>,
    /// Most words of value 1; default: no limit, if there is `min_words`.
    #[schemars(range(min = 1))]
    pub max_words: Option<usize>,
    /// This many words outside the range, the value is 0; with 0 or 1, every text outside is 0.
    pub tolerance_words: Option<usize>,
    /// A range relative to the words of the row's reference, such as `{ min = 0.8, max = 1.2, tolerance = 0.4 }`,
    /// instead of the three keys above.
    pub of_reference: Option<OfReference>,
}

/// A range of words relative to the reference (arXiv:2511.21270).
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct OfReference {
    /// Fewest words of value 1, as a share of the reference's; default: no limit, if there is `max`.
    #[schemars(range(min = 0))]
    pub min: Option<f64>,
    /// Most words of value 1, as a share of the reference's; default: no limit, if there is `min`.
    #[schemars(range(min = 0))]
    pub max: Option<f64>,
    /// This share of the reference's words outside the range, the value is 0; default: 0, every text outside is 0.
    #[schemars(range(min = 0))]
    #[serde(default)]
    pub tolerance: f64,
}

/// The range of words, with its settings.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LengthSpec {
    /// The fewest words of value 1.
    pub min_words: Option<usize>,
    /// The most words of value 1.
    pub max_words: Option<usize>,
    /// The number of words outside the range from which on the value is 0.
    pub tolerance_words: usize,
    /// The range relative to the reference, in which case the fields above are empty.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub of_reference: Option<OfReference>,
}

impl Kind for LengthSpec {
    const NAME: &'static str = "length";
    const PAGE: &'static str = include_str!("docs/length.md");
    const DEFAULTS: &'static str = r#"
scope = "explanation" # as `rouge`, whose recall it keeps honest
"#;

    type Table = LengthTable;

    fn needed(table: &Self::Table) -> Option<&'static str> {
        table.of_reference.map(|_| "reference")
    }

    fn resolve(table: &Self::Table, recipe: &mut dyn TableContext) -> Option<Self> {
        let LengthTable { min_words, max_words, tolerance_words, of_reference } = *table;
        let help = "give `min_words`, `max_words` or both, or `of_reference`";
        let (at, message, label, help) = match (min_words, max_words, of_reference) {
            (None, None, Some(OfReference { min: None, max: None, .. })) => {
                let at = At::Key("of_reference");
                (at, format!("`{}` has no range", recipe.name(at)), "every length is 1", "give `min`, `max` or both")
            }
            (None, None, Some(OfReference { min: Some(min), max: Some(max), .. })) if min > max => {
                let message = format!("`max` ({max}) is less than `min` ({min})");
                (At::Key("of_reference"), message, "no range", "give `min`, `max` or both")
            }
            (None, None, Some(of_reference)) if tolerance_words.is_none() => {
                return Some(Self { min_words, max_words, tolerance_words: 0, of_reference: Some(of_reference) });
            }
            (_, _, Some(_)) => {
                let message = format!("`{}` has two ranges", recipe.name(At::Table));
                let help = "leave out `min_words`, `max_words` and `tolerance_words`, or `of_reference`";
                (At::Key("of_reference"), message, "a range of its own, with a `tolerance`", help)
            }
            (Some(min), Some(max), None) if min > max => {
                let message = format!("`max_words` ({max}) is less than `min_words` ({min})");
                (At::Key("max_words"), message, "no range", help)
            }
            (None, None, None) => {
                (At::Table, format!("`{}` has no range", recipe.name(At::Table)), "every length is 1", help)
            }
            _ => {
                if let Some(tolerance_words) = tolerance_words {
                    return Some(Self { min_words, max_words, tolerance_words, of_reference });
                }
                let message = format!("`{}` is missing the key `tolerance_words`", recipe.name(At::Table));
                let help = "this many words outside the range, the value is 0; with 0 or 1, every text outside is 0";
                (At::Table, message, "needs the key `tolerance_words`", help)
            }
        };
        recipe.problem(at, message, label, help);
        None
    }
}

impl Measure for LengthSpec {
    fn build(&self, _scope: &Scope, _setup: &mut Setup<'_>) -> Result<Box<dyn Reward>, BuildError> {
        Ok(Box::new(Length { spec: *self }))
    }

    fn needs(&self) -> Option<&'static str> {
        self.of_reference.map(|_| "reference")
    }

    fn compares_with_the_row(&self) -> bool {
        self.of_reference.is_some()
    }
}

/// The `length` component. A completion without the text has the value 0, whatever the range.
pub(super) struct Length {
    pub(super) spec: LengthSpec,
}

impl Reward for Length {
    fn rate(&mut self, samples: &[Sample<'_>], texts: &[Option<&str>]) -> Result<Vec<RewardValue>, RewardError> {
        let verdict = |(sample, text): (&Sample<'_>, Option<&str>)| {
            let words = text.map(count);
            match self.spec.of_reference {
                None => RewardValue::Value(words.map_or(0.0, |words| self.value(words))),
                Some(range) => match sample.reference.map(count) {
                    None => RewardValue::Missing("the row has no reference".to_owned()),
                    Some(0) => RewardValue::Missing("the row's reference has no words".to_owned()),
                    Some(reference) => RewardValue::Value(words.map_or(0.0, |words| range.value(words, reference))),
                },
            }
        };
        Ok(samples.iter().zip(texts.iter().copied()).map(verdict).collect())
    }

    fn explain(&mut self, sample: &Sample<'_>, text: Option<&str>) -> Option<String> {
        let words = count(text?);
        if let Some(range) = self.spec.of_reference {
            let reference = count(sample.reference?);
            return Some(format!("{words} words, {} the {reference} of the reference are wanted", range.wanted()));
        }
        let LengthSpec { min_words, max_words, tolerance_words, .. } = self.spec;
        let mut text = format!("{words} words, {} are wanted", wanted(min_words, max_words));
        if tolerance_words > 1 && self.value(words) < 1.0 {
            write!(text, "; {tolerance_words} words outside, the value is 0").expect("a string takes everything");
        }
        Some(text)
    }
}

impl Length {
    fn value(&self, words: usize) -> f64 {
        let LengthSpec { min_words, max_words, tolerance_words, .. } = self.spec;
        let too_few = min_words.map_or(0, |min| min.saturating_sub(words));
        let too_many = max_words.map_or(0, |max| words.saturating_sub(max));
        match too_few.max(too_many) {
            0 => 1.0,
            outside if outside < tolerance_words => 1.0 - outside as f64 / tolerance_words as f64,
            _ => 0.0,
        }
    }
}

/// The share by which a ratio of words may miss a bound: 11 words are 1.1 times 10, whose product rounds otherwise.
const ROUNDING: f64 = 1e-9;

impl OfReference {
    /// Returns the value of a text of this many `words`, for a reference of this many.
    fn value(&self, words: usize, reference: usize) -> f64 {
        let ratio = words as f64 / reference as f64;
        let too_few = self.min.map_or(0.0, |min| min - ratio);
        let too_many = self.max.map_or(0.0, |max| ratio - max);
        match too_few.max(too_many) {
            outside if outside <= ROUNDING => 1.0,
            outside if outside < self.tolerance => 1.0 - outside / self.tolerance,
            _ => 0.0,
        }
    }

    fn wanted(&self) -> String {
        match (self.min, self.max) {
            (Some(min), Some(max)) => format!("{min} to {max} times"),
            (Some(min), None) => format!("at least {min} times"),
            (None, Some(max)) => format!("at most {max} times"),
            (None, None) => "any number of times".to_owned(),
        }
    }
}

/// Returns the number of words: runs without white space that contain a letter or a digit, as in `cot`.
fn count(text: &str) -> usize {
    text.split_whitespace().filter(|word| word.contains(char::is_alphanumeric)).count()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rewards::testing::{rate_one, sample};
    use proptest::prelude::*;

    fn words_spec(min_words: Option<usize>, max_words: Option<usize>, tolerance_words: usize) -> LengthSpec {
        LengthSpec { min_words, max_words, tolerance_words, of_reference: None }
    }

    fn rate(range: (Option<usize>, Option<usize>), tolerance_words: usize, text: Option<&str>) -> f64 {
        let (min_words, max_words) = range;
        let mut length = Length { spec: words_spec(min_words, max_words, tolerance_words) };
        match rate_one(&mut length, sample(""), text) {
            RewardValue::Value(value) => value,
            RewardValue::Missing(reason) => panic!("{reason}"),
        }
    }

    fn of(words: usize) -> String {
        vec!["word,"; words].join(" ")
    }

    #[test]
    fn the_value_falls_to_0_on_both_sides_of_the_range() {
        let at = |words| Some(rate((Some(10), Some(20)), 4, Some(&of(words))));
        assert_eq!([10, 15, 20].map(at), [Some(1.0); 3]);
        assert_eq!([9, 8, 7, 6, 5, 0].map(at), [0.75, 0.5, 0.25, 0.0, 0.0, 0.0].map(Some));
        assert_eq!([21, 22, 23, 24, 25, 90].map(at), [0.75, 0.5, 0.25, 0.0, 0.0, 0.0].map(Some));
    }

    #[test]
    fn without_tolerance_the_edges_are_hard_and_a_side_may_be_open() {
        let at = |words| Some(rate((None, Some(2)), 0, Some(&of(words))));
        assert_eq!([0, 2, 3].map(at), [1.0, 1.0, 0.0].map(Some));
        let at = |words| Some(rate((Some(2), None), 2, Some(&of(words))));
        assert_eq!([0, 1, 2, 500].map(at), [0.0, 0.5, 1.0, 1.0].map(Some));
    }

    #[test]
    fn punctuation_is_no_word_and_a_tag_that_is_not_there_is_0() {
        assert_eq!(rate((Some(3), None), 0, Some("one - two !\n... three")).to_string(), "1");
        assert_eq!(rate((None, Some(3)), 0, None).to_string(), "0");
    }

    #[test]
    fn an_explanation_counts_and_names_the_range() {
        let mut length = Length { spec: words_spec(Some(3), Some(5), 4) };
        let mut explain = |text: Option<&str>| length.explain(&sample(""), text);
        assert_eq!(explain(Some("one two three")).as_deref(), Some("3 words, 3 to 5 are wanted"));
        let outside = "2 words, 3 to 5 are wanted; 4 words outside, the value is 0";
        assert_eq!(explain(Some("one - two")).as_deref(), Some(outside));
        assert_eq!(explain(None), None);
    }

    fn relative(min: Option<f64>, max: Option<f64>, tolerance: f64) -> Length {
        let of_reference = Some(OfReference { min, max, tolerance });
        Length { spec: LengthSpec { of_reference, ..words_spec(None, None, 0) } }
    }

    fn rate_relative(mut length: Length, reference: usize, words: usize) -> f64 {
        let (reference, text) = (of(reference), of(words));
        match rate_one(&mut length, Sample { reference: Some(&reference), ..sample("") }, Some(&text)) {
            RewardValue::Value(value) => value,
            RewardValue::Missing(reason) => panic!("{reason}"),
        }
    }

    #[test]
    fn a_relative_range_without_tolerance_is_the_indicator_of_the_paper() {
        let at = |words| Some(rate_relative(relative(Some(0.8), Some(1.2), 0.0), 50, words));
        assert_eq!([39, 40, 50, 60, 61].map(at), [0.0, 1.0, 1.0, 1.0, 0.0].map(Some));
        // 1.1 * 10 is above 11 and 0.7 * 10 below 7 in binary
        let at = |words| Some(rate_relative(relative(Some(1.1), Some(1.1), 0.0), 10, words));
        assert_eq!([10, 11, 12].map(at), [0.0, 1.0, 0.0].map(Some));
        let at = |words| Some(rate_relative(relative(None, Some(0.7), 0.0), 10, words));
        assert_eq!([0, 7, 8].map(at), [1.0, 1.0, 0.0].map(Some));
    }

    #[test]
    fn the_tolerance_of_a_relative_range_grows_with_the_reference() {
        for scale in [1, 7] {
            let value = |words| rate_relative(relative(Some(0.5), Some(1.0), 0.4), 10 * scale, words * scale);
            for (words, expected) in
                [(0, 0.0), (1, 0.0), (3, 0.5), (5, 1.0), (10, 1.0), (12, 0.5), (14, 0.0), (90, 0.0)]
            {
                assert!((value(words) - expected).abs() < 1e-9, "{words}: {}", value(words));
            }
        }
    }

    #[test]
    fn a_relative_range_is_missing_without_the_words_of_a_reference() {
        let rate = |reference| {
            rate_one(&mut relative(Some(0.5), None, 0.0), Sample { reference, ..sample("") }, Some("one two"))
        };
        assert_eq!(rate(None), RewardValue::Missing("the row has no reference".to_owned()));
        assert_eq!(rate(Some("...")), RewardValue::Missing("the row's reference has no words".to_owned()));
        assert_eq!(rate(Some("one two three four")), RewardValue::Value(1.0));
        let of_row = Sample { reference: Some("one"), ..sample("") };
        assert_eq!(rate_one(&mut relative(None, Some(2.0), 0.0), of_row, None), RewardValue::Value(0.0));
    }

    #[test]
    fn an_explanation_names_the_relative_range() {
        let of_row = Sample { reference: Some("one two three"), ..sample("") };
        let told = relative(Some(0.8), Some(1.2), 0.5).explain(&of_row, Some("one two"));
        assert_eq!(told.as_deref(), Some("2 words, 0.8 to 1.2 times the 3 of the reference are wanted"));
    }

    #[test]
    fn without_a_relative_range_nothing_new_is_serialized() {
        let json = serde_json::to_string(&words_spec(Some(1), None, 2)).unwrap();
        assert_eq!(json, r#"{"min_words":1,"max_words":null,"tolerance_words":2}"#);
    }

    proptest! {
        #[test]
        fn is_from_0_to_1_and_no_higher_further_away(
            text in "\\PC*",
            (min, max, tolerance) in (0..20_usize, 20..40_usize, 0..30_usize),
            words in 0..80_usize,
        ) {
            let range = (Some(min), Some(max));
            prop_assert!((0.0..=1.0).contains(&rate(range, tolerance, Some(&text))));
            let at = |words| rate(range, tolerance, Some(&of(words)));
            if words >= max {
                prop_assert!(at(words + 1) <= at(words));
            } else if words < min {
                prop_assert!(at(words) <= at(words + 1));
            }
        }
    }
}
