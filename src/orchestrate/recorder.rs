//! Writes down what a run does: first into its log directory, then into the database.
//!
//! The log is the truth, the database an index of it that is read from it (`index`). So a database that another process
//! holds is left for later, and one that cannot be written at all costs nothing but the time a later question takes to read
//! the files. A failure never ends a run that may have been going on for days: the first one is told at the end.

use super::dispatch::Retry;
use super::index::{self, IndexError};
use super::run_log::{LoggedPlan, RunLog};
use super::{FailedStage, RunError, RunRequest};
use crate::cache::{Cache, FileLock};
use crate::digest::Digest;
use crate::event::{Event, Failure, Measurement, MemoryUse};
use crate::run_event::{RunEventKind, RunProcess};
use crate::stage::RunStatus;
use crate::store::{Store, database_path};
use chrono::Utc;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::{Duration, Instant};
use ulid::Ulid;

/// How long a run in progress waits for another process that writes into the database; its workers wait with it.
const SHORT_WAIT: Duration = Duration::from_millis(100);
/// How long a run that has ended tries once more.
const LAST_WAIT: Duration = Duration::from_secs(3);
/// How long it leaves the database alone then.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// The memory of a run that is going on.
pub(super) struct Recorder {
    run: String,
    keys: Vec<Digest>,
    cache: Cache,
    plan: LoggedPlan,
    log: RunLog,
    store: Option<Store>,
    /// Something of the run's log is not in the database yet.
    log_is_new: bool,
    /// Stages whose events are not in the database yet.
    new_events: BTreeSet<usize>,
    /// When the database may be tried again; absent: never.
    next_try: Option<Instant>,
    problem: Option<String>,
}

impl Recorder {
    /// Gives the run an id and writes down what it was asked.
    pub(super) fn begin(request: &RunRequest, runs: &Path) -> Result<Self, RunError> {
        let run = Ulid::generate().to_string();
        let log_dir = runs.join("log").join(&run);
        let plan = LoggedPlan::of(&request.plan);
        let log = RunLog::create(&log_dir, request.invocation.clone(), &request.files, &plan)
            .map_err(|source| RunError::Io { what: "cannot write the log of the run", source })?;
        let mut recorder = Self {
            run,
            keys: request.plan.stages.iter().map(|stage| stage.key.clone()).collect(),
            cache: Cache::open(runs)?,
            plan,
            log,
            store: None,
            log_is_new: true,
            new_events: BTreeSet::new(),
            next_try: Some(Instant::now()),
            problem: None,
        };
        recorder.append(RunEventKind::RunStarted {
            process: RunProcess::this_process(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
        });
        Ok(recorder)
    }

    /// The run's id.
    pub(super) fn run(&self) -> &str {
        &self.run
    }

    /// What could not be written, and why; and what shows that the run's process lives.
    pub(super) fn into_end(self) -> (Option<String>, Option<FileLock>) {
        (self.problem, self.log.into_lock())
    }

    /// Results of stages were in the cache. There may be thousands of them at once, so the database waits for something
    /// slower.
    #[expect(clippy::unused_async, reason = "like what else may happen to a stage")]
    pub(super) async fn hits(&mut self, stages: &[usize]) {
        self.append_all(stages.iter().map(|&stage| RunEventKind::StageHit { key: self.keys[stage].clone() }).collect());
    }

    /// A worker was started.
    pub(super) async fn started(&mut self, stage: usize) {
        self.append(RunEventKind::StageStarted { key: self.keys[stage].clone() });
        self.flush().await;
    }

    /// A worker wrote events, if there are any.
    pub(super) async fn events(&mut self, stage: usize, events: &[Event]) {
        if !events.is_empty() {
            self.new_events.insert(stage);
        }
        self.flush().await;
    }

    /// Another process works on the stage.
    pub(super) async fn waiting(&mut self, stage: usize, owner: &str) {
        self.append(RunEventKind::StageWaiting { key: self.keys[stage].clone(), owner: owner.to_owned() });
        self.flush().await;
    }

    /// A try is about to end, after its device took so much energy; the end is flushed with it.
    pub(super) fn energy(&mut self, stage: usize, joules: f64) {
        self.append(RunEventKind::StageEnergy { key: self.keys[stage].clone(), joules });
    }

    /// A try is about to end, which has taken so much memory; the end is flushed with it.
    pub(super) fn memory(&mut self, stage: usize, memory: MemoryUse) {
        self.append(RunEventKind::StageMemory { key: self.keys[stage].clone(), memory });
    }

    /// A checkpoint was committed.
    pub(super) async fn done(&mut self, stage: usize, seconds: f64, results: BTreeMap<String, Measurement>) {
        self.ended(stage, RunEventKind::StageDone { key: self.keys[stage].clone(), seconds, results }).await;
    }

    /// A stage failed.
    pub(super) async fn failed(&mut self, stage: usize, seconds: f64, failure: &Failure) {
        let key = self.keys[stage].clone();
        self.ended(stage, RunEventKind::StageFailed { key, seconds, failure: failure.clone() }).await;
    }

    /// A try failed, and there is another.
    pub(super) async fn retrying(&mut self, stage: usize, seconds: f64, failed: &FailedStage, retry: &Retry) {
        let kind = RunEventKind::StageRetried {
            key: self.keys[stage].clone(),
            tries: failed.tries,
            seconds,
            failure: failed.failure.clone(),
            after_s: retry.after.as_secs_f64(),
            gradient_checkpointing: retry.checkpointing,
        };
        self.ended(stage, kind).await;
    }

    /// A stage stopped on request.
    pub(super) async fn stopped(&mut self, stage: usize, seconds: f64) {
        self.ended(stage, RunEventKind::StageStopped { key: self.keys[stage].clone(), seconds }).await;
    }

    /// A stage was not run because of another.
    #[expect(clippy::unused_async, reason = "like what else may happen to a stage")]
    pub(super) async fn skipped(&mut self, stage: usize, because: &str) {
        self.append(RunEventKind::StageSkipped { key: self.keys[stage].clone(), because: because.to_owned() });
    }

    /// The run ended.
    pub(super) async fn end(&mut self, status: RunStatus) {
        self.append(RunEventKind::RunEnded { status });
        let deadline = Instant::now() + LAST_WAIT;
        loop {
            self.flush().await;
            let Some(next_try) = self.next_try.filter(|_| self.is_behind()) else { return };
            if next_try > deadline {
                return self.remember(&"another process holds the history; the next question reads this run into it");
            }
            tokio::time::sleep_until(next_try.into()).await;
        }
    }

    async fn ended(&mut self, stage: usize, kind: RunEventKind) {
        self.new_events.insert(stage);
        self.append(kind);
        self.flush().await;
    }

    fn is_behind(&self) -> bool {
        self.log_is_new || !self.new_events.is_empty()
    }

    /// Brings the database up to the files, unless another process holds it.
    async fn flush(&mut self) {
        if !self.is_behind() || self.next_try.is_none_or(|at| at > Instant::now()) {
            return;
        }
        match self.write().await {
            Ok(()) => {
                self.log_is_new = false;
                self.new_events.clear();
            }
            Err(IndexError::Store(error)) if error.is_busy() => self.next_try = Some(Instant::now() + RETRY_AFTER),
            Err(error) => {
                self.next_try = None;
                let hint = if let IndexError::Store(error) = &error { error.hint() } else { String::new() };
                self.remember(&format_args!("{error}; {hint}"));
            }
        }
    }

    async fn write(&mut self) -> Result<(), IndexError> {
        let store = match &self.store {
            Some(store) => store,
            None => self.store.insert(index::open(&self.cache, &database_path(self.cache.root())?, SHORT_WAIT).await?),
        };
        let mut update = store.update().await?;
        index::read_run(&mut update, &self.cache, &self.run, Some(&self.plan)).await?;
        let keys = self.new_events.iter().map(|&stage| self.keys[stage].clone()).collect();
        index::read_keys(&mut update, &self.cache, &keys).await?;
        Ok(update.commit().await?)
    }

    fn append(&mut self, kind: RunEventKind) {
        self.append_all(vec![kind]);
    }

    fn append_all(&mut self, kinds: Vec<RunEventKind>) {
        self.log_is_new |= !kinds.is_empty();
        if let Err(error) = self.log.append(Utc::now(), kinds) {
            self.remember(&error);
        }
    }

    fn remember(&mut self, problem: &dyn std::fmt::Display) {
        self.problem.get_or_insert_with(|| problem.to_string());
    }
}
