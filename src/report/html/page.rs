//! Renders the page from its templates.

use super::data::Report;
use super::filters;
use super::view::View;
use minijinja::value::Serde;
use minijinja::{AutoEscape, Environment, UndefinedBehavior};

/// The templates by their names.
const TEMPLATES: [(&str, &str); 15] = [
    ("page.html", include_str!("page.html")),
    ("sections/problems.html", include_str!("sections/problems.html")),
    ("sections/summary.html", include_str!("sections/summary.html")),
    ("sections/arms.html", include_str!("sections/arms.html")),
    ("sections/ratings.html", include_str!("sections/ratings.html")),
    ("sections/scores.html", include_str!("sections/scores.html")),
    ("sections/slices.html", include_str!("sections/slices.html")),
    ("sections/mix.html", include_str!("sections/mix.html")),
    ("sections/curves.html", include_str!("sections/curves.html")),
    ("sections/behaviour.html", include_str!("sections/behaviour.html")),
    ("sections/probes.html", include_str!("sections/probes.html")),
    ("sections/completions.html", include_str!("sections/completions.html")),
    ("sections/stages.html", include_str!("sections/stages.html")),
    ("sections/cost.html", include_str!("sections/cost.html")),
    ("sections/recipes.html", include_str!("sections/recipes.html")),
];

/// Renders the report as a page.
///
/// # Errors
/// A template does not fit the report, which would be a bug of this program.
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
