//! Runs a plan: scheduler, cache, workers, database and display in one loop.
//!
//! ```text
//! RunRequest -> Loop: ready? -> cached: hit
//!                            -> held by another process: wait for its checkpoint or its lease
//!                            -> attempt directory, worker --events--> display, database
//!                     ended? -> committed: its children may start
//!                            -> failed, stopped: its descendants are skipped, everything else goes on
//! -> RunSummary
//! ```
//!
//! What a run was asked and what it did is written to files first (`run_log`); the database is an index of them, so a
//! database that cannot be written costs the history of a run, not its results.

mod assignment;
mod checkpoints;
mod costs;
mod differences;
mod dispatch;
mod evidence;
mod evidence_names;
mod explain;
mod failure;
mod fingerprints;
mod history;
mod index;
mod machine;
mod memory;
mod past_runs;
mod recorder;
mod rerun;
mod run_diff;
mod run_log;
mod run_process;
mod selection;
mod signals;
mod spending;
mod stage_rows;
mod uses;

pub use assignment::assignment;
pub use checkpoints::{arena_result, events_dir, newest_resume_step, results, stage_spec};
pub use evidence::{gather_answers, gather_evidence, reward_mixes};
pub use explain::{CachedResults, Explanation, ParentChange, remember_inputs};
pub use history::{OpenHistory, Rebuilt, open_history, rebuild_history};
pub use index::{IndexError, Indexed, Scope};
pub use memory::{TooLarge, plan_memory, too_large};
pub use past_runs::{CancelError, PastRun, PastRuns, RemovalRefusal, remove_run, resumable};
pub use rerun::{Rerun, rerun, rerun_plan};
pub use run_diff::{StageChange, StagePair, environment, stage_change, stage_pairs};
pub use run_log::{Invocation, LogDamage, LoggedPlan, LoggedStage, LoggedVariant};
pub use run_process::Liveness;
pub use selection::{limited, stage_names, stages_named, titles, unknown_stages};
pub use spending::gather_cost;
pub use stage_rows::{Series, StageRow, stage_metrics};
pub use uses::{KeyUse, KeyUses, key_uses};

use crate::cache::{Cache, CacheError, RUN_ENDED, fault_point};
use crate::event::Failure;
use crate::exec::{ExecError, Executor};
use crate::host::FileLock;
use crate::plan::{Plan, Scheduler};
use crate::run_update::RunUpdate;
use crate::stage::{RunStatus, StageStatus};
use costs::Costs;
use dispatch::{Cached, Dispatch, Loop};
use machine::Machine;
use recorder::Recorder;
use signals::StopSignals;
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};

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
    _alive: Option<FileLock>,
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
struct Report {
    ends: BTreeMap<usize, StageEnd>,
    interrupted: bool,
}

/// A run could not be begun or carried on; no stage is to blame.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The cache failed.
    #[error(transparent)]
    Cache(#[from] CacheError),
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

/// Runs the loop over the stages of `request`.
async fn dispatch(
    request: &RunRequest,
    cache: &Cache,
    runs: &Path,
    executor: &mut dyn Executor,
    display: &mut dyn FnMut(&RunUpdate),
    recorder: &mut Recorder,
    signals: &mut StopSignals,
) -> Result<Report, RunError> {
    let plan = &request.plan;
    let cached = Cached::look(plan, cache, &request.forced)?;
    let will_run = !cached.is_everything();
    let costs = Costs::read(runs);
    let expected_ms = if will_run { costs.expected_ms(plan) } else { vec![0; plan.stages.len()] };
    let machine = Machine::find(plan, request.jobs, will_run);
    let scheduler = Scheduler::new(
        &plan.stages.iter().map(|stage| stage.parents.clone()).collect::<Vec<_>>(),
        &expected_ms,
        plan.stages.iter().map(|stage| machine.need(stage)).collect(),
        machine.capacity.clone(),
    );
    let dispatch = Dispatch {
        plan,
        cache,
        executor,
        display,
        recorder,
        costs,
        expected_ms,
        fail_fast: request.fail_fast,
        forced: request.forced.clone(),
        resumes: request.invocation.resumes.is_some(),
    };
    Loop::new(dispatch, machine, scheduler, cached).run(signals).await
}

/// Runs `request` with workers of `executor`. `display` receives everything that happens.
pub async fn run(
    request: &RunRequest,
    cache: &Cache,
    runs: &Path,
    executor: &mut dyn Executor,
    display: &mut dyn FnMut(&RunUpdate),
) -> Result<RunSummary, RunError> {
    let mut signals =
        StopSignals::listen().map_err(|source| RunError::Io { what: "cannot listen for signals", source })?;
    let plan = &request.plan;
    fault_point("run-before-plan");
    // from here on `cache gc` knows what this run needs
    let lock = cache.lock_for_planning()?;
    let mut recorder = Recorder::begin(request, runs)?;
    drop(lock);
    fault_point("run-planned");
    let report = dispatch(request, cache, runs, executor, display, &mut recorder, &mut signals).await;
    let report = match report {
        Ok(report) => report,
        Err(error) => {
            recorder.end(RunStatus::Failed).await;
            return Err(error);
        }
    };
    let mut ends = report.ends;
    let ends: Vec<StageEnd> =
        (0..plan.stages.len()).map(|stage| ends.remove(&stage).unwrap_or(StageEnd::Skipped)).collect();
    let failed = ends.iter().any(|end| matches!(end, StageEnd::Failed(_)));
    recorder
        .end(if report.interrupted {
            RunStatus::Interrupted
        } else if failed {
            RunStatus::Failed
        } else {
            RunStatus::Ok
        })
        .await;
    fault_point(RUN_ENDED);
    let run = recorder.run().to_owned();
    let (unrecorded, alive) = recorder.into_end();
    Ok(RunSummary { run, ends, interrupted: report.interrupted, unrecorded, _alive: alive })
}
