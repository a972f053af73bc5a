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
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct LengthSpec {
    /// Fewest words of value 1; default: no limit, if there is `max_words`.
    #[schemars(range(min = 1))]
    pub min_words: Option<usize>,
    /// Most words of value 1; default: no limit, if there is `min_words`.
    #[schemars(range(min = 1))]
    pub max_words: Option<usize>,
    /// This many words outside the range, the value is 0; with 0 or 1, every text outside is 0.
    pub tolerance_words: usize,
}

impl Kind for LengthSpec {
    const NAME: &'static str = "length";
    const PAGE: &'static str = include_str!("docs/length.md");
    const DEFAULTS: &'static str = r#"
scope = "explanation" # as `rouge`, whose recall it keeps honest
"#;

    type Table = Self;

    fn resolve(table: &Self::Table, recipe: &mut dyn TableContext) -> Option<Self> {
        let (at, message, label) = match (table.min_words, table.max_words) {
            (Some(min), Some(max)) if min > max => {
                let message = format!("`max_words` ({max}) is less than `min_words` ({min})");
                (At::Key("max_words"), message, "no range")
            }
            (None, None) => (At::Table, format!("`{}` has no range", recipe.name(At::Table)), "every length is 1"),
            _ => return Some(*table),
        };
        recipe.problem(at, message, label, "give `min_words`, `max_words` or both");
        None
    }
}

impl Measure for LengthSpec {
    fn build(&self, _scope: &Scope, _setup: &mut Setup<'_>) -> Result<Box<dyn Reward>, BuildError> {
        Ok(Box::new(Length { spec: *self }))
    }
}

/// The `length` component. A completion without the text has the value 0, whatever the range.
pub(super) struct Length {
    pub(super) spec: LengthSpec,
}

impl Reward for Length {
    fn rate(&mut self, _: &[Sample<'_>], texts: &[Option<&str>]) -> Result<Vec<RewardValue>, RewardError> {
        Ok(texts.iter().map(|text| RewardValue::Value(text.map_or(0.0, |text| self.value(count(text))))).collect())
    }

    fn explain(&mut self, _: &Sample<'_>, text: Option<&str>) -> Option<String> {
        let LengthSpec { min_words, max_words, tolerance_words } = self.spec;
        let words = count(text?);
        let mut text = format!("{words} words, {} are wanted", wanted(min_words, max_words));
        if tolerance_words > 1 && self.value(words) < 1.0 {
            write!(text, "; {tolerance_words} words outside, the value is 0").expect("a string takes everything");
        }
        Some(text)
    }
}

impl Length {
    fn value(&self, words: usize) -> f64 {
        let LengthSpec { min_words, max_words, tolerance_words } = self.spec;
        let too_few = min_words.map_or(0, |min| min.saturating_sub(words));
        let too_many = max_words.map_or(0, |max| words.saturating_sub(max));
        match too_few.max(too_many) {
            0 => 1.0,
            outside if outside < tolerance_words => 1.0 - outside as f64 / tolerance_words as f64,
            _ => 0.0,
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

    fn rate(range: (Option<usize>, Option<usize>), tolerance_words: usize, text: Option<&str>) -> f64 {
        let (min_words, max_words) = range;
        let mut length = Length { spec: LengthSpec { min_words, max_words, tolerance_words } };
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
        let mut length = Length { spec: LengthSpec { min_words: Some(3), max_words: Some(5), tolerance_words: 4 } };
        let mut explain = |text: Option<&str>| length.explain(&sample(""), text);
        assert_eq!(explain(Some("one two three")).as_deref(), Some("3 words, 3 to 5 are wanted"));
        let outside = "2 words, 3 to 5 are wanted; 4 words outside, the value is 0";
        assert_eq!(explain(Some("one - two")).as_deref(), Some(outside));
        assert_eq!(explain(None), None);
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
