//! What metrics are called, which way is better, and what values they can have.

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

/// The share of right answers: the primary metric where the recipe names none.
pub const ACCURACY: &str = "eval/accuracy";
/// The weighted sum of the reward components, by the weights of the arm's own mix.
pub const TOTAL: &str = "eval/reward/total";
/// What every arm scores by one and the same mix ([`super::Evidence::common_score`]).
pub const COMMON_SCORE: &str = "eval/common_score";
/// The form as a component, which is told as `eval/format_valid`.
pub const FORM_AGAIN: &str = "eval/reward/format_valid";

const COMPONENT: &str = "eval/reward/";
const PASS_AT: &str = "eval/pass_at_";

impl Direction {
    /// That of the metric called `name`, if an evaluation measures it: shares of right answers and rewards are better higher,
    /// likelihoods of being wrong are better lower. Nothing is assumed of lengths, nor of what a program measures, whatever its
    /// name sounds like.
    pub fn of(name: &str) -> Option<Self> {
        match name {
            "eval/perplexity" | "eval/text_perplexity" | "eval/truncated_frac" => Some(Self::Lower),
            COMMON_SCORE => Some(Self::Higher),
            _ => (is_share(name) || name.starts_with(COMPONENT)).then_some(Self::Higher),
        }
    }
}

/// Whether it is a share that an evaluation measures, of which more is better.
fn is_share(name: &str) -> bool {
    let is_pass_at = || name.strip_prefix(PASS_AT).is_some_and(|k| k.parse::<u32>().is_ok());
    matches!(name, ACCURACY | "eval/loglikelihood_accuracy" | "eval/loglikelihood_accuracy_norm" | "eval/format_valid")
        || is_pass_at()
}

/// The least and the greatest value of the metric called `name`, where it is a share that an evaluation measures. What a program
/// calls accuracy may be in percent.
pub fn range_of_share(name: &str) -> Option<(f64, f64)> {
    (is_share(name) || name == "eval/truncated_frac").then_some((0.0, 1.0))
}

/// The reward component whose settings decide what the metric called `name` means.
pub(super) fn component_of(name: &str) -> Option<&str> {
    match name {
        ACCURACY => Some("correctness"),
        "eval/format_valid" => Some("format_valid"),
        TOTAL => None,
        _ if name.starts_with(PASS_AT) => Some("correctness"),
        _ => name.strip_prefix(COMPONENT),
    }
}

/// The part of `interval` that is possible.
pub(super) fn within(range: Option<(f64, f64)>, interval: (f64, f64)) -> (f64, f64) {
    range.map_or(interval, |(least, most)| (interval.0.max(least), interval.1.min(most)))
}

/// A metric's name without what all share: `accuracy`, `semantic`, and `reward` for the weighted sum.
pub fn short_name(name: &str) -> &str {
    match name {
        TOTAL => "reward",
        _ => name.strip_prefix(COMPONENT).or_else(|| name.strip_prefix("eval/")).unwrap_or(name),
    }
}

/// Whether arms are compared by it: what judges cost and how often they failed are no results, and nothing is one twice.
pub(super) fn is_result(name: &str) -> bool {
    !name.starts_with("judge/") && !name.starts_with("eval/missing/") && name != FORM_AGAIN
}

/// Sorts metrics as tables show them: accuracy, the common score, the reward, its components, everything else.
pub(super) fn rank(name: &str) -> usize {
    match name {
        ACCURACY => 0,
        COMMON_SCORE => 1,
        TOTAL => 2,
        _ if name.starts_with(COMPONENT) => 3,
        _ => 4,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_direction_of_what_an_evaluation_measures_is_known() {
        for name in [ACCURACY, TOTAL, COMMON_SCORE, "eval/reward/semantic", "eval/pass_at_4", "eval/format_valid"] {
            assert_eq!(Direction::of(name), Some(Direction::Higher), "{name}");
        }
        for name in ["eval/perplexity", "eval/text_perplexity", "eval/truncated_frac"] {
            assert_eq!(Direction::of(name), Some(Direction::Lower), "{name}");
        }
    }

    #[test]
    fn nothing_is_read_out_of_the_names_of_programs() {
        for name in ["invalid_frac", "accuracy_loss", "accuracy", "eval/tokens_mean", "elo", "error_rate", "valid"] {
            assert_eq!(Direction::of(name), None, "{name}");
        }
    }

    #[test]
    fn shares_end_at_0_and_1() {
        for name in [ACCURACY, "eval/loglikelihood_accuracy_norm", "eval/pass_at_4", "eval/truncated_frac"] {
            assert_eq!(range_of_share(name), Some((0.0, 1.0)), "{name}");
        }
        for name in ["accuracy", "eval/reward/accuracy", "eval/perplexity", "eval/words_mean", TOTAL] {
            assert_eq!(range_of_share(name), None, "{name}");
        }
        assert_eq!(within(Some((0.0, 1.0)), (-0.12, 0.66)), (0.0, 0.66));
        assert_eq!(within(None, (-0.12, 1.2)), (-0.12, 1.2));
    }

    #[test]
    fn names_are_short_where_that_is_clear() {
        assert_eq!(
            [ACCURACY, "eval/reward/rouge", TOTAL, COMMON_SCORE, "words"].map(short_name),
            ["accuracy", "rouge", "reward", "common_score", "words"]
        );
    }
}
