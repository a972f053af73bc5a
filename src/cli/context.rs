//! Where a command works and how it speaks.
//!
//! What a project sets for all commands is in its `orchestrate.toml`, if it has one:
//!
//! ```toml
//! runs_dir = "/scratch/me/runs"   # where everything that runs leave behind goes, instead of `runs`
//! ```

use super::args::GlobalArgs;
use super::error::{CliError, Kind};
use crate::report::ProgressMode;
use serde::Deserialize;
use std::future::Future;
use std::path::{Path, PathBuf};

/// Names another directory than `runs/` for everything that runs leave behind.
const RUNS_VARIABLE: &str = "ORCHESTRATE_RUNS";
/// What a project sets for all commands.
const SETTINGS: &str = "orchestrate.toml";

/// The content of `orchestrate.toml`.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Settings {
    /// The directory for everything that runs leave behind, relative to the project directory.
    runs_dir: Option<PathBuf>,
}

impl Settings {
    /// Those of the project; none are set where it has no such file.
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

/// Where a command works and how it speaks.
#[derive(Clone, Debug)]
pub(super) struct Context {
    pub(super) json: bool,
    pub(super) quiet: bool,
    pub(super) verbose: bool,
    project: PathBuf,
    runs: PathBuf,
}

impl Context {
    /// Goes to the project directory.
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

    /// The project directory: the one that paths in recipes are relative to.
    pub(super) fn project(&self) -> &Path {
        &self.project
    }

    /// Where everything that runs leave behind is.
    pub(super) fn runs(&self) -> &Path {
        &self.runs
    }

    /// The directory of a run's log.
    pub(super) fn log_dir(&self, run: &str) -> PathBuf {
        self.runs.join("log").join(run)
    }

    /// `path` as the user would type it.
    pub(super) fn shown<'a>(&self, path: &'a Path) -> std::path::Display<'a> {
        path.strip_prefix(&self.project).unwrap_or(path).display()
    }

    /// How much a run shows.
    pub(super) fn progress_mode(&self) -> ProgressMode {
        if self.quiet { ProgressMode::Quiet } else { ProgressMode::Auto }
    }
}

/// Runs `future` to its end, on this thread.
pub(super) fn block_on<T>(future: impl Future<Output = Result<T, CliError>>) -> Result<T, CliError> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let result = runtime.block_on(future);
    // a checkpoint that is still being read is not waited for
    runtime.shutdown_background();
    result
}
