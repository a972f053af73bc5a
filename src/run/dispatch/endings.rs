//! The ends of tries at stages, and their consequences for descendants.

use super::run_loop::Loop;
use super::running::Running;
use crate::event::{Failure, FailureClass, MemoryUse};
use crate::exec::{JobState, SystemEnd, WorkerExit};
use crate::history::checkpoints::{checkpoint_dir, results};
use crate::run::failure::{failure_of, memory_ran_out};
use crate::run::{FailedStage, RunError, StageEnd};
use crate::run_update::RunUpdate;
use crate::workspace::{Ending, Job, fault_point};
use chrono::Utc;

impl Loop<'_> {
    /// Polls the executor for all workers, and handles those that ended.
    pub(super) async fn look_for_ends(&mut self) -> Result<(), RunError> {
        let (stages, jobs): (Vec<usize>, Vec<Job>) =
            self.running.iter().map(|(&stage, running)| (stage, running.job.clone())).unzip();
        for (stage, state) in stages.into_iter().zip(self.dispatch.executor.poll(&jobs)?) {
            if let JobState::Ended(end) = state {
                self.ended(stage, end).await?;
            }
        }
        Ok(())
    }

    /// Handles the end of a worker; the files of the attempt show how it ended.
    async fn ended(&mut self, stage: usize, end: SystemEnd) -> Result<(), RunError> {
        self.follow_one(stage).await?;
        let running = self.running.remove(&stage).expect("only running stages end");
        let key = &self.dispatch.plan.stages[stage].key;
        let committed = checkpoint_dir(self.dispatch.workspace, key);
        let said = Ending::of(&running.job, &self.dispatch.workspace.attempt_dir(key), &committed);
        let exit = said.map_or(WorkerExit::Crashed(end), WorkerExit::Said);
        let now = Utc::now();
        let seconds = (now - running.started_at).as_seconds_f64();
        if let Some(joules) = running.energy_j {
            self.dispatch.tell(RunUpdate::Energy { stage, joules }).await;
        }
        if let Some(peak) = running.peak_memory {
            let planned_bytes = self.dispatch.plan.stages[stage].memory.estimate.map(|estimate| estimate.total());
            let memory = MemoryUse { peak, planned_bytes };
            self.dispatch.tell(RunUpdate::Memory { stage, memory }).await;
        }
        match exit {
            WorkerExit::Said(Ending::LeaseHeld) => {
                self.tries.entry(stage).or_default().begun -= 1;
                if !self.dispatch.forced.contains(&stage) && self.is_cached(stage).await? {
                    self.scheduler.finish(stage);
                    self.hits(&[stage]).await;
                    return Ok(());
                }
                let owner = self.dispatch.workspace.holder(&self.dispatch.plan.stages[stage].key);
                self.wait_for(stage, &owner.map_or("another process".to_owned(), |owner| owner.to_string())).await;
            }
            WorkerExit::Said(Ending::Committed) => self.committed(stage, running, seconds).await?,
            _ if was_ended(exit) && self.stop_requests > 0 => {
                self.stopped(stage, running.last_step, seconds).await;
            }
            _ if was_ended(exit) && running.timed_out().is_some() => {
                let failure = running.timed_out().map(|limit| limit.failure(running.last_step));
                self.failed_try(stage, failure.expect("checked above"), running, seconds).await;
            }
            WorkerExit::Said(Ending::Stopped) => self.stopped(stage, running.last_step, seconds).await,
            WorkerExit::Said(Ending::Failed) | WorkerExit::Crashed(_) if running.damage.is_some() => {
                let message = running.damage.as_ref().map(ToString::to_string).expect("checked above");
                let hint = "the disk may be damaged, or another program wrote into the file".to_owned();
                let failure = Failure { class: FailureClass::Crash, message, hint: Some(hint) };
                self.failed_try(stage, failure, running, seconds).await;
            }
            WorkerExit::Said(Ending::Failed) | WorkerExit::Crashed(_) => {
                let memory_ran_out = memory_ran_out(&running.log, running.log_start);
                let failure = failure_of(exit, running.failure.clone(), memory_ran_out);
                self.failed_try(stage, failure, running, seconds).await;
            }
        }
        Ok(())
    }

    /// Handles a worker's report that the checkpoint is complete. The report counts only if the cache agrees.
    async fn committed(&mut self, stage: usize, running: Running, seconds: f64) -> Result<(), RunError> {
        if !self.is_cached(stage).await? {
            let failure = Failure {
                class: FailureClass::Io,
                message: "the worker succeeded but left no valid checkpoint in the cache".into(),
                hint: Some("is the disk full? `orchestrate doctor` shows the space left".into()),
            };
            self.failed_try(stage, failure, running, seconds).await;
            return Ok(());
        }
        if !running.resumed {
            // A missing record only affects the order of stages in the next run.
            let _ = self.dispatch.costs.remember(&self.dispatch.plan.stages[stage], seconds);
        }
        let results = if running.results.is_empty() {
            results(self.dispatch.workspace, &self.dispatch.plan.stages[stage].key)?
        } else {
            running.results
        };
        fault_point("stage-before-record");
        self.dispatch.tell(RunUpdate::Done { stage, seconds, results }).await;
        fault_point("stage-recorded");
        self.ends.insert(stage, StageEnd::Done { seconds });
        self.scheduler.finish(stage);
        Ok(())
    }

    pub(super) async fn failed(&mut self, stage: usize, failed: FailedStage, seconds: f64) {
        self.dispatch.tell(RunUpdate::Failed { stage, seconds, failure: failed.failure.clone() }).await;
        self.ends.insert(stage, StageEnd::Failed(failed));
        self.has_failed = true;
        self.skip_below(stage, "failed").await;
    }

    pub(super) async fn stopped(&mut self, stage: usize, step: Option<u64>, seconds: f64) {
        self.dispatch.tell(RunUpdate::Stopped { stage, seconds, step }).await;
        self.ends.insert(stage, StageEnd::Stopped);
        self.skip_below(stage, "stopped").await;
    }

    /// Skips every descendant of `stage`.
    async fn skip_below(&mut self, stage: usize, how: &str) {
        let because = format!("`{}` {how}", self.dispatch.plan.stages[stage].name);
        for skipped in self.scheduler.fail(stage) {
            self.dispatch.tell(RunUpdate::Skipped { stage: skipped, because: because.clone() }).await;
            self.ends.insert(skipped, StageEnd::Skipped);
        }
    }
}

/// Whether a worker ended like one that was asked to stop or was killed.
fn was_ended(exit: WorkerExit) -> bool {
    matches!(exit, WorkerExit::Said(Ending::Stopped) | WorkerExit::Crashed(SystemEnd { signal: Some(9 | 15), .. }))
}
