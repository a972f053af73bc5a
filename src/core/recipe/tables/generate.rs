//! `[stages.NAME]` of the kind `generate`.

use super::recipe::ModelOverride;
use super::sampling::SamplingTable;
use crate::recipe::spec::Split;
use crate::rewards::RewardTable;
use schemars::JsonSchema;
use serde::Deserialize;
use std::collections::BTreeMap;

/// Answers to the questions of a data set, as data for other stages; trains nothing. `path = "stage:NAME"` of a data
/// set names them.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[schemars(extend("additionalProperties" = false))]
pub struct GenerateTable {
    /// Names the kind of stage, and with it the keys it takes.
    #[schemars(extend("const" = "generate"))]
    pub kind: String,
    /// The stage whose checkpoint answers.
    pub after: Option<String>,
    /// A server of `[runtime.judges]` that answers, instead of a model of the recipe.
    pub judge: Option<String>,
    /// The data set whose questions are answered.
    pub data: String,
    /// The side of the data set's split that is read.
    pub split: Split,
    /// The stage's own seed, instead of the recipe's.
    pub seed: Option<u64>,
    /// The stage's own model, over the recipe's.
    pub model: Option<ModelOverride>,
    /// Divides the logits; 0 takes the most likely token.
    #[schemars(range(min = 0))]
    pub temperature: f64,
    /// How completions are sampled.
    #[serde(flatten)]
    pub sampling: SamplingTable,
    /// Answers that are drawn to each question.
    #[schemars(range(min = 1))]
    pub samples_per_question: usize,
    /// Completions decoded at a time.
    #[schemars(range(min = 1))]
    pub batch_size: usize,
    /// Components that rate the answers; the field `reward` of an answer is their weighted sum.
    #[serde(default)]
    #[schemars(extend("propertyNames" = { "pattern": "^[a-z0-9_-]+$" }))]
    pub rewards: BTreeMap<String, RewardTable>,
    /// The stage fails when a greater share of a batch's answers is missing, or has no value for a component.
    #[schemars(range(min = 0, max = 1))]
    pub max_missing_fraction: f64,
}
