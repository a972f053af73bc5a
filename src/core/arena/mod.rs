//! Arenas: which pairs are compared ([`Schedule`]), what judges say ([`Comparison`], [`ComparisonVerdict`]), and the
//! ratings that follow ([`rate`], [`ArenaResult`]). Pure; models and judges belong to the engine's stage, printing to
//! `report`.
//!
//! A *player* is an arm of a recipe, made of one *model* a seed. All models answer the same questions. A *comparison* is of the
//! answers of two models to one question, by every judge. In ratings it is one game,
//! whose result is the mean over judges and orders; tables count verdicts.
//!
//! A verdict that is missing is in no game. It is counted, by judge and reason, and reported ([`ArenaResult::notes`]).

mod agreement;
mod comparison;
mod notes;
mod rating;
#[cfg(test)]
mod rating_tests;
mod result;
mod schedule;
#[cfg(test)]
mod testing;

pub use comparison::{ArenaQuestion, Better, Comparison, ComparisonVerdict};
pub use rating::{Answers, rate};
pub use result::{
    ArenaModel, ArenaPlayer, ArenaResult, JudgeAgreement, JudgeResult, Lead, PairRecord, Ratings, SeedStanding,
    Standing,
};
pub use schedule::{Match, Schedule};

/// The file of an arena's result that holds it whole.
pub const ARENA: &str = "arena.json";
/// The file of an arena's result with a line for each comparison and judge.
pub const COMPARISONS: &str = "comparisons.jsonl";
