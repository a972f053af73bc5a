//! The loop of a run: starts what is ready, follows what is running, decides what follows from how it ended.
//!
//! One task selects over three things: a worker that ended, a request to stop, and a tick on which event files and leases
//! are looked at. Each is handled to the end by a method that is the only place where its state changes.

use super::checkpoints::{checkpoint_dir, results};
use super::failure::{failure_of, log_tail};
use super::recorder::Recorder;
use super::signals::StopSignals;
use super::{FailedStage, Report, RunError, StageEnd};
use crate::cache::{Assignment, Cache, DeviceChoice, EventReader, Lookup, Runtime};
use crate::digest::Digest;
use crate::event::{Event, EventKind, Failure, FailureClass, Measurement};
use crate::exec::{ExecError, LocalExecutor, WorkerExit, WorkerGroup};
use crate::plan::{Plan, PlannedStage, Scheduler};
use crate::recipe::{Device, GradientCheckpointing};
use crate::report::Progress;
use chrono::{DateTime, Utc};
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::task::JoinSet;
use tokio::time::MissedTickBehavior;

/// How often event files are read.
const POLL_EVERY: Duration = Duration::from_millis(100);
/// How often a lease that another process holds is looked at.
const LEASE_POLL_S: f64 = 1.0;

/// What the loop works with.
pub(super) struct Dispatch<'a> {
    pub(super) plan: &'a Plan,
    pub(super) cache: &'a Cache,
    pub(super) executor: Option<LocalExecutor>,
    pub(super) progress: &'a mut Progress,
    pub(super) recorder: &'a mut Recorder,
    pub(super) jobs: usize,
    pub(super) fail_fast: bool,
    /// Stages that run even though they are cached.
    pub(super) forced: BTreeSet<usize>,
}

/// A stage whose worker is running.
struct Running {
    group: WorkerGroup,
    reader: EventReader,
    /// Events read so far.
    seen: usize,
    log: PathBuf,
    started_at: DateTime<Utc>,
    last_step: Option<u64>,
    results: BTreeMap<String, Measurement>,
    failure: Option<Failure>,
}

/// A stage that another process works on.
struct Waiting {
    looked_at: DateTime<Utc>,
}

type Ended = (usize, Result<WorkerExit, ExecError>);

/// The state of the loop.
pub(super) struct Loop<'a> {
    dispatch: Dispatch<'a>,
    /// Absent until a first `command` stage is started.
    command_executor: Option<LocalExecutor>,
    scheduler: Scheduler,
    running: BTreeMap<usize, Running>,
    waiting: BTreeMap<usize, Waiting>,
    workers: JoinSet<Ended>,
    ends: BTreeMap<usize, StageEnd>,
    /// Requests to stop so far: at the first, workers are asked to stop; at the second, killed.
    stop_requests: u32,
}

impl<'a> Loop<'a> {
    pub(super) fn new(dispatch: Dispatch<'a>, scheduler: Scheduler) -> Self {
        Self {
            dispatch,
            command_executor: None,
            scheduler,
            running: BTreeMap::new(),
            waiting: BTreeMap::new(),
            workers: JoinSet::new(),
            ends: BTreeMap::new(),
            stop_requests: 0,
        }
    }

    /// Runs until every stage has ended or nothing more may be started. No worker outlives it.
    pub(super) async fn run(mut self, signals: &mut StopSignals) -> Result<Report, RunError> {
        if let Err(error) = self.until_done(signals).await {
            for running in self.running.values() {
                running.group.stop();
            }
            while self.workers.join_next().await.is_some() {}
            return Err(error);
        }
        let stopped = self.ends.values().any(|end| matches!(end, StageEnd::Stopped));
        Ok(Report { ends: self.ends, interrupted: stopped || self.stop_requests > 0 })
    }

    async fn until_done(&mut self, signals: &mut StopSignals) -> Result<(), RunError> {
        let mut tick = tokio::time::interval(POLL_EVERY);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            self.start_ready().await?;
            if self.running.is_empty() && self.waiting.is_empty() {
                return Ok(());
            }
            tokio::select! {
                Some(joined) = self.workers.join_next() => {
                    let (stage, exit) = joined.expect("waiting for a worker does not panic");
                    self.ended(stage, exit?).await?;
                }
                () = signals.next() => self.stop(),
                _ = tick.tick() => {
                    self.follow().await?;
                    self.look_at_leases().await?;
                    self.dispatch.progress.tick(Utc::now());
                }
            }
        }
    }

    /// Starts stages, and passes over those that are cached, until none is ready or all places are taken.
    async fn start_ready(&mut self) -> Result<(), RunError> {
        while self.may_start() {
            let Some(stage) = self.scheduler.start_next() else { return Ok(()) };
            let key = &self.dispatch.plan.stages[stage].key;
            if !self.dispatch.forced.contains(&stage) && self.is_cached(key)? {
                self.dispatch.progress.hit(stage);
                self.dispatch.recorder.hit(stage).await;
                self.ends.insert(stage, StageEnd::Hit);
                self.scheduler.finish(stage);
                continue;
            }
            self.start(stage).await?;
        }
        Ok(())
    }

    /// Whether the result of `key` can be used; one that is damaged is told and moved away.
    fn is_cached(&self, key: &Digest) -> Result<bool, RunError> {
        match self.dispatch.cache.lookup(key)? {
            Lookup::Hit(_) => Ok(true),
            Lookup::Miss => Ok(false),
            Lookup::Quarantined { reason, dir } => {
                let dir = dir.display();
                self.dispatch
                    .progress
                    .warn(&format!("a damaged result was moved to {dir} and is made again: {reason}"));
                Ok(false)
            }
        }
    }

    fn may_start(&self) -> bool {
        let failed = || self.ends.values().any(|end| matches!(end, StageEnd::Failed(_)));
        self.stop_requests == 0 && self.running.len() < self.dispatch.jobs && !(self.dispatch.fail_fast && failed())
    }

    /// Prepares the attempt and starts its worker, unless another process is at it.
    async fn start(&mut self, stage: usize) -> Result<(), RunError> {
        let now = Utc::now();
        let planned = &self.dispatch.plan.stages[stage];
        if let Some(owner) = self.dispatch.cache.holder(&planned.key) {
            self.wait_for(stage, &owner.to_string()).await;
            return Ok(());
        }
        if self.dispatch.forced.contains(&stage) {
            self.dispatch.cache.discard(&planned.key)?;
        }
        let assignment = assignment(planned, self.dispatch.plan, self.dispatch.cache);
        let attempt = self.dispatch.cache.prepare(&assignment, &planned.key_json)?;
        let mut reader = EventReader::new(attempt.dir());
        let seen = reader.poll()?.len(); // what an earlier attempt wrote has been recorded with that attempt
        let executor = match (&planned.program, &self.dispatch.executor) {
            (Some(_), _) => match &self.command_executor {
                Some(executor) => executor,
                None => self.command_executor.insert(LocalExecutor::of_command_stages()?),
            },
            (None, Some(executor)) => executor,
            (None, None) => self.dispatch.executor.insert(LocalExecutor::find()?),
        };
        let worker = executor.start(attempt.dir())?;
        self.dispatch.progress.started(stage, now);
        self.dispatch.recorder.started(stage).await;
        let running = Running {
            group: worker.group(),
            reader,
            seen,
            log: attempt.dir().join("worker.log"),
            started_at: now,
            last_step: None,
            results: BTreeMap::new(),
            failure: None,
        };
        self.running.insert(stage, running);
        self.workers.spawn(async move { (stage, worker.wait().await) });
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
        let mut events = running.reader.poll()?;
        let committed = checkpoint_dir(self.dispatch.cache, &self.dispatch.plan.stages[stage].key);
        if events.is_empty() && committed.is_dir() {
            // Committing moves the events; what was read before the move is passed over.
            running.reader = EventReader::new(&committed);
            events = running.reader.poll()?.into_iter().skip(running.seen).collect();
        }
        running.seen += events.len();
        for event in &events {
            running.take_in(event);
            self.dispatch.progress.event(stage, event);
        }
        self.dispatch.recorder.events(stage, &events).await;
        Ok(())
    }

    /// A worker ended.
    async fn ended(&mut self, stage: usize, exit: WorkerExit) -> Result<(), RunError> {
        self.follow_one(stage).await?;
        let running = self.running.remove(&stage).expect("only running stages end");
        let now = Utc::now();
        let seconds = (now - running.started_at).as_seconds_f64();
        match exit {
            WorkerExit::LeaseHeld => {
                let owner = self.dispatch.cache.holder(&self.dispatch.plan.stages[stage].key);
                self.wait_for(stage, &owner.map_or("another process".to_owned(), |owner| owner.to_string())).await;
            }
            WorkerExit::Committed => self.committed(stage, running, seconds).await?,
            WorkerExit::Stopped => self.stopped(stage, running.last_step, seconds).await,
            WorkerExit::Crashed { signal: Some(9 | 15), .. } if self.stop_requests > 0 => {
                self.stopped(stage, running.last_step, seconds).await;
            }
            WorkerExit::Failed | WorkerExit::Crashed { .. } => {
                let failure = failure_of(exit, running.failure);
                self.failed(stage, failure, &running.log, seconds).await;
            }
        }
        Ok(())
    }

    /// The worker says the checkpoint is there: it is believed when the cache says so too.
    async fn committed(&mut self, stage: usize, running: Running, seconds: f64) -> Result<(), RunError> {
        let key = &self.dispatch.plan.stages[stage].key;
        if !self.is_cached(key)? {
            let failure = Failure {
                class: FailureClass::Io,
                message: "the worker ended well but left no valid checkpoint in the cache".into(),
                hint: Some("is the disk full? `orchestrate doctor` shows the space left".into()),
            };
            self.failed(stage, failure, &running.log, seconds).await;
            return Ok(());
        }
        self.dispatch.progress.finished(stage, seconds);
        let results = if running.results.is_empty() { results(self.dispatch.cache, key)? } else { running.results };
        self.dispatch.recorder.done(stage, seconds, results).await;
        self.ends.insert(stage, StageEnd::Done { seconds });
        self.scheduler.finish(stage);
        Ok(())
    }

    async fn failed(&mut self, stage: usize, failure: Failure, log: &Path, seconds: f64) {
        self.dispatch.progress.failed(stage, &failure.message);
        self.dispatch.recorder.failed(stage, seconds, &failure).await;
        let log_tail = log_tail(log);
        self.ends.insert(stage, StageEnd::Failed(FailedStage { failure, log_tail, log: log.to_owned() }));
        self.skip_below(stage, "failed").await;
    }

    async fn stopped(&mut self, stage: usize, step: Option<u64>, seconds: f64) {
        self.dispatch.progress.stopped(stage, step);
        self.dispatch.recorder.stopped(stage, seconds).await;
        self.ends.insert(stage, StageEnd::Stopped);
        self.skip_below(stage, "stopped").await;
    }

    /// Passes over everything that needs `stage`.
    async fn skip_below(&mut self, stage: usize, how: &str) {
        let because = format!("`{}` {how}", self.dispatch.plan.stages[stage].name);
        for skipped in self.scheduler.fail(stage) {
            self.dispatch.progress.skipped(skipped, &because);
            self.dispatch.recorder.skipped(skipped, &because).await;
            self.ends.insert(skipped, StageEnd::Skipped);
        }
    }

    async fn wait_for(&mut self, stage: usize, whom: &str) {
        self.dispatch.progress.waiting(stage, whom);
        self.dispatch.recorder.waiting(stage, whom).await;
        self.waiting.insert(stage, Waiting { looked_at: Utc::now() });
    }

    /// Goes on with stages whose lease has become free or whose checkpoint another process has committed.
    async fn look_at_leases(&mut self) -> Result<(), RunError> {
        let now = Utc::now();
        let due: Vec<usize> = self
            .waiting
            .iter()
            .filter(|(_, waiting)| (now - waiting.looked_at).as_seconds_f64() >= LEASE_POLL_S)
            .map(|(&stage, _)| stage)
            .collect();
        for stage in due {
            let key = &self.dispatch.plan.stages[stage].key;
            if self.is_cached(key)? {
                self.waiting.remove(&stage);
                self.dispatch.progress.hit(stage);
                self.dispatch.recorder.hit(stage).await;
                self.ends.insert(stage, StageEnd::Hit);
                self.scheduler.finish(stage);
            } else if self.dispatch.cache.holder(key).is_none() {
                if self.may_start() {
                    self.waiting.remove(&stage);
                    self.start(stage).await?;
                }
            } else if let Some(waiting) = self.waiting.get_mut(&stage) {
                waiting.looked_at = now;
            }
        }
        Ok(())
    }

    /// A request to stop: the first is passed on, the second ends everything now.
    fn stop(&mut self) {
        self.stop_requests += 1;
        if self.stop_requests == 1 {
            self.dispatch.progress.note("stopping: waiting for resume points (Ctrl-C again to kill)");
        }
        for running in self.running.values() {
            if self.stop_requests == 1 { running.group.stop() } else { running.group.kill() }
        }
        self.waiting.clear();
    }
}

impl Running {
    fn take_in(&mut self, event: &Event) {
        match &event.kind {
            EventKind::Step(step) => self.last_step = Some(step.step),
            EventKind::Started(started) => self.last_step = started.resumed_from_step,
            EventKind::Stopped { step } | EventKind::ResumePoint { step } => self.last_step = Some(*step),
            EventKind::Finished(results) => self.results.clone_from(results),
            EventKind::Failed(failure) => self.failure = Some(failure.clone()),
            EventKind::Phase(_) | EventKind::Completion(_) | EventKind::Warning(_) => {}
        }
    }
}

/// What the worker is to do.
pub fn assignment(planned: &PlannedStage, plan: &Plan, cache: &Cache) -> Assignment {
    Assignment {
        key: planned.key.clone(),
        stage: planned.name.clone(),
        spec: planned.spec.clone(),
        inputs: planned.inputs.clone(),
        parents: planned.parents.iter().map(|&parent| checkpoint_dir(cache, &plan.stages[parent].key)).collect(),
        program: planned.program.clone(),
        runtime: Runtime {
            device: match planned.runtime.device {
                Device::Auto => DeviceChoice::Auto,
                Device::Cpu => DeviceChoice::Cpu,
                Device::Cuda(index) => DeviceChoice::Cuda(index),
            },
            threads: planned.runtime.threads,
            resume_interval_s: planned.runtime.resume_interval_s,
            keep_resume_points: planned.runtime.keep_resume_points,
            gradient_checkpointing: planned.runtime.gradient_checkpointing == GradientCheckpointing::On,
            judges: planned.runtime.judges.clone(),
            endpoints: planned.runtime.endpoints.clone(),
            supervisor_pid: Some(std::process::id()),
        },
    }
}
