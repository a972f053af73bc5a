//! How a run and its stages end.

use crate::event::Failure;
use crate::exec::ExecError;
use crate::host::FileLock;
use crate::stage::StageStatus;
use crate::workspace::WorkspaceError;
use std::collections::BTreeMap;
use std::io;
use std::path::PathBuf;

/// How a stage of a run ended.
#[derive(Clone, Debug)]
pub enum StageEnd {
    /// Its result was in the cache.
    Hit,
    /// It ran to its end.
    Done {
        /// Seconds it took.
        seconds: f64,
    },
    /// It failed.
    Failed(FailedStage),
    /// It was stopped on request.
    Stopped,
    /// It was not run, because of another stage or because the run stopped.
    Skipped,
}

impl StageEnd {
    /// How the stage stands then.
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
    /// Why.
    pub failure: Failure,
    /// The end of the worker's log.
    pub log_tail: Vec<String>,
    /// The whole of it.
    pub log: PathBuf,
    /// How often it was tried.
    pub tries: u32,
}

/// How a run ended.
#[derive(Debug)]
pub struct RunSummary {
    /// Its id.
    pub run: String,
    /// How each stage ended, in the order of the plan.
    pub ends: Vec<StageEnd>,
    /// It was asked to stop.
    pub interrupted: bool,
    /// What the database could not record, and why.
    pub unrecorded: Option<String>,
    /// The run counts as alive, and its results stay, until they have been shown.
    pub(super) _alive: Option<FileLock>,
}

impl RunSummary {
    /// The stages that failed, by index.
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

/// A run could not be begun or carried on; no stage is to blame.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The cache failed.
    #[error(transparent)]
    Workspace(#[from] WorkspaceError),
    /// A worker could not be started or followed.
    #[error(transparent)]
    Exec(#[from] ExecError),
    /// A file of the run could not be read or written.
    #[error("{what}")]
    Io {
        /// What was going on.
        what: &'static str,
        /// Why it failed.
        source: io::Error,
    },
}
