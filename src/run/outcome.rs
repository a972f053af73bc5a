//! The ends of a run and its stages.

use crate::event::Failure;
use crate::exec::ExecError;
use crate::host::FileLock;
use crate::stage::StageStatus;
use crate::workspace::WorkspaceError;
use std::collections::BTreeMap;
use std::io;
use std::path::PathBuf;

/// The end of a stage of a run.
#[derive(Clone, Debug)]
pub enum StageEnd {
    /// The result was in the cache.
    Hit,
    /// The stage ran to its end.
    Done {
        /// The duration in seconds.
        seconds: f64,
    },
    /// The stage failed.
    Failed(FailedStage),
    /// The stage was stopped on request.
    Stopped,
    /// The stage did not run, because of another stage or because the run stopped.
    Skipped,
}

impl StageEnd {
    /// Returns the stage's final status.
    pub fn status(&self) -> StageStatus {
        match self {
            Self::Hit => StageStatus::Cached,
            Self::Done { .. } => StageStatus::Ok,
            Self::Failed(_) => StageStatus::Failed,
            Self::Stopped => StageStatus::Interrupted,
            Self::Skipped => StageStatus::Skipped,
        }
    }
}

/// A stage that failed.
#[derive(Clone, Debug)]
pub struct FailedStage {
    /// The failure of the last try.
    pub failure: Failure,
    /// The end of the worker's log.
    pub log_tail: Vec<String>,
    /// The path of the worker's log.
    pub log: PathBuf,
    /// The number of tries.
    pub tries: u32,
}

/// The end of a run.
#[derive(Debug)]
pub struct RunSummary {
    /// The run's id.
    pub run: String,
    /// The end of each stage, in the order of the plan.
    pub ends: Vec<StageEnd>,
    /// Whether the run was asked to stop.
    pub interrupted: bool,
    /// The reason why the database is incomplete, if it is.
    pub unrecorded: Option<String>,
    /// Keeps the run alive, and so its results in the cache, until they have been shown.
    pub(super) _alive: Option<FileLock>,
}

impl RunSummary {
    /// Returns the failed stages with their indices.
    pub fn failed(&self) -> impl Iterator<Item = (usize, &FailedStage)> {
        self.ends.iter().enumerate().filter_map(|(stage, end)| match end {
            StageEnd::Failed(failed) => Some((stage, failed)),
            _ => None,
        })
    }
}

/// The loop's part of the summary.
pub(super) struct Report {
    pub(super) ends: BTreeMap<usize, StageEnd>,
    pub(super) interrupted: bool,
}

/// An error that prevents or ends a run and is not a stage's failure.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The workspace failed.
    #[error(transparent)]
    Workspace(#[from] WorkspaceError),
    /// A worker could not be started or followed.
    #[error(transparent)]
    Exec(#[from] ExecError),
    /// A file of the run could not be read or written.
    #[error("{what}")]
    Io {
        /// The action that failed.
        what: &'static str,
        /// The cause.
        source: io::Error,
    },
}
