//! The state of the loop, and its select.

use super::cached::Cached;
use super::leases::Waiting;
use super::retries::{Retrying, Tries};
use super::running::{Due, Running};
use crate::exec::{Cancel, Executor, JobState};
use crate::history::checkpoints::checkpoint_dir;
use crate::plan::{Plan, Scheduler, Start};
use crate::run::costs::Costs;
use crate::run::machine::Machine;
use crate::run::outcome::{Report, RunError, StageEnd};
use crate::run::recorder::Recorder;
use crate::run::signals::StopSignals;
use crate::run_update::RunUpdate;
use crate::workspace::{EventReader, Job, Workspace, WorkspaceError};
use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};
use tokio::time::MissedTickBehavior;

/// How often event files are read.
const POLL_EVERY: Duration = Duration::from_millis(100);

/// The file with the worker's output, in its attempt directory.
pub(super) const WORKER_LOG: &str = "worker.log";

/// The plan, the services and the settings of the loop.
pub(in crate::run) struct Dispatch<'a> {
    pub(in crate::run) plan: &'a Plan,
    pub(in crate::run) workspace: &'a Workspace,
    /// Runs the workers.
    pub(in crate::run) executor: &'a mut dyn Executor,
    /// Shows the run to the user.
    pub(in crate::run) display: &'a mut dyn FnMut(&RunUpdate),
    pub(in crate::run) recorder: &'a mut Recorder,
    pub(in crate::run) costs: Costs,
    /// Expected milliseconds of each stage.
    pub(in crate::run) expected_ms: Vec<u64>,
    pub(in crate::run) fail_fast: bool,
    /// Stages that run even though they are cached.
    pub(in crate::run) forced: BTreeSet<usize>,
    /// Whether the run continues an earlier one, including its forced stages.
    pub(in crate::run) resumes: bool,
}

impl Dispatch<'_> {
    /// Sends an update to the display and the recorder.
    pub(in crate::run) async fn tell(&mut self, update: RunUpdate) {
        (self.display)(&update);
        self.recorder.record(&update).await;
    }

    /// Sends a note about a stage that no log records.
    pub(super) async fn note(&mut self, stage: usize, message: String) {
        self.tell(RunUpdate::Note { stage: Some(stage), message }).await;
    }
}

/// The state of the loop.
pub(in crate::run) struct Loop<'a> {
    pub(super) dispatch: Dispatch<'a>,
    pub(super) machine: Machine,
    pub(super) scheduler: Scheduler,
    pub(super) running: BTreeMap<usize, Running>,
    pub(super) waiting: BTreeMap<usize, Waiting>,
    pub(super) retrying: BTreeMap<usize, Retrying>,
    pub(super) tries: BTreeMap<usize, Tries>,
    /// When the time left of the run was last estimated.
    pub(super) estimated_at: Option<Instant>,
    pub(super) ends: BTreeMap<usize, StageEnd>,
    pub(super) has_failed: bool,
    pub(super) cached: Cached,
    /// The number of requests to stop. The first asks the workers to stop; the second kills them.
    pub(super) stop_requests: u32,
    /// When the first request to stop came.
    pub(super) stopping_since: Option<Instant>,
}

impl<'a> Loop<'a> {
    pub(in crate::run) fn new(dispatch: Dispatch<'a>, machine: Machine, scheduler: Scheduler, cached: Cached) -> Self {
        Self {
            cached,
            dispatch,
            machine,
            scheduler,
            running: BTreeMap::new(),
            waiting: BTreeMap::new(),
            retrying: BTreeMap::new(),
            tries: BTreeMap::new(),
            estimated_at: None,
            ends: BTreeMap::new(),
            has_failed: false,
            stop_requests: 0,
            stopping_since: None,
        }
    }

    /// Runs until every stage has ended or no further stage may start. No worker outlives this call.
    pub(in crate::run) async fn run(mut self, signals: &mut StopSignals) -> Result<Report, RunError> {
        let done = self.until_done(signals).await;
        self.dispatch.tell(RunUpdate::Ended).await;
        if let Err(error) = done {
            self.cancel_all(Cancel::Stop);
            self.wait_for_all().await;
            return Err(error);
        }
        let stopped = self.ends.values().any(|end| matches!(end, StageEnd::Stopped));
        let interrupted = stopped || self.stop_requests > 0;
        Ok(Report { ends: self.ends, interrupted })
    }

    pub(super) async fn until_done(&mut self, signals: &mut StopSignals) -> Result<(), RunError> {
        let mut tick = tokio::time::interval(POLL_EVERY);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            self.start_ready().await?;
            if !self.may_start() {
                self.give_up_retries().await;
            }
            // Verified results are of no use once no stage may start.
            let is_checking = self.may_start() && !self.cached.checks.is_empty();
            if self.running.is_empty() && self.waiting.is_empty() && self.retrying.is_empty() && !is_checking {
                return Ok(());
            }
            tokio::select! {
                () = self.dispatch.executor.changed() => self.look_for_ends().await?,
                Some(joined) = self.cached.checks.join_next() => {
                    self.checked(joined.expect("waiting for a thread does not panic")).await?;
                }
                () = signals.next() => self.stop().await,
                _ = tick.tick() => {
                    self.follow().await?;
                    self.keep_time().await;
                    self.look_at_leases().await?;
                    self.wake_retries();
                    self.show().await;
                }
            }
        }
    }

    /// Passes over cached stages and starts those that fit, until no ready stage is left or fits.
    pub(super) async fn start_ready(&mut self) -> Result<(), RunError> {
        while self.may_start() {
            self.pass_over_cached().await?;
            let starts: Vec<Start> = std::iter::from_fn(|| self.scheduler.start_next()).collect();
            if starts.is_empty() {
                return Ok(());
            }
            self.start(&starts).await?;
        }
        Ok(())
    }

    pub(super) fn may_start(&self) -> bool {
        self.stop_requests == 0 && !(self.dispatch.fail_fast && self.has_failed)
    }

    pub(super) fn cancel_all(&mut self, how: Cancel) {
        let jobs: Vec<Job> = self.running.values().map(|running| running.job.clone()).collect();
        self.dispatch.executor.cancel(&jobs, how);
    }

    /// Waits until no worker is left, or the executor fails.
    pub(super) async fn wait_for_all(&mut self) {
        let mut jobs: Vec<Job> = self.running.values().map(|running| running.job.clone()).collect();
        while !jobs.is_empty() {
            let Ok(states) = self.dispatch.executor.poll(&jobs) else { return };
            let mut states = states.into_iter();
            jobs.retain(|_| states.next() == Some(JobState::Active));
            if !jobs.is_empty() {
                self.dispatch.executor.changed().await;
            }
        }
    }

    /// Reads the new events of the workers.
    pub(super) async fn follow(&mut self) -> Result<(), RunError> {
        let stages: Vec<usize> = self.running.keys().copied().collect();
        for stage in stages {
            self.follow_one(stage).await?;
        }
        Ok(())
    }

    pub(super) async fn follow_one(&mut self, stage: usize) -> Result<(), RunError> {
        let Some(running) = self.running.get_mut(&stage) else { return Ok(()) };
        let mut events = match running.reader.poll() {
            Err(error @ WorkspaceError::Malformed { .. }) => {
                // The next try starts from the beginning.
                self.dispatch.executor.cancel(std::slice::from_ref(&running.job), Cancel::Kill);
                running.damage = Some(error);
                Vec::new()
            }
            polled => polled?,
        };
        let key = &self.dispatch.plan.stages[stage].key;
        let committed = checkpoint_dir(self.dispatch.workspace, key);
        // The previous result of a forced stage stays until the attempt's directory is gone.
        let is_new = || !self.dispatch.forced.contains(&stage) || !self.dispatch.workspace.attempt_dir(key).is_dir();
        if events.is_empty() && committed.is_dir() && is_new() {
            // Committing moves the events; those that were read before the move are skipped.
            running.reader = EventReader::new(&committed);
            events = running.reader.poll()?.into_iter().skip(running.seen).collect();
        }
        running.seen += events.len();
        for event in &events {
            running.apply(event);
        }
        self.dispatch.tell(RunUpdate::Worked { stage, events }).await;
        Ok(())
    }

    /// Stops workers that exceed their time limit. Kills workers that were asked to stop and did not do so in time.
    pub(super) async fn keep_time(&mut self) {
        let now = Instant::now();
        let mut out_of_time = Vec::new();
        for (stage, running) in &mut self.running {
            let grace = self.dispatch.plan.stages[*stage].runtime.stop_grace_s;
            if self.stopping_since.is_some_and(|since| (now - since).as_secs_f64() >= grace) {
                self.dispatch.executor.cancel(std::slice::from_ref(&running.job), Cancel::Kill);
            }
            match running.limit.as_mut().and_then(|limit| limit.due(now)) {
                Some(Due::Stop) => {
                    self.dispatch.executor.cancel(std::slice::from_ref(&running.job), Cancel::Stop);
                    out_of_time.push(*stage);
                }
                Some(Due::Kill) => {
                    self.dispatch.executor.cancel(std::slice::from_ref(&running.job), Cancel::Kill);
                }
                None => {}
            }
        }
        for stage in out_of_time {
            self.dispatch.note(stage, "its time limit is reached: waiting for a resume point".to_owned()).await;
        }
    }

    /// Returns the stages that a request to stop waits for.
    pub(super) fn stopping(&self) -> RunUpdate {
        let plan = self.dispatch.plan;
        let mut stages: Vec<String> = self.running.keys().map(|&stage| plan.stages[stage].name.clone()).collect();
        stages.dedup();
        let graces = self.running.keys().map(|&stage| plan.stages[stage].runtime.stop_grace_s);
        RunUpdate::Stopping { stages, grace_s: graces.fold(0.0, f64::max) }
    }

    /// Handles a request to stop: the first is passed on to the workers, the second kills them.
    pub(super) async fn stop(&mut self) {
        self.stop_requests += 1;
        self.cancel_all(if self.stop_requests == 1 { Cancel::Stop } else { Cancel::Kill });
        self.waiting.clear();
        if self.stop_requests == 1 {
            self.stopping_since = Some(Instant::now());
            self.dispatch.tell(self.stopping()).await;
        }
    }
}
