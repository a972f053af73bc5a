#![doc = include_str!("docs/edit.md")]

use crate::rewards::component::{Kind, Measure};
use crate::rewards::{BuildError, Reward, RewardError, RewardValue, Sample, Scope, Setup, TableContext};
use regex::Regex;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::borrow::Cow;
use std::sync::LazyLock;

/// 1 minus the word or character error rate against the reference, at least 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct EditSpec {
    /// What is inserted, deleted and substituted: words or characters.
    pub level: EditLevel,
    /// Ignores case, as jiwer's `ToLowerCase`.
    pub lowercase: bool,
    /// Takes punctuation out of both texts (Unicode's category P), as jiwer's `RemovePunctuation`.
    pub remove_punctuation: bool,
}

/// The units of an edit distance.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum EditLevel {
    /// Runs without white space: the word error rate.
    Word,
    /// Characters, white space between words included: the character error rate.
    Character,
}

impl Kind for EditSpec {
    const NAME: &'static str = "edit";
    const PAGE: &'static str = include_str!("docs/edit.md");
    const DEFAULTS: &'static str = r#"
scope = "explanation" # as `rouge`, which compares with the same reference
level = "word"
lowercase = false # as jiwer
remove_punctuation = false # as jiwer
"#;

    type Table = Self;

    fn needed(_table: &Self::Table) -> Option<&'static str> {
        Some("reference")
    }

    fn resolve(table: &Self::Table, _recipe: &mut dyn TableContext) -> Option<Self> {
        Some(*table)
    }
}

impl Measure for EditSpec {
    fn build(&self, _scope: &Scope, _setup: &mut Setup<'_>) -> Result<Box<dyn Reward>, BuildError> {
        Ok(Box::new(Edit { spec: *self }))
    }

    fn needs(&self) -> Option<&'static str> {
        Some("reference")
    }

    fn compares_with_the_row(&self) -> bool {
        true
    }
}

/// Punctuation as Python's `unicodedata.category` and jiwer know it.
static PUNCTUATION: LazyLock<Regex> = LazyLock::new(|| Regex::new(r"\p{P}").expect("the pattern is a constant"));

/// The `edit` component. A completion without the text has the value 0.
pub(super) struct Edit {
    pub(super) spec: EditSpec,
}

/// The distance of a text from its reference, in units of the level.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Edits {
    /// The least number of insertions, deletions and substitutions.
    pub(super) edits: usize,
    /// The number of units of the reference; not 0.
    pub(super) of: usize,
}

impl Edits {
    /// The word or character error rate; above 1 for a text with many insertions.
    pub(super) fn error_rate(self) -> f64 {
        self.edits as f64 / self.of as f64
    }
}

impl Edit {
    /// Returns the edits from `reference` to `text`; `None` if the reference has no units.
    pub(super) fn edits(&self, reference: &str, text: &str) -> Option<Edits> {
        let (reference, text) = (self.normalized(reference), self.normalized(text));
        let (edits, of) = match self.spec.level {
            EditLevel::Word => distance(&words(&reference), &words(&text)),
            EditLevel::Character => distance(&characters(&reference), &characters(&text)),
        };
        (of > 0).then_some(Edits { edits, of })
    }

    fn normalized<'a>(&self, text: &'a str) -> Cow<'a, str> {
        let text = if self.spec.lowercase { Cow::Owned(text.to_lowercase()) } else { Cow::Borrowed(text) };
        if self.spec.remove_punctuation { Cow::Owned(PUNCTUATION.replace_all(&text, "").into_owned()) } else { text }
    }
}

fn words(text: &str) -> Vec<&str> {
    text.split_whitespace().collect()
}

fn characters(text: &str) -> Vec<char> {
    text.trim().chars().collect()
}

/// Returns the Levenshtein distance and the length of `reference`.
fn distance<T: Eq>(reference: &[T], text: &[T]) -> (usize, usize) {
    let shared = reference.iter().zip(text).take_while(|(a, b)| a == b).count();
    let (rest, rest_of_text) = (Units(&reference[shared..]), Units(&text[shared..]));
    (strsim::generic_levenshtein(&rest, &rest_of_text), reference.len())
}

/// A slice, in the form that strsim iterates over.
struct Units<'a, T>(&'a [T]);

impl<'a, T> IntoIterator for &'a Units<'_, T> {
    type Item = &'a T;
    type IntoIter = std::slice::Iter<'a, T>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.iter()
    }
}

impl Reward for Edit {
    fn rate(&mut self, samples: &[Sample<'_>], texts: &[Option<&str>]) -> Result<Vec<RewardValue>, RewardError> {
        let verdict = |(sample, text): (&Sample<'_>, Option<&str>)| {
            let Some(reference) = sample.reference else {
                return RewardValue::Missing("the row has no reference".to_owned());
            };
            match self.edits(reference, text.unwrap_or_default()) {
                None => RewardValue::Missing(format!("the row's reference has no {}s", self.unit())),
                Some(_) if text.is_none() => RewardValue::Value(0.0),
                Some(edits) => RewardValue::Value((1.0 - edits.error_rate()).max(0.0)),
            }
        };
        Ok(samples.iter().zip(texts.iter().copied()).map(verdict).collect())
    }

    fn explain(&mut self, sample: &Sample<'_>, text: Option<&str>) -> Option<String> {
        let Edits { edits, of } = self.edits(sample.reference?, text?)?;
        let plural = |count: usize| if count == 1 { "" } else { "s" };
        let unit = self.unit();
        Some(format!("{edits} edit{} to the {of} {unit}{} of the reference", plural(edits), plural(of)))
    }
}

impl Edit {
    fn unit(&self) -> &'static str {
        match self.spec.level {
            EditLevel::Word => "word",
            EditLevel::Character => "character",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rewards::testing::{rate_one, sample};
    use proptest::prelude::*;

    fn edit(level: EditLevel, lowercase: bool, remove_punctuation: bool) -> Edit {
        Edit { spec: EditSpec { level, lowercase, remove_punctuation } }
    }

    fn rate(level: EditLevel, reference: Option<&str>, text: Option<&str>) -> RewardValue {
        rate_one(&mut edit(level, false, false), Sample { reference, ..sample("") }, text)
    }

    #[derive(Deserialize)]
    struct Golden {
        reference: String,
        candidate: String,
        /// The error rates by `LEVEL[ lowercase][ punctuation]`.
        rates: std::collections::BTreeMap<String, Option<f64>>,
    }

    #[test]
    fn the_error_rates_are_those_of_jiwer() {
        let golden: Vec<Golden> = serde_json::from_str(include_str!("../../../../tests/golden/edit.json")).unwrap();
        assert!(golden.len() > 60);
        let mut above_1 = 0;
        for Golden { reference, candidate, rates } in golden {
            assert_eq!(rates.len(), 8);
            for (name, expected) in rates {
                let level = if name.starts_with("word") { EditLevel::Word } else { EditLevel::Character };
                let mut component = edit(level, name.contains("lowercase"), name.contains("punctuation"));
                let found = component.edits(&reference, &candidate);
                // jiwer has numbers for a reference without units, which depend on its version
                let Some(expected) = expected else {
                    assert_eq!(found, None);
                    continue;
                };
                let rate = found.unwrap().error_rate();
                assert!(
                    (rate - expected).abs() < 1e-12,
                    "{name} of {candidate:?} to {reference:?}: {rate}, {expected}"
                );
                above_1 += usize::from(expected > 1.0);
                let of_row = Sample { reference: Some(&reference), ..sample("") };
                let value = rate_one(&mut component, of_row, Some(&candidate));
                assert_eq!(value, RewardValue::Value((1.0 - rate).max(0.0)));
            }
        }
        assert!(above_1 > 20, "texts with more errors than words are rare: {above_1}");
    }

    #[test]
    fn a_text_with_more_errors_than_the_reference_has_words_is_0() {
        assert_eq!(rate(EditLevel::Word, Some("yes"), Some("no it is not")), RewardValue::Value(0.0));
        assert_eq!(rate(EditLevel::Character, Some("kitten"), Some("sitting")), RewardValue::Value(0.5));
        assert_eq!(
            rate(EditLevel::Word, Some("the heart\npumps"), Some("  the  heart pumps\n")),
            RewardValue::Value(1.0)
        );
    }

    #[test]
    fn a_text_that_is_not_there_is_0_and_a_reference_without_words_is_missing() {
        for nothing in [None, Some(""), Some("  ")] {
            assert_eq!(rate(EditLevel::Word, Some("yes"), nothing), RewardValue::Value(0.0));
        }
        assert!(matches!(rate(EditLevel::Word, None, Some("yes")), RewardValue::Missing(_)));
        for text in [None, Some("yes")] {
            assert!(matches!(rate(EditLevel::Character, Some(" \n"), text), RewardValue::Missing(_)));
        }
        let of_row = Sample { reference: Some("..."), ..sample("") };
        let reason = RewardValue::Missing("the row's reference has no words".to_owned());
        assert_eq!(rate_one(&mut edit(EditLevel::Word, false, true), of_row, Some("yes")), reason);
    }

    #[test]
    fn an_explanation_counts_the_edits() {
        let of_row = Sample { reference: Some("the heart"), ..sample("") };
        let explain = |level, text| edit(level, false, false).explain(&of_row, text);
        let told = "1 edit to the 2 words of the reference";
        assert_eq!(explain(EditLevel::Word, Some("the lung")).as_deref(), Some(told));
        let told = "2 edits to the 9 characters of the reference";
        assert_eq!(explain(EditLevel::Character, Some("the hat")).as_deref(), Some(told));
        assert_eq!(explain(EditLevel::Word, None), None);
    }

    proptest! {
        #[test]
        fn is_a_distance(a in "[ab ]{1,12}c", b in "[ab ]{0,12}", c in "[ab ]{1,12}c") {
            for level in [EditLevel::Word, EditLevel::Character] {
                let edits = |from: &str, to: &str| edit(level, false, false).edits(from, to).unwrap().edits;
                prop_assert_eq!(edits(&a, &a), 0);
                prop_assert_eq!(edits(&a, &c), edits(&c, &a));
                prop_assert!(edits(&a, &b) <= edits(&a, &c) + edits(&c, &b));
            }
        }
    }
}
