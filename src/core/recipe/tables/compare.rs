//! `[compare]`: what the arms of a recipe are compared by. Nothing of it may change a result, and nothing of it is
//! hashed.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// What the arms of a sweep are compared by, in the summary of a run, `compare` and `report`; never changes a result,
/// so it is not part of a cache key.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CompareSettings {
    /// The arm that all others are compared with: a variant's name without its seed. Default: `sft`, else `base`, else
    /// the first.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub baseline: Option<String>,
    /// The primary metric, which decides; all others are exploratory. `accuracy` and `eval/accuracy` are the same.
    /// Default:
    /// `accuracy`, else the first that all arms were measured by alike.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub metric: Option<String>,
    /// The common score: reward components with their weights, by which every arm is scored in the same way,
    /// independent of its training. Default: the mean of the components that the mixes of all arms share, where their
    /// mixes differ.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("minProperties" = 1))]
    pub score: BTreeMap<String, f64>,
    /// Metrics of programs that are better when they are higher.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub higher: Vec<String>,
    /// Metrics of programs that are better when they are lower.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub lower: Vec<String>,
}

impl CompareSettings {
    /// Whether the recipe says anything.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}
