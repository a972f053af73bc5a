//! Intervals, tests and ratings: pure functions of numbers, deterministic in their seed.
//!
//! - Measurements of an evaluation: [`mean_interval`], [`bounded_interval`] or [`perplexity_interval`], by kind of
//!   metric. [`share_interval`] is the interval of a proportion.
//! - Comparisons: a [`Design`] is two arms with their seeds and questions, and [`crossed_tests`] compares them.
//!   [`holm`] corrects for several comparisons. [`hedges_g`] and [`cliffs_delta`] are effect sizes. [`seeds_needed`]
//!   estimates how many seeds would show a difference. [`RepeatedTest`] is the test that is repeated as seeds are
//!   added.
//! - Arenas: [`bradley_terry`] rates players, [`choose_pairs`] chooses the next pairs, and [`further_games`] estimates
//!   how many more games would separate two players.
//! - Agreement of judges: [`cohen_kappa`], [`fleiss_kappa`] and [`krippendorff_alpha`].
//! - Others: [`pass_at`] is pass@k, [`maj_at`] is maj@k, [`auc`] measures how well a number separates two classes, and
//!   [`mean`] and its neighbours describe a list of numbers.

mod agreement;
mod auc;
mod bootstrap;
mod bradley_terry;
mod correlation;
mod crossed;
mod describe;
mod effect;
mod holm;
mod kendall;
mod majority;
mod pairing;
mod pass_at;
mod power;
mod proportion;
mod repeated;
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
pub use kendall::kendall_tau;
pub use majority::maj_at;
pub use pairing::choose_pairs;
pub use pass_at::pass_at;
pub use power::{POWER, both_needed, likely_variance, questions_needed, seeds_needed};
pub use proportion::{bounded_interval, mean_interval, share_interval};
pub use repeated::RepeatedTest;
pub use seeds::{SeedComparison, paired_seeds, unpaired_seeds};
pub use separation::further_games;
pub use studentized::{Document, perplexity_interval};
