//! The result of an arena, `arena.json`.

use crate::rewards::PositionBias;
use crate::slice::Slice;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// The complete result of an arena.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ArenaResult {
    /// The number of questions that all models answered.
    pub questions: usize,
    /// The sampling parameters of the answers, in words; starts with `greedy` or the temperature.
    pub sampling: String,
    /// The number of comparisons that were made.
    pub comparisons: usize,
    /// The number of possible comparisons.
    pub possible_comparisons: usize,
    /// The selection of the comparisons, in words.
    pub pairs: String,
    /// The standard deviation of the prior around 1500, in Elo points.
    pub prior_sd: f64,
    /// The number of bootstrap resamples of the questions for each 95% interval.
    pub bootstrap_resamples: u32,
    /// The largest change of the sequential rating by a game, in Elo points.
    pub sequential_k: f64,
    /// The players, in the order of the recipe.
    pub players: Vec<ArenaPlayer>,
    /// The ratings by the pooled verdicts of all judges.
    pub pooled: Ratings,
    /// The ratings by slice of the questions, by the pooled verdicts of all judges; empty without slices.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub slices: Vec<SliceRatings>,
    /// The results by judge.
    pub judges: Vec<JudgeResult>,
    /// The agreement between judges beyond chance; absent with one judge.
    pub agreement: Option<JudgeAgreement>,
    /// Notes for the reader, in sentences, such as missing verdicts, differing seeds and empty answers.
    pub notes: Vec<String>,
}

/// A player of an arena.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ArenaPlayer {
    /// The player's name.
    pub name: String,
    /// The player's models, one per seed.
    pub models: Vec<ArenaModel>,
}

/// A model of a player, with statistics of its answers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ArenaModel {
    /// The seed of the model's training; absent for a model that was not trained.
    pub seed: Option<u64>,
    /// The number of questions that the model answered.
    pub answers: usize,
    /// The number of empty answers, which lose.
    pub empty: usize,
    /// The number of answers that the length limit truncated.
    pub truncated: usize,
    /// The mean number of tokens per answer.
    pub tokens_mean: Option<f64>,
}

/// The ratings of all players by some judges.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Ratings {
    /// The players, best first.
    pub standings: Vec<Standing>,
    /// The record of each player (row) against each other (column), in the order of [`ArenaResult::players`].
    pub matrix: Vec<Vec<PairRecord>>,
}

/// The ratings of all players on the questions of a slice.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SliceRatings {
    /// The slice.
    #[serde(flatten)]
    pub slice: Slice,
    /// The number of its questions.
    pub questions: usize,
    /// The number of comparisons on its questions.
    pub comparisons: usize,
    /// The ratings; absent where the games are too few.
    pub ratings: Option<Ratings>,
    /// The reason why the games are too few.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub too_few: Option<String>,
}

/// A player's record against another.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct PairRecord {
    /// The number of verdicts on the two players.
    pub games: usize,
    /// The number of wins, with a tie counted half.
    pub wins: f64,
    /// The number of ties.
    pub ties: usize,
}

impl PairRecord {
    /// The fraction of games won; absent without games.
    pub fn win_rate(&self) -> Option<f64> {
        (self.games > 0).then(|| self.wins / self.games as f64)
    }

    pub(super) fn add(&mut self, win: f64) {
        self.games += 1;
        self.wins += win;
        self.ties += usize::from((win - 0.5).abs() < f64::EPSILON);
    }
}

/// The rank and rating of a player.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Standing {
    /// The rank, from 1, the best.
    pub rank: usize,
    /// The player's name.
    pub player: String,
    /// The Bradley-Terry rating, in Elo points around 1500.
    pub elo: f64,
    /// The ends of the rating's 95% interval.
    pub interval: Option<(f64, f64)>,
    /// The rating by Elo's sequential updates, which depends on the order of the games.
    pub sequential_elo: f64,
    /// The player's games and wins.
    #[serde(flatten)]
    pub record: PairRecord,
    /// The fraction of games won; absent without games.
    pub win_rate: Option<f64>,
    /// The lead over the next player; absent for the last player.
    pub next: Option<Lead>,
    /// The ratings of the player's models, where it has several and all judges are pooled.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub seeds: Vec<SeedStanding>,
}

/// A player's lead over another.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Lead {
    /// The name of the other player.
    pub over: String,
    /// The lead in Elo points.
    pub points: f64,
    /// The ends of the lead's 95% interval.
    pub interval: Option<(f64, f64)>,
    /// Whether the interval excludes 0.
    pub separable: bool,
    /// The approximate number of further games of the two after which the lead would be separable.
    ///
    /// 0 if it already is; absent if no feasible number suffices.
    pub further_games: Option<u64>,
}

/// The rating of one of a player's models among the models of all players.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SeedStanding {
    /// The seed of the model.
    pub seed: Option<u64>,
    /// The Bradley-Terry rating, in Elo points around 1500.
    pub elo: f64,
    /// The ends of the rating's 95% interval.
    pub interval: Option<(f64, f64)>,
    /// The model's games and wins.
    #[serde(flatten)]
    pub record: PairRecord,
}

/// The results of one judge.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct JudgeResult {
    /// The judge's name.
    pub name: String,
    /// The ratings by this judge's verdicts alone.
    pub ratings: Ratings,
    /// The number of comparisons that the judge read or measured.
    pub verdicts: usize,
    /// The number of comparisons that needed no verdict: equal answers, or an empty one.
    pub settled: usize,
    /// The number of missing verdicts by reason.
    pub missing: BTreeMap<String, usize>,
    /// The judge's position bias; absent where nothing was read in two orders.
    pub position: Option<PositionBias>,
}

/// The agreement between judges.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct JudgeAgreement {
    /// The measure: `cohen_kappa` (two judges), `fleiss_kappa` (more), or `krippendorff_alpha` where some verdicts are
    /// missing.
    pub measure: String,
    /// The value of the measure; absent where nothing can be compared, or all verdicts are the same.
    pub value: Option<f64>,
    /// The number of compared items: verdicts in one order for the kappas, verdicts in both orders for alpha.
    pub items: usize,
}
