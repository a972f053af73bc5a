//! Runs a cached stage again without changing the cache.
//!
//! A worker commits into the cache beside its attempt directory. So the rerun gets its own directory like `runs/`
//! (`runs/work/verify-...`), in which the parent's checkpoint is a link into the real cache. The real cache is only
//! read.

use super::{RunError, RunRequest, StageEnd, run};
use crate::exec::Executor;
use crate::history::Invocation;
use crate::plan::{Plan, PlannedStage};
use crate::run_update::RunUpdate;
use crate::workspace::{Checkpoint, JUDGE_CACHE, Lookup, Workspace};
use std::path::{Path, PathBuf};
use ulid::Ulid;

/// A stage that was run again.
#[derive(Debug)]
pub struct Rerun {
    /// The end of the stage.
    pub end: StageEnd,
    /// Whether the rerun was asked to stop.
    pub interrupted: bool,
    /// The new checkpoint in [`Rerun::dir`], if the stage came to its end.
    pub checkpoint: Option<Checkpoint>,
    dir: PathBuf,
    kept: bool,
}

impl Rerun {
    /// Returns the directory of the rerun, which is like `runs/`. It is removed on drop.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Keeps the directory for inspection.
    pub fn keep(&mut self) {
        self.kept = true;
    }
}

impl Drop for Rerun {
    fn drop(&mut self) {
        if !self.kept {
            // A directory that cannot be removed only costs space.
            let _ = fs_err::remove_dir_all(&self.dir);
        }
    }
}

/// Returns the part of `plan` that a rerun of `stage` shows: its parents, which count as cached, and then the stage
/// itself.
pub fn rerun_plan(plan: &Plan, stage: usize) -> Plan {
    let stage = &plan.stages[stage];
    let mut stages: Vec<PlannedStage> = stage
        .parents
        .iter()
        .map(|&parent| PlannedStage { parents: Vec::new(), sources: 0, follows: None, ..plan.stages[parent].clone() })
        .collect();
    stages.push(PlannedStage { parents: (0..stages.len()).collect(), follows: None, ..stage.clone() });
    Plan { stages, ..Plan::default() }
}

/// Runs the last stage of `plan`, a [`rerun_plan`], again. `parents` are the checkpoints of the others.
pub async fn rerun(
    plan: Plan,
    parents: &[Checkpoint],
    workspace: &Workspace,
    executor: &mut dyn Executor,
    display: &mut dyn FnMut(&RunUpdate),
) -> Result<Rerun, RunError> {
    let key = plan.stages.last().expect("a plan to rerun has a stage").key.clone();
    let io = |source| RunError::Io { what: "cannot make a directory for the rerun", source };
    let dir = workspace.root().join("work").join(format!("verify-{}-{}", key.short(), Ulid::generate()));
    let mut rerun = Rerun { end: StageEnd::Skipped, interrupted: false, checkpoint: None, dir, kept: false };
    let scratch = Workspace::open(&rerun.dir)?;
    for parent in parents {
        let link = scratch.root().join("cache").join(parent.key.as_str());
        fs_err::os::unix::fs::symlink(&parent.dir, link).map_err(io)?;
    }
    // Judges' answers come from the cache. New calls would cost money and would compare judges instead of the stage.
    let answers = workspace.root().join(JUDGE_CACHE);
    if answers.exists() {
        fs_err::os::unix::fs::symlink(&answers, scratch.root().join(JUDGE_CACHE)).map_err(io)?;
    }
    let request = RunRequest {
        plan,
        invocation: Invocation::default(),
        files: Vec::new(),
        jobs: Some(1),
        fail_fast: true,
        forced: [].into(),
    };
    let summary = run(&request, &scratch, scratch.root(), executor, display).await?;
    rerun.interrupted = summary.interrupted;
    rerun.end = summary.ends.into_iter().next_back().expect("the plan has a stage");
    if let Lookup::Hit(checkpoint) = scratch.lookup(&key)? {
        rerun.checkpoint = Some(checkpoint);
    }
    Ok(rerun)
}
