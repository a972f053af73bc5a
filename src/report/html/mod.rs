//! The report as one self-contained page.
//!
//! ```text
//! Evidence, stages, costs, recipes -> Report (plain values) -> page.html, sections/*.html (minijinja) + style.css, script.js
//! ```
//!
//! The page loads nothing: its style and its script stand in it, and a content security policy with their hashes lets no other
//! run. Whatever comes from a model or a data set is text: the templates escape it, and the completions are JSON in which
//! `<` cannot occur, from which the script makes text nodes. It is the same page for the same files: no time, no random
//! number, no order of a hash map goes into it.

mod behaviour;
mod completions;
mod curves;
mod data;
mod estimates;
mod filters;
mod page;
mod scores;
mod verdicts;
mod view;

pub use behaviour::behaviour;
pub use completions::{DEFAULT_COMPLETIONS, completions};
pub use curves::curves;
pub use data::{
    Arm, Behaviour, CompletionView, Completions, Component, Cost, CostRow, Curve, Problem, QuestionView, Rating,
    RecipeText, Report, RunLine, ScoreCell, Scores, Severity, StageRow, Stages, VerdictRow, VerdictView,
};
pub use estimates::{Estimates, estimates};
pub use filters::p_value;
pub use page::html_page;
pub use scores::scores;
pub use verdicts::verdicts;

#[cfg(test)]
mod tests;
