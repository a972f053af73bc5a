//! Error bars and comparisons: pure functions of numbers, deterministic in their seed.
//!
//! [`mean_interval`], [`bounded_interval`] and [`perplexity_interval`] stand behind every measurement of an evaluation, by
//! kind of metric; [`share_interval`] is that of a share. A [`Design`] is two arms with their seeds and questions, which
//! [`crossed_tests`] compares; [`holm`] corrects when there are several comparisons, [`hedges_g`] and [`cliffs_delta`] say how
//! large a difference is, [`seeds_needed`] how many seeds would show it. [`bradley_terry`] rates the players of an arena,
//! [`choose_pairs`] says who should meet next and [`further_games`] how often two still have to; [`cohen_kappa`],
//! [`fleiss_kappa`] and [`krippendorff_alpha`] say how far judges agree; [`pass_at`] is pass@k; [`auc`] says how well a number
//! separates two kinds; [`mean`] and its neighbours describe a list of numbers.

mod agreement;
mod auc;
mod bootstrap;
mod bradley_terry;
mod correlation;
mod crossed;
mod describe;
mod effect;
mod holm;
mod pairing;
mod pass_at;
mod power;
mod proportion;
mod seeds;
mod separation;
mod student;
mod studentized;
#[cfg(test)]
mod testing;
mod uncertain;
mod wins;

pub use agreement::{cohen_kappa, fleiss_kappa, kappa, krippendorff_alpha};
pub use auc::auc;
pub use bootstrap::Interval;
pub use bradley_terry::{
    EloBootstrap, EloError, EloScale, Game, bootstrap_bradley_terry, bradley_terry, sequential_elo,
};
pub use correlation::correlation;
pub use crossed::{CrossedTest, Design, crossed_tests};
pub use describe::{mean, standard_deviation, variance, welch_t};
pub use effect::{cliffs_delta, hedges_g};
pub use holm::holm;
pub use pairing::choose_pairs;
pub use pass_at::pass_at;
pub use power::{POWER, both_needed, likely_variance, questions_needed, seeds_needed};
pub use proportion::{bounded_interval, mean_interval, share_interval};
pub use seeds::{SeedComparison, paired_seeds, unpaired_seeds};
pub use separation::further_games;
pub use studentized::{Document, perplexity_interval};
