//! The spec of a stage that generates answers.

use super::{DataSpec, RewardSpec, Sampling};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// The spec of a stage that answers questions. The answers are its result.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GenerateSpec {
    /// The data set's name in the recipe, which the result contains.
    pub data_set: String,
    /// The data set of questions, references and answers.
    pub data: DataSpec,
    /// The name of the judge that answers; absent: the stage's model.
    pub judge: Option<String>,
    /// The settings for sampling answers. A judge takes `temperature`, `top_p`, `max_new_tokens` and `stop_strings`.
    pub sampling: Sampling,
    /// The number of answers sampled for each question.
    pub samples_per_question: usize,
    /// The number of completions decoded at a time.
    pub batch_size: usize,
    /// The components that rate the answers; none: the answers have no reward.
    pub rewards: BTreeMap<String, RewardSpec>,
    /// The largest fraction of a batch's answers that may be missing, or lack the value of a component; above it the
    /// stage fails.
    pub max_missing_fraction: f64,
}

impl GenerateSpec {
    /// The file of the answers, one JSON object a line.
    pub const ANSWERS: &str = "generations.jsonl";
}
