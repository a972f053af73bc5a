//! Errors as the user sees them: message, causes, hints and exit code. Only this module decides on their form and exit
//! codes.

use crate::exec::ExecError;
use crate::history::{IndexError, LogDamage};
use crate::printable::harmless;
use crate::recipe::RecipeError;
use crate::run::RunError;
use crate::store::StoreError;
use crate::workspace::{WorkspaceError, io_hint};
use serde_json::json;
use std::error::Error;
use std::io::{self, IsTerminal as _, Write as _};
use std::process::ExitCode;

/// The kinds of endings. Their numbers are documented in `orchestrate --help` and stable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// An unexpected error.
    Internal = 1,
    /// The command line is invalid.
    Usage = 2,
    /// A recipe is invalid.
    Recipe = 3,
    /// A stage failed.
    StageFailed = 4,
    /// The requested item does not exist.
    NothingMatched = 5,
    /// A checkpoint differs from its manifest.
    CorruptCache = 6,
    /// A stage that was run again gave another result.
    Differs = 7,
    /// The user stopped the command.
    Interrupted = 130,
}

/// The error of a command.
#[derive(Debug)]
pub(super) struct CliError {
    kind: Kind,
    /// Absent if the error was already reported.
    message: Option<String>,
    causes: Vec<String>,
    hints: Vec<String>,
    recipe: Option<RecipeError>,
    broken_pipe: bool,
}

impl CliError {
    /// Creates an error of this kind.
    pub(super) fn new(kind: Kind, message: impl Into<String>) -> Self {
        Self { message: Some(message.into()), ..Self::said(kind) }
    }

    /// Creates an error that was already reported to the user.
    pub(super) fn said(kind: Kind) -> Self {
        Self { kind, message: None, causes: Vec::new(), hints: Vec::new(), recipe: None, broken_pipe: false }
    }

    /// Creates an error for a requested item that does not exist.
    pub(super) fn nothing(message: impl Into<String>) -> Self {
        Self::new(Kind::NothingMatched, message)
    }

    /// Creates an error of this kind with the message and causes of `error`.
    pub(super) fn from_error(kind: Kind, error: &dyn Error) -> Self {
        let mut found = Self::new(kind, error.to_string());
        let mut source = error.source();
        while let Some(cause) = source {
            let text = cause.to_string();
            if found.message.as_deref().is_none_or(|message| !message.contains(&text)) {
                found.causes.push(text);
            }
            source = cause.source();
        }
        found
    }

    /// Returns the message and the causes in one line.
    pub(super) fn sentence(&self) -> String {
        let message = self.message.clone().into_iter();
        message.chain(self.causes.iter().cloned()).collect::<Vec<_>>().join(": ")
    }

    /// Returns the hints.
    pub(super) fn hints(&self) -> &[String] {
        &self.hints
    }

    /// Adds a hint.
    #[must_use]
    pub(super) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hints.push(hint.into());
        self
    }

    /// Creates the error of a failed write to stdout.
    pub(super) fn stdout(error: &io::Error) -> Self {
        let broken_pipe = error.kind() == io::ErrorKind::BrokenPipe;
        Self { broken_pipe, ..Self::from_error(Kind::Internal, error) }
    }

    /// Reports the error to the user and returns the exit code.
    pub(super) fn report(self, json: bool, width: usize) -> ExitCode {
        if self.broken_pipe {
            return ExitCode::SUCCESS; // the reader has closed the pipe on purpose
        }
        // A failed write to stderr cannot be reported.
        let _ = if json { self.write_json() } else { self.write_text(width) };
        ExitCode::from(self.kind as u8)
    }

    fn write_text(&self, width: usize) -> io::Result<()> {
        let mut err = io::stderr().lock();
        if let Some(recipe) = &self.recipe {
            let colour = err.is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
            writeln!(err, "{}", recipe.render(width, colour).trim_end())?;
        } else if let Some(message) = &self.message {
            writeln!(err, "error: {}", harmless(message))?;
        }
        for cause in &self.causes {
            writeln!(err, "  caused by: {}", harmless(cause))?;
        }
        for hint in &self.hints {
            writeln!(err, "hint: {}", harmless(hint))?;
        }
        Ok(())
    }

    fn write_json(&self) -> io::Result<()> {
        let Some(message) = &self.message else { return Ok(()) };
        let problems = self.recipe.as_ref().map(RecipeError::to_json);
        let object = json!({
            "error": message, "code": self.kind as u8, "causes": self.causes, "hints": self.hints, "problems": problems,
        });
        writeln!(io::stderr(), "{object}")
    }
}

impl From<RecipeError> for CliError {
    fn from(error: RecipeError) -> Self {
        Self { recipe: Some(error.clone()), ..Self::new(Kind::Recipe, error.to_string()) }
    }
}

impl From<io::Error> for CliError {
    fn from(error: io::Error) -> Self {
        match LogDamage::in_error(&error) {
            Some(damage) => damage.clone().into(),
            None => Self::from_error(Kind::Internal, &error),
        }
    }
}

impl From<LogDamage> for CliError {
    fn from(damage: LogDamage) -> Self {
        Self::from_error(Kind::CorruptCache, &damage).hint(damage.hint())
    }
}

impl From<ExecError> for CliError {
    fn from(error: ExecError) -> Self {
        let found = Self::from_error(Kind::Internal, &error);
        match error {
            ExecError::NotFound { .. } => found
                .hint("`cargo build --release` builds `orchestrate-worker` beside `orchestrate`")
                .hint("or name one with `ORCHESTRATE_WORKER=/path/to/orchestrate-worker`"),
            ExecError::Start { .. } | ExecError::Version { .. } | ExecError::Inspection { .. } => {
                found.hint("see `orchestrate doctor`")
            }
            ExecError::CurrentExe(_) | ExecError::AttemptGone | ExecError::Log(_) | ExecError::Wait(_) => found,
        }
    }
}

impl From<WorkspaceError> for CliError {
    fn from(error: WorkspaceError) -> Self {
        let error = match error {
            WorkspaceError::Io(error) if LogDamage::in_error(&error).is_some() => return error.into(),
            error => error,
        };
        let kind = if matches!(error, WorkspaceError::Malformed { .. }) { Kind::CorruptCache } else { Kind::Internal };
        let found = Self::from_error(kind, &error);
        match error.hint() {
            Some(hint) => found.hint(hint),
            None => found,
        }
    }
}

impl From<StoreError> for CliError {
    fn from(error: StoreError) -> Self {
        let kind = match error {
            StoreError::Missing { .. } => Kind::NothingMatched,
            StoreError::Statement(_) => Kind::Usage,
            StoreError::Open { .. }
            | StoreError::Migrate { .. }
            | StoreError::Network { .. }
            | StoreError::OtherProject { .. } => Kind::Internal,
        };
        Self::from_error(kind, &error).hint(error.hint())
    }
}

impl From<IndexError> for CliError {
    fn from(error: IndexError) -> Self {
        match error {
            IndexError::Store(error) => error.into(),
            IndexError::Workspace(error) => error.into(),
            IndexError::Io(error) => error.into(),
        }
    }
}

impl From<RunError> for CliError {
    fn from(error: RunError) -> Self {
        match error {
            RunError::Workspace(error) => error.into(),
            RunError::Exec(error) => error.into(),
            RunError::Io { ref source, .. } => {
                let found = Self::from_error(Kind::Internal, &error);
                match io_hint(source) {
                    Some(hint) => found.hint(hint),
                    None => found,
                }
            }
        }
    }
}
