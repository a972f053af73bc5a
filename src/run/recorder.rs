//! Records a run: first in its log directory, then in the database.
//!
//! The log is the source of truth; the database is an index that is read from it (`index`). If another process holds
//! the database, it is updated later. If the database cannot be written, the next query takes longer, because it reads
//! the files. A failure never ends a run that may have lasted for days. The first failure is reported at the end.

use super::{RunError, RunRequest};
use crate::digest::Digest;
use crate::history::index::{self, IndexError};
use crate::history::run_log::{LoggedPlan, RunLog};
use crate::host::FileLock;
use crate::run_event::{RunEventKind, RunProcess};
use crate::run_update::RunUpdate;
use crate::stage::RunStatus;
use crate::store::{Store, database_path};
use crate::workspace::Workspace;
use chrono::Utc;
use std::collections::BTreeSet;
use std::path::Path;
use std::time::{Duration, Instant};
use ulid::Ulid;

/// How long a run in progress waits for another process that writes into the database; its workers wait too.
const SHORT_WAIT: Duration = Duration::from_millis(100);
/// How long a run that has ended keeps trying.
const LAST_WAIT: Duration = Duration::from_secs(3);
/// The pause before the next try after another process held the database.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// Records a run in progress.
pub(super) struct Recorder {
    run: String,
    keys: Vec<Digest>,
    workspace: Workspace,
    plan: LoggedPlan,
    log: RunLog,
    store: Option<Store>,
    /// Whether the database lacks events of the run's log.
    log_is_new: bool,
    /// Stages with events that are not in the database yet.
    new_events: BTreeSet<usize>,
    /// When the database may be tried again; absent after a permanent failure.
    next_try: Option<Instant>,
    problem: Option<String>,
}

impl Recorder {
    /// Gives the run an id and records its invocation.
    pub(super) fn begin(request: &RunRequest, runs: &Path) -> Result<Self, RunError> {
        let run = Ulid::generate().to_string();
        let log_dir = runs.join("log").join(&run);
        let plan = LoggedPlan::of(&request.plan);
        let log = RunLog::create(&log_dir, request.invocation.clone(), &request.files, &plan)
            .map_err(|source| RunError::Io { what: "cannot write the log of the run", source })?;
        let mut recorder = Self {
            run,
            keys: request.plan.stages.iter().map(|stage| stage.key.clone()).collect(),
            workspace: Workspace::open(runs)?,
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

    /// Returns the run's id.
    pub(super) fn run(&self) -> &str {
        &self.run
    }

    /// Returns the problem of the database, if any, and the lock that shows that the run's process lives.
    pub(super) fn into_end(self) -> (Option<String>, Option<FileLock>) {
        (self.problem, self.log.into_lock())
    }

    /// Records the parts of `update` that the log keeps. Then updates the database, unless updates of this kind may be
    /// very frequent or directly precede another.
    pub(super) async fn record(&mut self, update: &RunUpdate) {
        let key = |stage: &usize| self.keys[*stage].clone();
        let kind = match update {
            // Thousands of cached stages must not wait for the database.
            RunUpdate::Cached { stages } => {
                return self
                    .append_all(stages.iter().map(|stage| RunEventKind::StageHit { key: key(stage) }).collect());
            }
            RunUpdate::Skipped { stage, because } => {
                return self.append(RunEventKind::StageSkipped { key: key(stage), because: because.clone() });
            }
            // The end of the try follows, and is flushed with this event.
            RunUpdate::Energy { stage, joules } => {
                return self.append(RunEventKind::StageEnergy { key: key(stage), joules: *joules });
            }
            RunUpdate::Memory { stage, memory } => {
                return self.append(RunEventKind::StageMemory { key: key(stage), memory: *memory });
            }
            RunUpdate::Worked { stage, events } => {
                if !events.is_empty() {
                    self.new_events.insert(*stage);
                }
                return self.flush().await;
            }
            RunUpdate::Started { stage } => RunEventKind::StageStarted { key: key(stage) },
            RunUpdate::Waiting { stage, owner } => RunEventKind::StageWaiting { key: key(stage), owner: owner.clone() },
            RunUpdate::Retried { stage, tries, seconds, failure, retry } => {
                self.new_events.insert(*stage);
                RunEventKind::StageRetried {
                    key: self.keys[*stage].clone(),
                    tries: *tries,
                    seconds: *seconds,
                    failure: failure.clone(),
                    after_s: retry.after.as_secs_f64(),
                    gradient_checkpointing: retry.checkpointing,
                }
            }
            RunUpdate::Done { stage, seconds, results } => {
                self.new_events.insert(*stage);
                let key = self.keys[*stage].clone();
                RunEventKind::StageDone { key, seconds: *seconds, results: results.clone() }
            }
            RunUpdate::Failed { stage, seconds, failure } => {
                self.new_events.insert(*stage);
                let key = self.keys[*stage].clone();
                RunEventKind::StageFailed { key, seconds: *seconds, failure: failure.clone() }
            }
            RunUpdate::Stopped { stage, seconds, step: _ } => {
                self.new_events.insert(*stage);
                RunEventKind::StageStopped { key: self.keys[*stage].clone(), seconds: *seconds }
            }
            RunUpdate::Note { .. }
            | RunUpdate::Warning { .. }
            | RunUpdate::Stopping { .. }
            | RunUpdate::Overall { .. }
            | RunUpdate::Tick
            | RunUpdate::Ended => return,
        };
        self.append(kind);
        self.flush().await;
    }

    /// Records the end of the run.
    pub(super) async fn end(&mut self, status: RunStatus) {
        self.append(RunEventKind::RunEnded { status });
        let deadline = Instant::now() + LAST_WAIT;
        loop {
            self.flush().await;
            let Some(next_try) = self.next_try.filter(|_| self.is_behind()) else { return };
            if next_try > deadline {
                return self.remember(&"another process holds the history; the next query adds this run");
            }
            tokio::time::sleep_until(next_try.into()).await;
        }
    }

    fn is_behind(&self) -> bool {
        self.log_is_new || !self.new_events.is_empty()
    }

    /// Updates the database from the files, unless another process holds it.
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
            None => self
                .store
                .insert(index::open(&self.workspace, &database_path(self.workspace.root())?, SHORT_WAIT).await?),
        };
        let mut update = store.update().await?;
        index::read_run(&mut update, &self.workspace, &self.run, Some(&self.plan)).await?;
        let keys = self.new_events.iter().map(|&stage| self.keys[stage].clone()).collect();
        index::read_keys(&mut update, &self.workspace, &keys).await?;
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
