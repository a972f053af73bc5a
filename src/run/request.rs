//! What a run is asked.

use crate::history::Invocation;
use crate::plan::Plan;
use std::collections::BTreeSet;
use std::path::PathBuf;

/// What is to be run, and how.
#[derive(Clone, Debug)]
pub struct RunRequest {
    /// The stages.
    pub plan: Plan,
    /// What the user asked, for the log.
    pub invocation: Invocation,
    /// The recipe files that were read, and their texts.
    pub files: Vec<(PathBuf, String)>,
    /// Stages that run at the same time at most; absent: one on each GPU, or one.
    pub jobs: Option<usize>,
    /// After a failure, start nothing more.
    pub fail_fast: bool,
    /// Stages that run although they are cached.
    pub forced: BTreeSet<usize>,
}
