//! Comparisons of models: each answers all questions, one model in memory at a time; then judges compare the answers.
//!
//! A resume point holds the answers and verdicts so far, so that no model answers twice and no judge is asked again.
//! Answers are kept for other arenas besides ([`kept`]), and so is what judges said, in the cache of judges. Everything
//! that is drawn, and which pair is compared next, depends on the seed and on what was found before alone.

mod answers;
mod judges;
mod kept;
mod stage;

pub(super) use stage::*;
