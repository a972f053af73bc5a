//! Errors as the user sees them: what went wrong, why, what to do, and the exit code. The only place that decides either.

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

/// Kinds of ending; the numbers are documented in `orchestrate --help` and never change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// Something that should not happen.
    Internal = 1,
    /// The command line is wrong.
    Usage = 2,
    /// A recipe is wrong.
    Recipe = 3,
    /// A stage failed.
    StageFailed = 4,
    /// What was asked for does not exist.
    NothingMatched = 5,
    /// A checkpoint is not what its manifest says.
    CorruptCache = 6,
    /// A stage that was run again made something else.
    Differs = 7,
    /// Stopped by the user.
    Interrupted = 130,
}

/// Why a command did not succeed.
#[derive(Debug)]
pub(super) struct CliError {
    kind: Kind,
    /// Absent: everything was said already.
    message: Option<String>,
    causes: Vec<String>,
    hints: Vec<String>,
    recipe: Option<RecipeError>,
    broken_pipe: bool,
}

impl CliError {
    /// An error of this kind.
    pub(super) fn new(kind: Kind, message: impl Into<String>) -> Self {
        Self { message: Some(message.into()), ..Self::said(kind) }
    }

    /// An error that has been reported to the user already.
    pub(super) fn said(kind: Kind) -> Self {
        Self { kind, message: None, causes: Vec::new(), hints: Vec::new(), recipe: None, broken_pipe: false }
    }

    /// What was asked for does not exist.
    pub(super) fn nothing(message: impl Into<String>) -> Self {
        Self::new(Kind::NothingMatched, message)
    }

    /// An error of this kind with the causes that `error` knows.
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

    /// What went wrong and why, in a line.
    pub(super) fn sentence(&self) -> String {
        let message = self.message.clone().into_iter();
        message.chain(self.causes.iter().cloned()).collect::<Vec<_>>().join(": ")
    }

    /// What to do.
    pub(super) fn hints(&self) -> &[String] {
        &self.hints
    }

    /// Adds what to do.
    #[must_use]
    pub(super) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hints.push(hint.into());
        self
    }

    /// Writing to stdout failed.
    pub(super) fn stdout(error: &io::Error) -> Self {
        let broken_pipe = error.kind() == io::ErrorKind::BrokenPipe;
        Self { broken_pipe, ..Self::from_error(Kind::Internal, error) }
    }

    /// Tells the user and gives the exit code.
    pub(super) fn report(self, json: bool, width: usize) -> ExitCode {
        if self.broken_pipe {
            return ExitCode::SUCCESS; // whoever read has seen enough
        }
        // With stderr gone there is nobody left to tell.
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
