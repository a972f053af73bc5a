#![doc = include_str!("docs/repetition.md")]

use super::RougeTokenizer;
use crate::rewards::component::{Kind, Measure};
use crate::rewards::text::explain::excerpt;
use crate::rewards::text::words::words;
use crate::rewards::{BuildError, Reward, RewardError, RewardValue, Sample, Scope, Setup, TableContext};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::{HashMap, HashSet};

/// 1 minus the share of n-grams, in words, that occurred before; 0 for a text without a word.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RepetitionSpec {
    /// Words in an n-gram.
    #[schemars(range(min = 1, max = 1000))]
    pub ngram: usize,
}

impl Kind for RepetitionSpec {
    const NAME: &'static str = "repetition";
    const PAGE: &'static str = include_str!("docs/repetition.md");
    const DEFAULTS: &'static str = r#"
scope = "completion" # loops begin anywhere
ngram = 3 # pairs of words repeat in any honest text
"#;

    type Table = Self;

    fn resolve(table: &Self::Table, _recipe: &mut dyn TableContext) -> Option<Self> {
        Some(*table)
    }
}

impl Measure for RepetitionSpec {
    fn build(&self, _scope: &Scope, _setup: &mut Setup<'_>) -> Result<Box<dyn Reward>, BuildError> {
        Ok(Box::new(Repetition { ngram: self.ngram }))
    }
}

/// The `repetition` component.
///
/// Words are those of `rouge`, ignoring case, so punctuation hides no repetition. A text without words has the value 0,
/// and one with fewer than `ngram` words the value 1.
pub(super) struct Repetition {
    pub(super) ngram: usize,
}

impl Reward for Repetition {
    fn rate(&mut self, _: &[Sample<'_>], texts: &[Option<&str>]) -> Result<Vec<RewardValue>, RewardError> {
        Ok(texts.iter().map(|text| RewardValue::Value(text.map_or(0.0, |text| self.value(text)))).collect())
    }

    fn explain(&mut self, _: &Sample<'_>, text: Option<&str>) -> Option<String> {
        let lowercase = text?.to_lowercase();
        let words = words(&lowercase, RougeTokenizer::Unicode);
        let mut counts: HashMap<&[&str], usize> = HashMap::new();
        for run in words.windows(self.ngram) {
            *counts.entry(run).or_default() += 1;
        }
        let (all, distinct) = (words.len().saturating_sub(self.ngram - 1), counts.len());
        let counted = format!("{distinct} of {all} runs of {} words are distinct", self.ngram);
        // of the most frequent ones, the alphabetically first
        let most = counts.into_iter().max_by(|(a, of_a), (b, of_b)| of_a.cmp(of_b).then(b.cmp(a)));
        Some(match most.filter(|(_, count)| *count > 1) {
            Some((run, count)) => format!("{counted}; {} occurs {count} times", excerpt(&run.join(" "))),
            None => counted,
        })
    }
}

impl Repetition {
    fn value(&self, text: &str) -> f64 {
        let lowercase = text.to_lowercase();
        let words = words(&lowercase, RougeTokenizer::Unicode);
        let all = words.windows(self.ngram);
        match (words.len(), all.len()) {
            (0, _) => 0.0,
            (_, 0) => 1.0,
            (_, count) => all.collect::<HashSet<_>>().len() as f64 / count as f64,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rewards::testing::{rate_one, sample};
    use proptest::prelude::*;

    fn rate(ngram: usize, text: Option<&str>) -> f64 {
        match rate_one(&mut Repetition { ngram }, sample(""), text) {
            RewardValue::Value(value) => value,
            RewardValue::Missing(reason) => panic!("{reason}"),
        }
    }

    fn close(value: f64, expected: f64) {
        assert!((value - expected).abs() < 1e-12, "{value} is not {expected}");
    }

    #[test]
    fn the_share_of_ngrams_seen_before_is_taken_off() {
        close(rate(3, Some("the heart pumps blood through the body")), 1.0);
        close(rate(1, Some("the heart pumps blood through the body")), 6.0 / 7.0);
        close(rate(2, Some("yes no yes no yes")), 2.0 / 4.0);
        close(rate(3, Some("so so so so so so")), 1.0 / 4.0);
    }

    #[test]
    fn case_and_punctuation_hide_nothing() {
        close(rate(2, Some("Yes, no! YES (no). yes")), 2.0 / 4.0);
    }

    #[test]
    fn a_short_text_repeats_nothing_and_an_empty_one_is_worth_nothing() {
        close(rate(3, Some("so so")), 1.0);
        for nothing in [None, Some(""), Some("... !")] {
            close(rate(3, nothing), 0.0);
        }
    }

    #[test]
    fn an_explanation_names_what_stands_there_most() {
        let explain = |text| Repetition { ngram: 2 }.explain(&sample(""), text);
        let told = "2 of 4 runs of 2 words are distinct; `no yes` occurs 2 times";
        assert_eq!(explain(Some("Yes no, yes no yes")).as_deref(), Some(told));
        assert_eq!(explain(Some("yes no")).as_deref(), Some("1 of 1 runs of 2 words are distinct"));
        assert_eq!(explain(Some("yes")).as_deref(), Some("0 of 0 runs of 2 words are distinct"));
        assert_eq!(explain(None), None);
    }

    proptest! {
        #[test]
        fn is_from_0_to_1_for_any_text(text in "(\\PC|a | b)*", ngram in 1..6_usize) {
            prop_assert!((0.0..=1.0).contains(&rate(ngram, Some(&text))));
        }

        #[test]
        fn distinct_words_are_1_in_any_order(
            words in Just((0..30).map(|number| format!("w{number}")).collect::<Vec<_>>()).prop_shuffle(),
            ngram in 1..40_usize,
        ) {
            prop_assert!((rate(ngram, Some(&words.join(" "))) - 1.0).abs() < 1e-12);
        }

        #[test]
        fn each_repetition_of_a_text_lowers_it(words in 5..20_usize, ngram in 1..6_usize) {
            let text = (0..words).map(|number| format!("w{number}")).collect::<Vec<_>>().join(" ");
            let values: Vec<f64> = (1..6).map(|times| rate(ngram, Some(&vec![text.as_str(); times].join(" ")))).collect();
            prop_assert!(values.windows(2).all(|pair| pair[1] < pair[0]), "{values:?}");
        }
    }
}
