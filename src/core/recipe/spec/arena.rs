//! Arenas: players, judges, and the choice of pairs.

use super::{DataSpec, Dtype, JudgeSampling, ModelSpec, Sampling, Scope};
use crate::digest::Digest;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// The work of an arena: models answer the same questions, and judges compare their answers. The stage has no model of
/// its own, because each player has one.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ArenaSpec {
    /// The data set of questions, references and answers.
    pub data: DataSpec,
    /// The expressions over a row's fields by whose values ratings are also computed, sorted.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub by: BTreeSet<String>,
    /// The number of questions asked, chosen by content hash; absent: all.
    pub questions: Option<usize>,
    /// The settings for sampling answers.
    pub sampling: Sampling,
    /// The number of answers decoded at a time.
    pub batch_size: usize,
    /// The players, in the order of the keys of the stages that made them. This order does not depend on the order of
    /// variants. [`crate::plan::Plan::build`] fills in the players. Names are hashed, because the result contains them.
    pub players: Vec<PlayerSpec>,
    /// Which pairs are compared.
    pub pairing: Pairing,
    /// The judges that compare answers.
    pub judges: BTreeMap<String, ArenaJudge>,
    /// The standard deviation, in Elo points, of the prior on every rating, whose mean is 1500.
    pub prior_sd: f64,
    /// The number of bootstrap resamples of the questions behind each 95% interval.
    pub bootstrap_resamples: u32,
    /// The largest fraction of the last 32 comparisons for which a judge may have no verdict; above it the stage fails.
    pub max_missing_fraction: f64,
}

/// A player of an arena: models that differ only in their seeds and are rated as one.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PlayerSpec {
    /// The stage's name and, where several stages share it, what its variants have in common: `sft`, `grpo [rouge]`.
    pub name: String,
    /// The player's models, at least one.
    pub models: Vec<PlayerModel>,
}

/// One model of a player.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PlayerModel {
    /// Which of the arena's parent stages made it; absent: it is untrained.
    pub parent: Option<usize>,
    /// The seed of the stage that made the model.
    pub seed: Option<u64>,
    /// The model that this stage started from, needed to load its checkpoint.
    pub model: ModelSpec,
}

/// Which pairs of answers an arena compares.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Pairing {
    /// Every player meets every other on every question.
    Full,
    /// Pairs whose order is least certain are compared first, until the budget is used up.
    Adaptive {
        /// The number of pairs of answers that are compared.
        max_comparisons: usize,
    },
}

/// A judge that compares two answers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum ArenaJudge {
    /// An encoder, which prefers the answer that is more similar to a text of the row.
    Similarity {
        /// The digest of the encoder's directory.
        encoder: Digest,
        /// Number format of the encoder.
        dtype: Dtype,
        /// The text before every encoded text; absent: the encoder's own default.
        prompt: Option<String>,
        /// The part of an answer that is compared.
        scope: Scope,
        /// The text of the row with which answers are compared.
        compare_with: CompareWith,
        /// The difference of similarities below which two answers tie.
        tie_margin: f64,
    },
    /// Language models, each a judge of its own, which read both answers in both orders.
    Models {
        /// The names of the models.
        judges: Vec<String>,
        /// The part of an answer that the models read.
        scope: Scope,
        /// minijinja template of their prompt, over `prompt`, `first`, `second`, `reference` and `answer`.
        prompt: String,
        /// The settings for sampling the judges' replies.
        sampling: JudgeSampling,
    },
}

/// The text of a row that answers are to be similar to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum CompareWith {
    /// Its reference.
    Reference,
    /// Its prompt: how close an answer is to the topic, right or wrong.
    Prompt,
}

impl ArenaSpec {
    /// Returns the names of all judges, in the order of results. A similarity judge has the name of its table, and a
    /// model its own, unless two tables name the same model.
    pub fn judge_names(&self) -> Vec<String> {
        let of_table = |(table, judge): (&String, &ArenaJudge)| match judge {
            ArenaJudge::Similarity { .. } => vec![(table.clone(), table.clone())],
            ArenaJudge::Models { judges, .. } => judges.iter().map(|name| (table.clone(), name.clone())).collect(),
        };
        let all: Vec<(String, String)> = self.judges.iter().flat_map(of_table).collect();
        let times = |name: &str| all.iter().filter(|(_, other)| other == name).count();
        let shown =
            |(table, name): &(String, String)| if times(name) > 1 { format!("{table}/{name}") } else { name.clone() };
        all.iter().map(shown).collect()
    }

    /// Returns the models of all players.
    pub fn models(&self) -> impl Iterator<Item = &PlayerModel> {
        self.players.iter().flat_map(|player| &player.models)
    }
}
