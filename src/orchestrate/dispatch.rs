//! The loop of a run: starts what is ready, follows what is running, decides what follows from how it ended.
//!
//! One task selects over three things: a worker that ended, a request to stop, and a tick on which event files, time limits
//! and leases are looked at. Each is handled to the end by a method that is the only place where its state changes.

mod cached;
mod endings;
mod eta;
mod leases;
mod retries;
mod running;

use super::assignment::assignment;
use super::checkpoints::checkpoint_dir;
use super::costs::Costs;
use super::machine::Machine;
use super::recorder::Recorder;
use super::signals::StopSignals;
use super::{Report, RunError, StageEnd};
use crate::cache::{Cache, CacheError, DeviceChoice, EventReader, fault_point};
use crate::exec::{ExecError, LocalExecutor, WorkerExit};
use crate::pace::Pace;
use crate::plan::{Plan, Scheduler, Start};
use crate::recipe::RuntimeSettings;
use crate::run_update::RunUpdate;
use cached::Cached;
use chrono::Utc;
use leases::Waiting;
use retries::{Retrying, Tries};
use running::{Due, Running, TimeLimit};
use std::collections::{BTreeMap, BTreeSet};
use std::io::ErrorKind;
use std::time::{Duration, Instant};
use tokio::task::JoinSet;
use tokio::time::MissedTickBehavior;

/// How often event files are read.
const POLL_EVERY: Duration = Duration::from_millis(100);

/// What the loop works with.
pub(super) struct Dispatch<'a> {
    pub(super) plan: &'a Plan,
    pub(super) cache: &'a Cache,
    pub(super) executor: Option<LocalExecutor>,
    /// Shows the run to the user.
    pub(super) display: &'a mut dyn FnMut(&RunUpdate),
    pub(super) recorder: &'a mut Recorder,
    pub(super) costs: Costs,
    /// Milliseconds that each stage will take, about.
    pub(super) expected_ms: Vec<u64>,
    pub(super) fail_fast: bool,
    /// Stages that run even though they are cached.
    pub(super) forced: BTreeSet<usize>,
    /// Goes on with what an earlier run began, forced stages too.
    pub(super) resumes: bool,
}

impl Dispatch<'_> {
    /// Tells everybody who follows the run.
    pub(super) async fn tell(&mut self, update: RunUpdate) {
        (self.display)(&update);
        self.recorder.record(&update).await;
    }

    /// Tells something about a stage that no log keeps.
    async fn note(&mut self, stage: usize, message: String) {
        self.tell(RunUpdate::Note { stage: Some(stage), message }).await;
    }
}

type Ended = (usize, Result<WorkerExit, ExecError>);

/// The state of the loop.
pub(super) struct Loop<'a> {
    dispatch: Dispatch<'a>,
    machine: Machine,
    /// Absent until a first `command` stage is started.
    command_executor: Option<LocalExecutor>,
    scheduler: Scheduler,
    running: BTreeMap<usize, Running>,
    waiting: BTreeMap<usize, Waiting>,
    retrying: BTreeMap<usize, Retrying>,
    tries: BTreeMap<usize, Tries>,
    /// When the time left of the run was last estimated.
    estimated_at: Option<Instant>,
    workers: JoinSet<Ended>,
    ends: BTreeMap<usize, StageEnd>,
    has_failed: bool,
    cached: Cached,
    /// Requests to stop so far: at the first, workers are asked to stop; at the second, killed.
    stop_requests: u32,
    /// When the first came.
    stopping_since: Option<Instant>,
}

impl<'a> Loop<'a> {
    pub(super) fn new(dispatch: Dispatch<'a>, machine: Machine, scheduler: Scheduler) -> Result<Self, CacheError> {
        let cached = Cached::look(dispatch.plan, dispatch.cache, &dispatch.forced)?;
        Ok(Self {
            cached,
            dispatch,
            machine,
            command_executor: None,
            scheduler,
            running: BTreeMap::new(),
            waiting: BTreeMap::new(),
            retrying: BTreeMap::new(),
            tries: BTreeMap::new(),
            estimated_at: None,
            workers: JoinSet::new(),
            ends: BTreeMap::new(),
            has_failed: false,
            stop_requests: 0,
            stopping_since: None,
        })
    }

    /// Runs until every stage has ended or nothing more may be started. No worker outlives it.
    pub(super) async fn run(mut self, signals: &mut StopSignals) -> Result<Report, RunError> {
        let done = self.until_done(signals).await;
        self.dispatch.tell(RunUpdate::Ended).await;
        if let Err(error) = done {
            for running in self.running.values() {
                running.group.stop();
            }
            while self.workers.join_next().await.is_some() {}
            return Err(error);
        }
        let stopped = self.ends.values().any(|end| matches!(end, StageEnd::Stopped));
        let interrupted = stopped || self.stop_requests > 0;
        Ok(Report { ends: self.ends, interrupted })
    }

    async fn until_done(&mut self, signals: &mut StopSignals) -> Result<(), RunError> {
        let mut tick = tokio::time::interval(POLL_EVERY);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            self.start_ready().await?;
            if !self.may_start() {
                self.give_up_retries().await;
            }
            // what is being read is of no more use where nothing may start
            let is_checking = self.may_start() && !self.cached.checks.is_empty();
            if self.running.is_empty() && self.waiting.is_empty() && self.retrying.is_empty() && !is_checking {
                return Ok(());
            }
            tokio::select! {
                Some(joined) = self.workers.join_next() => {
                    let (stage, exit) = joined.expect("waiting for a worker does not panic");
                    self.ended(stage, exit?).await?;
                }
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

    /// Passes over what is cached and starts what has room, until nothing more is ready or has it.
    async fn start_ready(&mut self) -> Result<(), RunError> {
        while self.may_start() {
            self.pass_over_cached().await?;
            let Some(start) = self.scheduler.start_next() else { return Ok(()) };
            self.start(start).await?;
        }
        Ok(())
    }

    fn may_start(&self) -> bool {
        self.stop_requests == 0 && !(self.dispatch.fail_fast && self.has_failed)
    }

    /// Prepares the attempt and starts its worker, unless another process is at it.
    async fn start(&mut self, Start { stage, gpu }: Start) -> Result<(), RunError> {
        let now = Utc::now();
        let planned = &self.dispatch.plan.stages[stage];
        if let Some(owner) = self.dispatch.cache.holder(&planned.key) {
            self.wait_for(stage, &owner.to_string()).await;
            return Ok(());
        }
        let tries = self.tries.entry(stage).or_default();
        // a second try goes on from what the first one left
        if tries.begun == 0 && self.dispatch.forced.contains(&stage) {
            self.dispatch.cache.begin_again(&planned.key, self.dispatch.resumes)?;
        }
        tries.begun += 1;
        let mut assignment = assignment(planned, self.dispatch.plan, self.dispatch.cache);
        assignment.runtime.gradient_checkpointing |= tries.checkpointing;
        assignment.runtime.threads = self.machine.threads(planned);
        let environment = gpu.map(|slot| self.machine.environment(slot)).unwrap_or_default();
        if gpu.is_some() && assignment.runtime.device != DeviceChoice::Auto {
            assignment.runtime.device = DeviceChoice::Cuda(0); // the only one it sees
        }
        let attempt = self.dispatch.cache.prepare(&assignment, &planned.key_json())?;
        let mut reader = EventReader::new(attempt.dir());
        // what an earlier attempt wrote has been recorded with that attempt
        let seen = match reader.poll() {
            Err(error @ CacheError::Malformed { .. }) => {
                let aside = match self.dispatch.cache.set_attempt_aside(&planned.key) {
                    Err(CacheError::Leased { owner }) => return self.wait_instead(stage, &owner.to_string()).await,
                    moved => moved?.display().to_string(),
                };
                self.dispatch.note(stage, format!("{error}: moved to {aside}, and begun anew")).await;
                self.dispatch.cache.prepare(&assignment, &planned.key_json())?;
                reader = EventReader::new(attempt.dir());
                0
            }
            polled => polled?.len(),
        };
        let executor = match (&planned.program, &self.dispatch.executor) {
            (Some(_), _) => match &self.command_executor {
                Some(executor) => executor,
                None => self.command_executor.insert(LocalExecutor::of_command_stages()?),
            },
            (None, Some(executor)) => executor,
            (None, None) => self.dispatch.executor.insert(LocalExecutor::find()?),
        };
        let log = attempt.dir().join("worker.log");
        let log_start = log.metadata().map_or(0, |metadata| metadata.len());
        let worker = match executor.start(attempt.dir(), &environment) {
            // the process that has just committed the stage moved the directory away
            Err(ExecError::Log(error)) if error.kind() == ErrorKind::NotFound => {
                return self.wait_instead(stage, "another process").await;
            }
            started => started?,
        };
        fault_point("worker-started");
        self.dispatch.tell(RunUpdate::Started { stage }).await;
        let RuntimeSettings { stop_grace_s, .. } = planned.runtime;
        let timeout_s = planned.runtime.timeout_s(&planned.name, planned.spec.work.kind());
        let running = Running {
            group: worker.group(),
            reader,
            seen,
            log,
            log_start,
            started_at: now,
            limit: timeout_s.map(|seconds| TimeLimit::new(seconds, stop_grace_s)),
            last_step: None,
            resumed: false,
            results: BTreeMap::new(),
            failure: None,
            damage: None,
            energy_j: None,
            peak_memory: None,
            pace: Pace::default(),
        };
        self.running.insert(stage, running);
        self.workers.spawn(async move { (stage, worker.wait().await) });
        Ok(())
    }

    /// Waits for `whom`, who was faster: nothing was tried.
    async fn wait_instead(&mut self, stage: usize, whom: &str) -> Result<(), RunError> {
        self.tries.entry(stage).or_default().begun -= 1;
        self.wait_for(stage, whom).await;
        Ok(())
    }

    /// Reads what the workers wrote since the last time.
    async fn follow(&mut self) -> Result<(), RunError> {
        let stages: Vec<usize> = self.running.keys().copied().collect();
        for stage in stages {
            self.follow_one(stage).await?;
        }
        Ok(())
    }

    async fn follow_one(&mut self, stage: usize) -> Result<(), RunError> {
        let Some(running) = self.running.get_mut(&stage) else { return Ok(()) };
        let mut events = match running.reader.poll() {
            Err(error @ CacheError::Malformed { .. }) => {
                running.group.kill(); // the next try begins anew
                running.damage = Some(error);
                Vec::new()
            }
            polled => polled?,
        };
        let key = &self.dispatch.plan.stages[stage].key;
        let committed = checkpoint_dir(self.dispatch.cache, key);
        // the result of before a forced stage stays until the attempt's directory goes
        let is_new = || !self.dispatch.forced.contains(&stage) || !self.dispatch.cache.attempt_dir(key).is_dir();
        if events.is_empty() && committed.is_dir() && is_new() {
            // Committing moves the events; what was read before the move is passed over.
            running.reader = EventReader::new(&committed);
            events = running.reader.poll()?.into_iter().skip(running.seen).collect();
        }
        running.seen += events.len();
        for event in &events {
            running.take_in(event);
        }
        self.dispatch.tell(RunUpdate::Worked { stage, events }).await;
        Ok(())
    }

    /// Stops workers whose time is over, and kills those that were asked to and did not in time.
    async fn keep_time(&mut self) {
        let now = Instant::now();
        let mut out_of_time = Vec::new();
        for (stage, running) in &mut self.running {
            let grace = self.dispatch.plan.stages[*stage].runtime.stop_grace_s;
            if self.stopping_since.is_some_and(|since| (now - since).as_secs_f64() >= grace) {
                running.group.kill();
            }
            match running.limit.as_mut().and_then(|limit| limit.due(now)) {
                Some(Due::Stop) => {
                    running.group.stop();
                    out_of_time.push(*stage);
                }
                Some(Due::Kill) => running.group.kill(),
                None => {}
            }
        }
        for stage in out_of_time {
            self.dispatch.note(stage, "its time is over: waiting for a resume point".to_owned()).await;
        }
    }

    /// What is waited for after a request to stop.
    fn stopping(&self) -> RunUpdate {
        let plan = self.dispatch.plan;
        let mut stages: Vec<String> = self.running.keys().map(|&stage| plan.stages[stage].name.clone()).collect();
        stages.dedup();
        let graces = self.running.keys().map(|&stage| plan.stages[stage].runtime.stop_grace_s);
        RunUpdate::Stopping { stages, grace_s: graces.fold(0.0, f64::max) }
    }

    /// A request to stop: the first is passed on, the second ends everything now.
    async fn stop(&mut self) {
        self.stop_requests += 1;
        for running in self.running.values() {
            if self.stop_requests == 1 { running.group.stop() } else { running.group.kill() }
        }
        self.waiting.clear();
        if self.stop_requests == 1 {
            self.stopping_since = Some(Instant::now());
            self.dispatch.tell(self.stopping()).await;
        }
    }
}
