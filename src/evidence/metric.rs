//! What metrics are called, and which way is better.

use serde::{Deserialize, Serialize};

/// Which way a metric is better.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Direction {
    /// More is better.
    Higher,
    /// Less is better.
    Lower,
}

impl Direction {
    /// That of the metric called `name`, if it is known: shares of right answers, rewards and ratings are better higher,
    /// likelihoods of being wrong are better lower. Nothing is assumed of lengths, nor of what a program measures.
    pub fn of(name: &str) -> Option<Self> {
        const HIGHER: [&str; 5] = ["accuracy", "pass", "valid", "win_rate", "elo"];
        const LOWER: [&str; 5] = ["perplexity", "loss", "nll", "truncated_frac", "error"];
        let last = name.rsplit('/').next().unwrap_or(name);
        let has = |words: &[&str]| words.iter().any(|word| last.contains(word));
        if name.contains("reward/") || has(&HIGHER) { Some(Self::Higher) } else { has(&LOWER).then_some(Self::Lower) }
    }
}

/// The least and the greatest value of the metric called `name`, as far as they are known: those of the shares that an evaluation
/// measures. What a program calls accuracy may be in percent.
pub(super) fn range_of_share(name: &str) -> Option<(f64, f64)> {
    let what = name.strip_prefix("eval/")?.rsplit('/').next()?;
    let is_share = !name.contains("reward/")
        && (what.contains("accuracy")
            || what.starts_with("pass_at")
            || what == "format_valid"
            || what.ends_with("_frac"));
    is_share.then_some((0.0, 1.0))
}

/// The part of `interval` that is possible.
pub(super) fn within(range: Option<(f64, f64)>, interval: (f64, f64)) -> (f64, f64) {
    range.map_or(interval, |(least, most)| (interval.0.max(least), interval.1.min(most)))
}

/// A metric's name without what all share: `accuracy`, `semantic`, and `reward` for the weighted sum.
pub fn short_name(name: &str) -> &str {
    match name {
        "eval/reward/total" => "reward",
        _ => name.strip_prefix("eval/reward/").or_else(|| name.strip_prefix("eval/")).unwrap_or(name),
    }
}

/// The form as a component, which is told as `eval/format_valid`.
pub const FORM_AGAIN: &str = "eval/reward/format_valid";

/// Whether arms are compared by it: what judges cost and how often they failed are no results, and nothing is one twice.
pub(super) fn is_result(name: &str) -> bool {
    !name.starts_with("judge/") && !name.starts_with("eval/missing/") && name != FORM_AGAIN
}

/// Sorts metrics as tables show them: accuracy, the reward, its components, everything else.
pub(super) fn rank(name: &str) -> usize {
    match name {
        "eval/accuracy" => 0,
        "eval/reward/total" => 1,
        _ if name.starts_with("eval/reward/") => 2,
        _ => 3,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_direction_of_what_an_evaluation_measures_is_known() {
        for name in ["eval/accuracy", "eval/reward/total", "eval/reward/semantic", "eval/pass@4", "eval/ood/accuracy"] {
            assert_eq!(Direction::of(name), Some(Direction::Higher), "{name}");
        }
        for name in ["eval/perplexity", "eval/text_perplexity", "eval/truncated_frac", "train/loss"] {
            assert_eq!(Direction::of(name), Some(Direction::Lower), "{name}");
        }
        for name in ["eval/tokens_mean", "words", "latency"] {
            assert_eq!(Direction::of(name), None, "{name}");
        }
    }

    #[test]
    fn shares_end_at_0_and_1() {
        for name in ["eval/accuracy", "eval/loglikelihood_accuracy_norm", "eval/pass_at_4", "eval/truncated_frac"] {
            assert_eq!(range_of_share(name), Some((0.0, 1.0)), "{name}");
        }
        for name in ["accuracy", "eval/reward/accuracy", "eval/perplexity", "eval/words_mean", "eval/reward/total"] {
            assert_eq!(range_of_share(name), None, "{name}");
        }
        assert_eq!(within(Some((0.0, 1.0)), (-0.12, 0.66)), (0.0, 0.66));
        assert_eq!(within(None, (-0.12, 1.2)), (-0.12, 1.2));
    }

    #[test]
    fn names_are_short_where_that_is_clear() {
        assert_eq!(
            ["eval/accuracy", "eval/reward/rouge", "eval/reward/total", "words"].map(short_name),
            ["accuracy", "rouge", "reward", "words"]
        );
    }
}
