//! The engine's error: a class that decides about retries, a message, and a hint.

use orchestrate_core::data::DataError;
use orchestrate_core::event::{Failure, FailureClass};
use std::path::Path;

/// The reason why a stage cannot continue.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub struct StageError {
    /// The class of the failure.
    pub class: FailureClass,
    /// One sentence that names the file and line it concerns.
    pub message: String,
    /// A suggestion how to fix the problem.
    pub hint: Option<String>,
}

/// A result whose error ends the stage.
pub type StageResult<T> = Result<T, StageError>;

impl StageError {
    /// Creates an error for data, a model or a recipe that is invalid or does not match the others.
    pub fn input(message: impl Into<String>) -> Self {
        Self { class: FailureClass::Input, message: message.into(), hint: None }
    }

    /// Creates an error for a file that could not be read or written.
    pub fn io(path: &Path, error: &std::io::Error) -> Self {
        Self { class: FailureClass::Io, message: format!("`{}`: {error}", path.display()), hint: None }
    }

    /// Creates an error for a loss or gradient that is not finite.
    pub fn non_finite(message: impl Into<String>) -> Self {
        Self { class: FailureClass::NonFinite, message: message.into(), hint: None }
    }

    /// Creates an error for a `command` stage, whose program `orchestrate` runs without the engine.
    pub fn no_worker_for(stage: &str) -> Self {
        Self::input(format!("internal error: `{stage}` is a `command` stage, which `orchestrate-worker` does not run"))
    }

    /// Adds a suggestion how to fix the problem.
    #[must_use]
    pub fn hinted(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }
}

impl From<std::io::Error> for StageError {
    fn from(error: std::io::Error) -> Self {
        Self { class: FailureClass::Io, message: error.to_string(), hint: None }
    }
}

impl From<DataError> for StageError {
    fn from(error: DataError) -> Self {
        let class = if error.io { FailureClass::Io } else { FailureClass::Input };
        Self { class, message: error.message, hint: error.hint }
    }
}

impl From<StageError> for Failure {
    fn from(error: StageError) -> Self {
        Self { class: error.class, message: error.message, hint: error.hint }
    }
}
