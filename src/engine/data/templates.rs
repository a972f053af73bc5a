//! minijinja templates over the fields of a row.

use crate::error::{StageError, StageResult};
use crate::rendering;
use minijinja::value::Serde;
use minijinja::{Environment, ErrorKind, UndefinedBehavior};
use orchestrate_core::data::Row;
use serde_json::Value;
use std::collections::HashSet;

/// A template of a data set.
pub(super) struct Template {
    name: &'static str,
    environment: Environment<'static>,
    /// The fields that the template names.
    fields: HashSet<String>,
}

impl Template {
    /// Compiles the template `name` of a data set. A field that a row lacks is an error, not an empty text.
    pub(super) fn new(name: &'static str, source: &str) -> StageResult<Self> {
        let mut environment = Environment::new();
        environment.set_undefined_behavior(UndefinedBehavior::Strict);
        environment.set_fuel(Some(rendering::FUEL));
        environment
            .add_template_owned(name, source.to_owned())
            .map_err(|e| StageError::input(format!("the template `{name}` does not compile: {e}")))?;
        let fields = environment.get_template(name).expect("it was added").undeclared_variables(false);
        Ok(Self { name, environment, fields })
    }

    /// Compiles a template of a data set if there is one.
    pub(super) fn optional(name: &'static str, source: Option<&String>) -> StageResult<Option<Self>> {
        source.map(|source| Self::new(name, source)).transpose()
    }

    /// Renders the text of `row`. A row to which a stage gave no answer is an error if the template names the answer.
    pub(super) fn render(&self, row: &Row) -> StageResult<String> {
        if let Some(field) = self.unanswered(row) {
            let message = format!("{}: no stage has answered the row, so it has no `{field}`", row.location);
            return Err(StageError::input(message)
                .hinted(format!("leave such rows out with `where = \"{field}\"` under the data set")));
        }
        let template = self.environment.get_template(self.name).expect("it was added when compiling");
        let fields = minijinja::Value::from(Serde(&row.fields));
        rendering::render(&template, fields).map_err(|error| self.explain(&error, row))
    }

    /// Renders the text of `row`, or returns `None` if the template names the answer of a stage that the row lacks.
    pub(super) fn render_if_answered(&self, row: &Row) -> StageResult<Option<String>> {
        if self.unanswered(row).is_some() { Ok(None) } else { self.render(row).map(Some) }
    }

    /// Returns the field of a stage's answer that the template names and `row` lacks.
    fn unanswered<'r>(&self, row: &'r Row) -> Option<&'r str> {
        let field = row.joined.as_deref()?;
        let lacks = row.fields.get(field).is_none_or(Value::is_null);
        (lacks && self.fields.contains(field)).then_some(field)
    }

    fn explain(&self, error: &minijinja::Error, row: &Row) -> StageError {
        let at = &row.location;
        let fields: Vec<&str> = row.fields.keys().map(String::as_str).collect();
        let missing: Vec<String> = if error.kind() == ErrorKind::UndefinedError {
            let mut names: Vec<&String> = self.fields.iter().filter(|name| !row.fields.contains_key(*name)).collect();
            names.sort();
            names.into_iter().map(|name| format!("`{name}`")).collect()
        } else {
            Vec::new()
        };
        if missing.is_empty() {
            return StageError::input(format!("{at}: the template `{}` does not render: {error}", self.name));
        }
        StageError::input(format!(
            "{at}: the row lacks {}, which the template `{}` needs",
            missing.join(", "),
            self.name
        ))
        .hinted(format!("the row has the fields {}", fields.join(", ")))
    }
}

/// Returns the field `text`, the text of a document without a template.
pub(super) fn text_field(row: &Row) -> StageResult<String> {
    match row.fields.get("text") {
        Some(Value::String(text)) => Ok(text.clone()),
        _ => Err(StageError::input(format!("{}: the row has no text in the field `text`", row.location))
            .hinted("say with `text = \"{{ ... }}\"` under the data set what the document is")),
    }
}
