//! The directories and output settings of a command.
//!
//! A project may set values for all commands in its `orchestrate.toml`:
//!
//! ```toml
//! runs_dir = "/scratch/me/runs"   # the run directory, instead of `runs`
//! ```

use super::args::GlobalArgs;
use super::error::{CliError, Kind};
use crate::report::ProgressMode;
use serde::Deserialize;
use std::future::Future;
use std::path::{Path, PathBuf};

/// The variable that names another run directory than `runs/`.
const RUNS_VARIABLE: &str = "ORCHESTRATE_RUNS";
/// The file with a project's settings for all commands.
const SETTINGS: &str = "orchestrate.toml";

/// The content of `orchestrate.toml`.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Settings {
    /// The run directory, relative to the project directory.
    runs_dir: Option<PathBuf>,
}

impl Settings {
    /// Reads the project's settings; without the file, the defaults apply.
    fn load(project: &Path) -> Result<Self, CliError> {
        let path = project.join(SETTINGS);
        let text = match std::fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Self::default()),
            Err(error) => return Err(CliError::new(Kind::Usage, format!("`{SETTINGS}` cannot be read: {error}"))),
        };
        toml::from_str(&text).map_err(|error| {
            CliError::new(Kind::Usage, format!("`{SETTINGS}`: {}", error.to_string().trim_end()))
                .hint("the file may set `runs_dir = \"DIR\"`; other keys belong in a recipe")
        })
    }
}

/// The directories and output settings of a command.
#[derive(Clone, Debug)]
pub(super) struct Context {
    pub(super) json: bool,
    pub(super) quiet: bool,
    pub(super) verbose: bool,
    project: PathBuf,
    runs: PathBuf,
}

impl Context {
    /// Changes to the project directory and reads its settings.
    pub(super) fn enter(global: &GlobalArgs) -> Result<Self, CliError> {
        if let Some(directory) = &global.directory {
            std::env::set_current_dir(directory).map_err(|error| {
                CliError::new(Kind::Usage, format!("cannot work in `{}`: {error}", directory.display()))
                    .hint("`-C` takes the project directory, which holds the recipes and `runs/`")
            })?;
        }
        let project = std::env::current_dir()?;
        let variable = || std::env::var_os(RUNS_VARIABLE).filter(|value| !value.is_empty()).map(PathBuf::from);
        let runs = match global.runs_dir.clone().or_else(variable) {
            Some(runs) => runs,
            None => Settings::load(&project)?.runs_dir.unwrap_or_else(|| "runs".into()),
        };
        let runs = project.join(runs);
        for path in [&project, &runs] {
            if path.to_str().is_none() {
                #[expect(clippy::unnecessary_debug_formatting, reason = "it shows the bytes that are not text")]
                let message = format!("the path {path:?} is not UTF-8, so no file below it can be named in a result");
                return Err(CliError::new(Kind::Usage, message).hint("rename the directory, or move the project"));
            }
        }
        Ok(Self { json: global.json, quiet: global.quiet, verbose: global.verbose, project, runs })
    }

    /// Returns the project directory, to which paths in recipes are relative.
    pub(super) fn project(&self) -> &Path {
        &self.project
    }

    /// Returns the run directory.
    pub(super) fn runs(&self) -> &Path {
        &self.runs
    }

    /// Returns the directory of a run's log.
    pub(super) fn log_dir(&self, run: &str) -> PathBuf {
        self.runs.join("log").join(run)
    }

    /// Formats `path` relative to the project directory.
    pub(super) fn shown<'a>(&self, path: &'a Path) -> std::path::Display<'a> {
        path.strip_prefix(&self.project).unwrap_or(path).display()
    }

    /// Returns the amount of output during a run.
    pub(super) fn progress_mode(&self) -> ProgressMode {
        if self.quiet { ProgressMode::Quiet } else { ProgressMode::Auto }
    }
}

/// Runs `future` to completion on this thread.
pub(super) fn block_on<T>(future: impl Future<Output = Result<T, CliError>>) -> Result<T, CliError> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let result = runtime.block_on(future);
    // Does not wait for a checkpoint that is still being read.
    runtime.shutdown_background();
    result
}
