//! The reason why a data set cannot be read.

/// The reason why a data set cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct DataError {
    /// One sentence that names the file and line it concerns.
    pub message: String,
    /// A suggestion how to fix the problem.
    pub hint: Option<String>,
    /// Whether a file could not be read, whatever its content.
    pub io: bool,
}

impl DataError {
    /// Creates an error for the content of a file.
    pub fn content(message: impl Into<String>) -> Self {
        Self { message: message.into(), hint: None, io: false }
    }

    /// Creates an error for a file that cannot be read.
    pub fn io(path: &std::path::Path, error: &std::io::Error) -> Self {
        Self { message: format!("`{}`: {error}", path.display()), hint: None, io: true }
    }

    /// Adds a suggestion how to fix the problem.
    #[must_use]
    pub fn hinted(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }
}
