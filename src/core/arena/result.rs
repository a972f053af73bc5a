//! What an arena found: `arena.json`.

use crate::rewards::PositionBias;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// All of it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ArenaResult {
    /// Questions that all models answered.
    pub questions: usize,
    /// How answers were drawn, in words: `greedy`, or with what.
    pub sampling: String,
    /// Pairs of answers that were compared.
    pub comparisons: usize,
    /// Pairs of answers that there are.
    pub possible_comparisons: usize,
    /// How they were chosen, in words.
    pub pairs: String,
    /// Standard deviation of the prior round 1500, in Elo points.
    pub prior_sd: f64,
    /// Bootstrap resamples of the questions behind each 95% interval.
    pub bootstrap_resamples: u32,
    /// Points that a game moves the sequential rating by, at most.
    pub sequential_k: f64,
    /// Who played.
    pub players: Vec<ArenaPlayer>,
    /// Ratings by the verdicts of all judges together.
    pub pooled: Ratings,
    /// Each judge.
    pub judges: Vec<JudgeResult>,
    /// How far several judges agree beyond chance.
    pub agreement: Option<JudgeAgreement>,
    /// What a reader must know, in sentences: missing verdicts, missing seeds, games that were not played.
    pub notes: Vec<String>,
}

/// A player.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ArenaPlayer {
    /// Its name.
    pub name: String,
    /// Its models, one a seed.
    pub models: Vec<ArenaModel>,
}

/// A model and its answers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ArenaModel {
    /// The seed it was trained with; absent: it was not trained.
    pub seed: Option<u64>,
    /// Questions it answered.
    pub answers: usize,
    /// Answers without a word, which lose.
    pub empty: usize,
    /// Answers that the length limit cut.
    pub truncated: usize,
    /// Mean length of an answer in tokens.
    pub tokens_mean: Option<f64>,
}

/// Ratings of all players by some judges.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Ratings {
    /// Players, the best first.
    pub standings: Vec<Standing>,
    /// What each player (row) won against each other (column), in the order of [`ArenaResult::players`].
    pub matrix: Vec<Vec<PairRecord>>,
}

/// What a player won against another.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct PairRecord {
    /// Verdicts on both.
    pub games: usize,
    /// Wins, a tie counting half.
    pub wins: f64,
    /// Verdicts that neither is better.
    pub ties: usize,
}

impl PairRecord {
    /// Share of the games that were won.
    pub fn win_rate(&self) -> Option<f64> {
        (self.games > 0).then(|| self.wins / self.games as f64)
    }

    pub(super) fn add(&mut self, win: f64) {
        self.games += 1;
        self.wins += win;
        self.ties += usize::from((win - 0.5).abs() < f64::EPSILON);
    }
}

/// Where a player stands.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Standing {
    /// From 1, the best.
    pub rank: usize,
    /// The player's name.
    pub player: String,
    /// Its Bradley-Terry rating, in Elo points round 1500.
    pub elo: f64,
    /// Ends of its 95% interval.
    pub interval: Option<(f64, f64)>,
    /// Its rating by Elo's updates, game after game, which depends on their order.
    pub sequential_elo: f64,
    /// Its games, and what it won.
    #[serde(flatten)]
    pub record: PairRecord,
    /// Share of the games that were won.
    pub win_rate: Option<f64>,
    /// Its lead over who stands next; the last one has none.
    pub next: Option<Lead>,
    /// Its models each for itself, where it has several and all judges are pooled.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub seeds: Vec<SeedStanding>,
}

/// A player's lead over another.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Lead {
    /// The other.
    pub over: String,
    /// Elo points.
    pub points: f64,
    /// Ends of its 95% interval.
    pub interval: Option<(f64, f64)>,
    /// Whether that interval does not hold 0.
    pub separable: bool,
    /// Further games of the two that would make it so, about; 0 if it is; absent if no number that can be
    /// played would.
    pub further_games: Option<u64>,
}

/// Where a model of a player stands among the models of the others.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SeedStanding {
    /// Its seed.
    pub seed: Option<u64>,
    /// Its rating.
    pub elo: f64,
    /// Ends of its 95% interval.
    pub interval: Option<(f64, f64)>,
    /// Its games, and what it won.
    #[serde(flatten)]
    pub record: PairRecord,
}

/// What is found of a judge.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct JudgeResult {
    /// Its name.
    pub name: String,
    /// Ratings by its verdicts alone.
    pub ratings: Ratings,
    /// Verdicts that it gave.
    pub verdicts: usize,
    /// Comparisons that needed none: equal answers, or an empty one.
    pub settled: usize,
    /// Verdicts that are missing, by reason.
    pub missing: BTreeMap<String, usize>,
    /// How often the place decided; absent where nothing was read in two orders.
    pub position: Option<PositionBias>,
}

/// How far judges agree.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct JudgeAgreement {
    /// `cohen_kappa` (two judges), `fleiss_kappa` (more), or where some verdicts are missing `krippendorff_alpha`.
    pub measure: String,
    /// Absent where nothing can be compared, or all verdicts are the same.
    pub value: Option<f64>,
    /// Verdicts that are compared: of kappas in either order, of alpha on both.
    pub items: usize,
}
