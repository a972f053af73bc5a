//! The report as one self-contained page.
//!
//! ```text
//! Evidence, stages, costs, recipes -> Report (plain values)
//!     -> page.html, sections/*.html (minijinja) + style.css, script.js
//! ```
//!
//! The page loads no other file: it contains its style and its script. A content security policy with their hashes
//! forbids all others. Text from a model or a data set is never markup. The templates escape it. The completions are
//! JSON in which `<` cannot occur, from which the script makes text nodes.
//!
//! The same files give the same page: it does not depend on time, random numbers or the order of a hash map.

mod behaviour;
mod completions;
mod curves;
mod data;
mod estimates;
mod filters;
mod mix;
mod page;
mod probes;
mod scores;
mod slices;
mod verdicts;
mod view;

pub use behaviour::behaviour;
pub use completions::{DEFAULT_COMPLETIONS, completions};
pub use curves::curves;
pub use data::{
    Arm, Behaviour, CompletionView, Completions, Component, Cost, CostRow, Curve, MixRow, MixView, OverKl, ProbeCell,
    ProbeRow, ProbeTable, Problem, QuestionView, Rating, RatingSlice, RatingSlices, RecipeText, Report, RunLine,
    ScoreCell, Scores, Severity, SliceMap, SliceRow, StageRow, Stages, VerdictRow, VerdictView,
};
pub use estimates::{Estimates, estimates};
pub use filters::p_value;
pub use mix::mixes;
pub use page::html_page;
pub use probes::probes;
pub use scores::scores;
pub use slices::slices;
pub use verdicts::verdicts;

#[cfg(test)]
mod tests;
