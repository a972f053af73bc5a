//! The stage kinds, each with its loop, and the code they share. `cpt` and `sft` share the loop in `supervised`.

mod arena;
mod cpt;
mod eval;
mod generate;
mod grpo;
mod scoring;
mod sft;
mod stage;
mod supervised;
mod supervisor;
mod training;

pub use grpo::{Rated, Reference, Sums, TokenAdvantages, UpdateOptions, accumulate as accumulate_rated};
pub(crate) use scoring::{judge_access, load_reward_mix, unbuilt, unrated};
pub use stage::*;
pub use supervised::accumulate;
