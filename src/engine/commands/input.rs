//! The lines of a request. If memory allows, all lines are read and checked before the model is loaded, so a malformed
//! line is reported early.

use crate::error::{StageError, StageResult};
use orchestrate_core::exec::Input;
use serde_json::{Map, Value};
use std::io::{BufRead, BufReader};

/// One line of a request.
pub(super) struct Line {
    /// `FILE:LINE` of the line.
    pub(super) location: String,
    fields: Map<String, Value>,
}

/// Reads all lines. Text from the command line becomes one line with the field `text_field`.
///
/// # Errors
/// Returns an error for a file that cannot be read, for a line that is not a JSON object, and if there are no lines.
pub(super) fn read(input: &Input, text_field: &str) -> StageResult<Vec<Line>> {
    let lines: Vec<Line> = stream(input, text_field)?.collect::<StageResult<_>>()?;
    if lines.is_empty() { Err(no_lines(input)) } else { Ok(lines) }
}

/// Streams the lines. A line that is not a JSON object is an error at its position.
///
/// # Errors
/// Returns an error for a file that cannot be opened.
pub(super) fn stream(input: &Input, text_field: &str) -> StageResult<Box<dyn Iterator<Item = StageResult<Line>>>> {
    let name = name(input);
    let reader: Box<dyn BufRead> = match input {
        Input::Text(text) => {
            let fields = Map::from_iter([(text_field.to_owned(), Value::from(text.as_str()))]);
            return Ok(Box::new(std::iter::once(Ok(Line { location: name, fields }))));
        }
        Input::File(path) => {
            let file = fs_err::File::open(path).map_err(|e| StageError::input(e.to_string()))?; // it names the path
            Box::new(BufReader::new(file))
        }
        Input::Stdin => Box::new(BufReader::new(std::io::stdin())),
    };
    let parsed = move |(number, line): (u64, std::io::Result<Vec<u8>>)| {
        let location = format!("{name}:{number}");
        let line = match line {
            Ok(line) if line.trim_ascii().is_empty() => return None,
            Ok(line) => line,
            Err(e) => return Some(Err(StageError::input(format!("{location}: {e}")))),
        };
        Some(match serde_json::from_slice(&line) {
            Ok(Value::Object(fields)) => Ok(Line { location, fields }),
            Ok(_) => Err(StageError::input(format!("{location}: the line is JSON, but not an object"))),
            Err(e) => Err(StageError::input(format!("{location}: the line is not JSON: {e}"))),
        })
    };
    Ok(Box::new((1..).zip(reader.split(b'\n')).filter_map(parsed)))
}

/// Returns the error for an input without lines.
pub(super) fn no_lines(input: &Input) -> StageError {
    StageError::input(format!("{} has no lines", name(input))).hinted("one JSON object a line is read")
}

fn name(input: &Input) -> String {
    match input {
        Input::Text(_) => "--text".to_owned(),
        Input::File(path) => path.display().to_string(),
        Input::Stdin => "stdin".to_owned(),
    }
}

impl Line {
    /// Returns the field `name` if it exists and is not null.
    pub(super) fn field(&self, name: &str) -> Option<&Value> {
        self.fields.get(name).filter(|value| !value.is_null())
    }

    /// Returns the text in the field `name` if it exists.
    ///
    /// # Errors
    /// Returns an error if the field is not a string.
    pub(super) fn text(&self, name: &str) -> StageResult<Option<&str>> {
        let text = |value: &Value| Err(self.error(&format!("`{name}` is {value}, not a string")));
        self.field(name).map_or(Ok(None), |value| value.as_str().map_or_else(|| text(value), |text| Ok(Some(text))))
    }

    /// Returns an error about this line.
    pub(super) fn error(&self, what: &str) -> StageError {
        StageError::input(format!("{}: {what}", self.location))
    }

    /// Returns the error for a line with none or both of two fields of which it needs one.
    pub(super) fn one_of(&self, names: [&str; 2]) -> StageError {
        let [a, b] = names;
        let found: Vec<String> = self.fields.keys().map(|name| format!("`{name}`")).collect();
        let found = if found.is_empty() { "nothing".to_owned() } else { found.join(", ") };
        self.error(&format!("a line has either `{a}` or `{b}`, this one has {found}"))
    }
}
