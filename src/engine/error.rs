//! The engine's error: a class that decides about retries, a sentence, and a hint.

use orchestrate_core::event::{Failure, FailureClass};
use std::path::Path;

/// Why a stage cannot go on.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub struct StageError {
    /// The kind of failure.
    pub class: FailureClass,
    /// One sentence with the file and line it concerns.
    pub message: String,
    /// What to do about it.
    pub hint: Option<String>,
}

/// A result whose error ends the stage.
pub type StageResult<T> = Result<T, StageError>;

impl StageError {
    /// Data, model and recipe do not fit.
    pub fn input(message: impl Into<String>) -> Self {
        Self { class: FailureClass::Input, message: message.into(), hint: None }
    }

    /// A file could not be read or written.
    pub fn io(path: &Path, error: &std::io::Error) -> Self {
        Self { class: FailureClass::Io, message: format!("`{}`: {error}", path.display()), hint: None }
    }

    /// The loss or a gradient is not finite.
    pub fn non_finite(message: impl Into<String>) -> Self {
        Self { class: FailureClass::NonFinite, message: message.into(), hint: None }
    }

    /// A `command` stage reached the engine, though `orchestrate` runs its program itself.
    pub fn no_worker_for(stage: &str) -> Self {
        Self::input(format!("internal error: `{stage}` is a `command` stage, which `orchestrate-worker` does not run"))
    }

    /// Adds what to do about it.
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

impl From<StageError> for Failure {
    fn from(error: StageError) -> Self {
        Self { class: error.class, message: error.message, hint: error.hint }
    }
}
