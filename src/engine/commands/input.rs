//! The lines of a request. All are read and checked before the model is loaded, so a malformed line costs no time.

use crate::error::{StageError, StageResult};
use orchestrate::exec::Input;
use serde_json::{Map, Value};
use std::io::Read as _;
use std::path::Path;

/// One line of a request.
pub(super) struct Line {
    /// `FILE:LINE`.
    pub(super) location: String,
    fields: Map<String, Value>,
}

/// Reads all lines; the text of the command line is one line with the field `text_field`.
///
/// # Errors
/// A file that cannot be read, a line that is not a JSON object, no line at all.
pub(super) fn read(input: &Input, text_field: &str) -> StageResult<Vec<Line>> {
    let (name, text) = match input {
        Input::Text(text) => {
            let fields = Map::from_iter([(text_field.to_owned(), Value::from(text.as_str()))]);
            return Ok(vec![Line { location: "--text".to_owned(), fields }]);
        }
        Input::File(path) => {
            let text = fs_err::read(path).map_err(|e| StageError::input(e.to_string()))?; // it names the file
            (path.display().to_string(), text)
        }
        Input::Stdin => {
            let mut text = Vec::new();
            std::io::stdin().read_to_end(&mut text).map_err(|e| StageError::io(Path::new("stdin"), &e))?;
            ("stdin".to_owned(), text)
        }
    };
    let mut lines = Vec::new();
    for (number, line) in (1..).zip(text.split(|&b| b == b'\n')) {
        if line.trim_ascii().is_empty() {
            continue;
        }
        let location = format!("{name}:{number}");
        match serde_json::from_slice(line) {
            Ok(Value::Object(fields)) => lines.push(Line { location, fields }),
            Ok(_) => return Err(StageError::input(format!("{location}: the line is JSON, but not an object"))),
            Err(e) => return Err(StageError::input(format!("{location}: the line is not JSON: {e}"))),
        }
    }
    if lines.is_empty() {
        return Err(StageError::input(format!("{name} has no lines")).hinted("one JSON object a line is read"));
    }
    Ok(lines)
}

impl Line {
    /// The field `name`, if it is there and not null.
    pub(super) fn field(&self, name: &str) -> Option<&Value> {
        self.fields.get(name).filter(|value| !value.is_null())
    }

    /// The text in the field `name`, if it is there.
    ///
    /// # Errors
    /// Something else than a string.
    pub(super) fn text(&self, name: &str) -> StageResult<Option<&str>> {
        let text = |value: &Value| Err(self.error(&format!("`{name}` is {value}, not a string")));
        self.field(name).map_or(Ok(None), |value| value.as_str().map_or_else(|| text(value), |text| Ok(Some(text))))
    }

    /// An error about this line.
    pub(super) fn error(&self, what: &str) -> StageError {
        StageError::input(format!("{}: {what}", self.location))
    }

    /// The error of a line that has none or several of the fields of which it needs one.
    pub(super) fn one_of(&self, names: [&str; 2]) -> StageError {
        let [a, b] = names;
        let found: Vec<String> = self.fields.keys().map(|name| format!("`{name}`")).collect();
        let found = if found.is_empty() { "nothing".to_owned() } else { found.join(", ") };
        self.error(&format!("a line has either `{a}` or `{b}`, this one has {found}"))
    }
}
