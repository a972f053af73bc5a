//! The request of a run.

use crate::history::Invocation;
use crate::plan::Plan;
use std::collections::BTreeSet;
use std::path::PathBuf;

/// The stages to run, and the settings of the run.
#[derive(Clone, Debug)]
pub struct RunRequest {
    /// The stages.
    pub plan: Plan,
    /// The user's invocation, for the log.
    pub invocation: Invocation,
    /// The recipe files that were read, and their texts.
    pub files: Vec<(PathBuf, String)>,
    /// The maximum number of stages at the same time. By default, one on each GPU, and one without GPUs.
    pub jobs: Option<usize>,
    /// Whether no stage starts after a failure.
    pub fail_fast: bool,
    /// Stages that run even though they are cached.
    pub forced: BTreeSet<usize>,
}
