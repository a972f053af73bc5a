//! `orchestrate run --until-separable ARM`: rounds of runs, each with more seeds for the arms whose comparison is open.
//!
//! A round is a run like any other: its new seeds are variants that `sweep.matrix.seed` would make, so they have the
//! same cache keys. Its invocation records the search. `evidence::SeedSearch` decides what follows from the results,
//! and `resume` goes on with the round that was interrupted.

mod begin;
mod output;
mod rounds;
mod seeds;

pub(super) use begin::begin;
pub(super) use rounds::go_on;
