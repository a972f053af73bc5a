//! Comparisons of models. Each model answers all questions, with one model in memory at a time; then judges compare the
//! answers.
//!
//! A resume point holds the answers and verdicts so far, so no model answers twice and no judge call is repeated.
//! Answers are also cached for other arenas ([`kept`]), and judges' verdicts are cached in the cache of judges. All
//! draws and the choice of the next pairs depend only on the seed and on earlier results.

mod answers;
mod judges;
mod kept;
mod stage;

pub(super) use stage::*;
