//! Arenas: the comparisons to make ([`Schedule`]), the verdicts of judges ([`Comparison`], [`ComparisonVerdict`]), and
//! the ratings that follow ([`rate`], [`ArenaResult`]).
//!
//! All of it is pure. The engine's stage runs models and judges, and `report` prints results.
//!
//! A *player* is an arm of a recipe, with one *model* per seed. All models answer the same questions. In a
//! *comparison*, every judge compares the answers of two models to one question. Ratings count it as one game, whose
//! score is the mean over judges and orders. Tables count verdicts.
//!
//! A missing verdict is left out of all games. It is counted, by judge and reason, and reported
//! ([`ArenaResult::notes`]).

mod agreement;
mod comparison;
mod notes;
mod rating;
#[cfg(test)]
mod rating_tests;
mod result;
mod schedule;
mod slices;
#[cfg(test)]
mod testing;

pub use comparison::{ArenaQuestion, Better, Comparison, ComparisonVerdict};
pub use rating::{Answers, rate};
pub use result::{
    ArenaModel, ArenaPlayer, ArenaResult, JudgeAgreement, JudgeResult, Lead, PairRecord, Ratings, SeedStanding,
    SliceRatings, Standing,
};
pub use schedule::{Match, Schedule};

/// The file with an arena's complete result.
pub const ARENA: &str = "arena.json";
/// The file with a line for each comparison and judge.
pub const COMPARISONS: &str = "comparisons.jsonl";
