//! What of a `judge` component a stage's key hashes.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Language models that judge a text. Their address is not part of it: [`crate::rewards::JudgeServer`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct JudgeSpec {
    /// Names of the models that are asked, each separately.
    pub judges: Vec<String>,
    /// How their values become one.
    pub aggregate: Aggregate,
    /// What they are asked.
    pub mode: JudgeMode,
    /// How they answer.
    pub sampling: JudgeSampling,
}

/// What judges are asked about a text.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum JudgeMode {
    /// How good it is.
    Rubric(RubricScale),
    /// Whether it is better than the row's reference.
    PairWithReference {
        /// minijinja template of their prompt, over `prompt`, `first`, `second` and `answer`.
        prompt: String,
    },
    /// Whether it is better than the other completions of its group.
    PairWithinGroup {
        /// minijinja template of their prompt, over `prompt`, `first`, `second`, `reference` and `answer`.
        prompt: String,
        /// How many others each is compared with; absent: all of them.
        opponents: Option<usize>,
    },
}

/// A rubric and its scale.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RubricScale {
    /// minijinja template of the judges' prompt, over `prompt`, `completion` (the scope's part of it), `reference`,
    /// `answer`, `min_score` and `max_score`.
    pub prompt: String,
    /// The lowest score, value 0.
    pub min_score: i64,
    /// The highest score, value 1.
    pub max_score: i64,
}

/// How a judge's answer is drawn.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct JudgeSampling {
    /// Divides the judge's logits; 0: its most likely answer.
    pub temperature: f64,
    /// The seed of the judge's sampling.
    pub seed: u32,
    /// An answer is cut here, and missing then.
    pub max_tokens: u32,
}

impl JudgeSpec {
    /// Requests that each judge gets about `completions` of one prompt, when no two are equal and none is empty.
    pub fn requests(&self, completions: u64) -> u64 {
        match &self.mode {
            JudgeMode::Rubric(_) => completions,
            JudgeMode::PairWithReference { .. } => 2 * completions,
            JudgeMode::PairWithinGroup { opponents, .. } => {
                let others = completions.saturating_sub(1);
                let opponents = opponents.map_or(others, |most| others.min(most as u64));
                // each one's neighbours round the group: an even number of them is met from both sides
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
