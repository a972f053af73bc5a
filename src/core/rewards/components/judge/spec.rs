//! The part of a `judge` component that a stage's cache key hashes.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Language models that judge a text. Their servers are not part of it; see [`crate::rewards::JudgeServer`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct JudgeSpec {
    /// The names of the models, each of which judges separately.
    pub judges: Vec<String>,
    /// The aggregation of several judges' values.
    pub aggregate: Aggregate,
    /// The question to the judges.
    pub mode: JudgeMode,
    /// The sampling parameters of the judges.
    pub sampling: JudgeSampling,
}

/// The question to the judges about a text.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum JudgeMode {
    /// Rates the text.
    Rubric(RubricScale),
    /// Compares the text with the row's reference.
    PairWithReference {
        /// The minijinja template of the prompt, over `prompt`, `first`, `second` and `answer`.
        prompt: String,
    },
    /// Compares the text with the other completions of its group.
    PairWithinGroup {
        /// The minijinja template of the prompt, over `prompt`, `first`, `second`, `reference` and `answer`.
        prompt: String,
        /// The number of other completions with which each is compared; absent: all of them.
        opponents: Option<usize>,
    },
}

/// A rubric with its scale.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RubricScale {
    /// The minijinja template of the prompt.
    ///
    /// Its variables are `prompt`, `completion` (the scope's part of it), `reference`, `answer`, `min_score` and
    /// `max_score`.
    pub prompt: String,
    /// The lowest score, with value 0.
    pub min_score: i64,
    /// The highest score, with value 1.
    pub max_score: i64,
}

/// The sampling parameters of a judge's answer.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct JudgeSampling {
    /// The divisor of the judge's logits; 0 for greedy decoding.
    pub temperature: f64,
    /// The seed of the judge's sampling.
    pub seed: u32,
    /// The largest number of tokens of an answer; a truncated answer is missing.
    pub max_tokens: u32,
}

impl JudgeSpec {
    /// Returns the number of requests to each judge for `completions` of one prompt, if no two are equal and none is
    /// empty.
    pub fn requests(&self, completions: u64) -> u64 {
        match &self.mode {
            JudgeMode::Rubric(_) => completions,
            JudgeMode::PairWithReference { .. } => 2 * completions,
            JudgeMode::PairWithinGroup { opponents, .. } => {
                let others = completions.saturating_sub(1);
                let opponents = opponents.map_or(others, |most| others.min(most as u64));
                // Neighbours in a circle: with an even number of opponents, each pair is chosen from both sides.
                let both_sides = completions * (opponents / 2);
                let distance = opponents.div_ceil(2);
                let last = if opponents.is_multiple_of(2) {
                    0
                } else if 2 * distance == completions {
                    completions / 2
                } else {
                    completions
                };
                2 * (both_sides + last)
            }
        }
    }
}

/// How several judges' values become one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Aggregate {
    /// Their mean.
    Mean,
    /// The middle one, or the mean of the two in the middle.
    Median,
    /// The lowest.
    Min,
}
