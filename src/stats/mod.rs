//! Error bars and comparisons: pure functions of numbers, deterministic in their seed.
//!
//! [`mean_interval`] and [`perplexity_interval`] stand behind every measurement of an evaluation;
//! [`paired_comparison`] and [`grid_comparison`] compare two variants on the same questions, [`holm`] corrects when there
//! are several comparisons; a [`Design`] is two arms with their seeds and questions, many of which [`crossed_intervals`]
//! resamples at once, [`hedges_g`] and [`cliffs_delta`] say how large a difference is, [`seeds_needed`] how many seeds would
//! show it; [`bradley_terry`] rates the players of an arena, [`choose_pairs`] says who should meet next and
//! [`further_games`] how often two still have to; [`cohen_kappa`], [`fleiss_kappa`] and [`krippendorff_alpha`] say how far
//! judges agree; [`share_interval`] is that of a share; [`pass_at`] is pass@k; [`auc`] says how well a number separates two
//! kinds; [`mean`] and its neighbours describe a list of
//! numbers.

mod agreement;
mod auc;
mod bootstrap;
mod bradley_terry;
mod correlation;
mod crossed;
mod describe;
mod draws;
mod effect;
mod paired;
mod pairing;
mod pass_at;
mod power;
mod proportion;
mod seeds;
mod separation;
mod student;
#[cfg(test)]
mod testing;
mod wins;

pub use agreement::{cohen_kappa, fleiss_kappa, kappa, krippendorff_alpha};
pub use auc::auc;
pub use bootstrap::{Document, Interval, mean_interval, perplexity_interval};
pub use bradley_terry::{
    EloBootstrap, EloError, EloScale, Game, Outcome, bootstrap_bradley_terry, bradley_terry, sequential_elo,
};
pub use correlation::correlation;
pub use crossed::{CrossedTest, Design, crossed_intervals, randomization_p_values};
pub use describe::{mean, standard_deviation, variance, welch_t};
pub use effect::{cliffs_delta, hedges_g};
pub use paired::{Comparison, GridComparison, grid_comparison, holm, paired_comparison};
pub use pairing::choose_pairs;
pub use pass_at::pass_at;
pub use power::{POWER, both_needed, questions_needed, seeds_needed};
pub use proportion::share_interval;
pub use seeds::{SeedComparison, paired_seeds, unpaired_seeds};
pub use separation::further_games;
