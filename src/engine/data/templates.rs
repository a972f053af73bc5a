//! minijinja templates over the fields of a row.

use super::rows::Row;
use crate::error::{StageError, StageResult};
use crate::rendering;
use minijinja::value::Serde;
use minijinja::{Environment, ErrorKind, UndefinedBehavior};
use serde_json::Value;

/// A template of a data set.
pub(super) struct Template {
    name: &'static str,
    environment: Environment<'static>,
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
        Ok(Self { name, environment })
    }

    /// Compiles a template of a data set if there is one.
    pub(super) fn optional(name: &'static str, source: Option<&String>) -> StageResult<Option<Self>> {
        source.map(|source| Self::new(name, source)).transpose()
    }

    /// Renders the text of `row`.
    pub(super) fn render(&self, row: &Row) -> StageResult<String> {
        let template = self.environment.get_template(self.name).expect("it was added when compiling");
        let fields = minijinja::Value::from(Serde(&row.fields));
        rendering::render(&template, fields).map_err(|error| self.explain(&error, row))
    }

    fn explain(&self, error: &minijinja::Error, row: &Row) -> StageError {
        let at = &row.location;
        let fields: Vec<&str> = row.fields.keys().map(String::as_str).collect();
        let missing: Vec<String> = if error.kind() == ErrorKind::UndefinedError {
            let template = self.environment.get_template(self.name).expect("it was added when compiling");
            let mut names: Vec<String> =
                template.undeclared_variables(false).into_iter().filter(|n| !row.fields.contains_key(n)).collect();
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
