//! Arenas: players, judges, and the choice of pairs.

use super::{DataSpec, Dtype, JudgeSampling, ModelSpec, Sampling, Scope};
use crate::digest::Digest;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Models that answer the same questions, and judges who compare their answers. The stage's own model is absent: each player
/// brings one.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ArenaSpec {
    /// Questions, references and answers.
    pub data: DataSpec,
    /// Only this many of them are asked, chosen by content hash; absent: all.
    pub questions: Option<usize>,
    /// How answers are drawn.
    pub sampling: Sampling,
    /// Answers decoded at a time.
    pub batch_size: usize,
    /// Who plays, in the order of the keys of the stages that made them, whatever the order of variants; the plan knows them
    /// ([`crate::plan::Plan::build`]). Names are hashed, as the result tells them.
    pub players: Vec<PlayerSpec>,
    /// Which pairs are compared.
    pub pairing: Pairing,
    /// The judges that compare answers.
    pub judges: BTreeMap<String, ArenaJudge>,
    /// Standard deviation, in Elo points, of the prior round 1500 that every rating has.
    pub prior_sd: f64,
    /// Bootstrap resamples of the questions behind each 95% interval.
    pub bootstrap_resamples: u32,
    /// The stage fails when a judge has no verdict on a greater share of the last 32 comparisons.
    pub max_missing_fraction: f64,
}

/// A player of an arena: models that differ in their seeds alone, rated as one.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PlayerSpec {
    /// The stage's name and, where several are called so, what its variants have in common: `sft`, `grpo [rouge]`.
    pub name: String,
    /// The models, at least one.
    pub models: Vec<PlayerModel>,
}

/// One model of a player.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PlayerModel {
    /// Which of the arena's parent stages made it; absent: it is untrained.
    pub parent: Option<usize>,
    /// The seed of the stage that made it.
    pub seed: Option<u64>,
    /// What that stage started from, to load its checkpoint.
    pub model: ModelSpec,
}

/// Which pairs of answers an arena compares.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Pairing {
    /// Every player with every other, on every question.
    Full,
    /// Whose order is least certain, as long as the budget lasts.
    Adaptive {
        /// Pairs of answers that are compared.
        max_comparisons: usize,
    },
}

/// A judge that compares two answers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum ArenaJudge {
    /// An encoder: the answer that is more similar to a text of the row is the better one.
    Similarity {
        /// Digest of the encoder's directory.
        encoder: Digest,
        /// Number format of the encoder.
        dtype: Dtype,
        /// Put before every text; absent: the encoder's own default.
        prompt: Option<String>,
        /// The part of an answer that is looked at.
        scope: Scope,
        /// The text it is to be similar to.
        compare_with: CompareWith,
        /// Similarities that are closer than this tie.
        tie_margin: f64,
    },
    /// Language models, each a judge of its own, that read both answers in both orders.
    Models {
        /// Their names.
        judges: Vec<String>,
        /// The part of an answer that they read.
        scope: Scope,
        /// minijinja template of their prompt, over `prompt`, `first`, `second`, `reference` and `answer`.
        prompt: String,
        /// How they answer.
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
    /// The names of all judges, in the order in which results tell of them: of `similarity` the table's, of models their own,
    /// unless two tables ask the same model.
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

    /// Models of all players.
    pub fn models(&self) -> impl Iterator<Item = &PlayerModel> {
        self.players.iter().flat_map(|player| &player.models)
    }
}
