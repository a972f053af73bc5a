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
pub use scores::scores;
pub use verdicts::verdicts;

use minijinja::value::Serde;
use minijinja::{AutoEscape, Environment, UndefinedBehavior};
use view::View;

/// The templates by their names.
const TEMPLATES: [(&str, &str); 12] = [
    ("page.html", include_str!("page.html")),
    ("sections/problems.html", include_str!("sections/problems.html")),
    ("sections/summary.html", include_str!("sections/summary.html")),
    ("sections/arms.html", include_str!("sections/arms.html")),
    ("sections/ratings.html", include_str!("sections/ratings.html")),
    ("sections/scores.html", include_str!("sections/scores.html")),
    ("sections/curves.html", include_str!("sections/curves.html")),
    ("sections/behaviour.html", include_str!("sections/behaviour.html")),
    ("sections/completions.html", include_str!("sections/completions.html")),
    ("sections/stages.html", include_str!("sections/stages.html")),
    ("sections/cost.html", include_str!("sections/cost.html")),
    ("sections/recipes.html", include_str!("sections/recipes.html")),
];

/// The report as a page.
///
/// # Errors
/// A template that does not fit the report, which would be a mistake in this program.
pub fn html_page(report: &Report) -> Result<String, minijinja::Error> {
    let mut environment = Environment::new();
    environment.set_undefined_behavior(UndefinedBehavior::Strict);
    environment.set_auto_escape_callback(|_| AutoEscape::Html);
    filters::add(&mut environment);
    for (name, text) in TEMPLATES {
        environment.add_template(name, text)?;
    }
    environment.get_template("page.html")?.render(minijinja::Value::from(Serde(View::of(report))))
}

#[cfg(test)]
mod tests;
