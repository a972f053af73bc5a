//! Writes down what a run does: first into its log directory, then into the database.
//!
//! The log is the truth, the database an index of it. A failure to write never ends a run that may have been going on for days: the first one is remembered and told at the
//! end, and nothing more is written to what failed.

use super::dispatch::Retry;
use super::run_log::{RunEventKind, RunLog};
use super::{FailedStage, RunError, RunRequest, past_runs};
use crate::digest::Digest;
use crate::event::{Event, Failure, Measurement};
use crate::store::{StageRecord, StageState, Store, StoreError};
use chrono::Utc;
use std::collections::BTreeMap;
use std::path::Path;
use ulid::Ulid;

/// The memory of a run that is going on.
pub(super) struct Recorder {
    run: String,
    keys: Vec<Digest>,
    log: RunLog,
    /// Absent once it refused something.
    store: Option<Store>,
    problem: Option<String>,
}

impl Recorder {
    /// Gives the run an id and writes down what it was asked.
    pub(super) async fn begin(request: &RunRequest, runs: &Path) -> Result<Self, RunError> {
        let run = Ulid::generate().to_string();
        let log_dir = runs.join("log").join(&run);
        let log = RunLog::create(&log_dir, request.invocation.clone(), &request.files, &request.plan)
            .map_err(|source| RunError::Io { what: "cannot write the log of the run", source })?;
        let keys = request.plan.stages.iter().map(|stage| stage.key.clone()).collect();
        let mut recorder = Self { run, keys, log, store: None, problem: None };
        recorder.append(RunEventKind::RunStarted {
            host: past_runs::host_name(),
            pid: std::process::id(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
        });
        match begin_in_store(&recorder.run, request, runs).await {
            Ok(store) => recorder.store = Some(store),
            Err(error) => recorder.remember(&error),
        }
        Ok(recorder)
    }

    /// The run's id.
    pub(super) fn run(&self) -> &str {
        &self.run
    }

    /// What could not be written, and why.
    pub(super) fn into_problem(self) -> Option<String> {
        self.problem
    }

    /// A stage's result was in the cache.
    pub(super) async fn hit(&mut self, stage: usize) {
        self.append(RunEventKind::StageHit { key: self.keys[stage].clone() });
        self.set_stage(stage, &StageState::Hit).await;
    }

    /// A worker was started.
    pub(super) async fn started(&mut self, stage: usize) {
        self.append(RunEventKind::StageStarted { key: self.keys[stage].clone() });
        self.set_stage(stage, &StageState::Running).await;
    }

    /// A worker wrote events.
    pub(super) async fn events(&mut self, stage: usize, events: &[Event]) {
        if let Some(store) = &self.store {
            let written = store.record_events(&self.keys[stage], events).await;
            self.check(written);
        }
    }

    /// Another process works on the stage.
    pub(super) async fn waiting(&mut self, stage: usize, owner: &str) {
        self.append(RunEventKind::StageWaiting { key: self.keys[stage].clone(), owner: owner.to_owned() });
        self.set_stage(stage, &StageState::Running).await;
    }

    /// A checkpoint was committed.
    pub(super) async fn done(&mut self, stage: usize, seconds: f64, results: BTreeMap<String, Measurement>) {
        self.append(RunEventKind::StageDone { key: self.keys[stage].clone(), seconds, results });
        self.set_stage(stage, &StageState::Ok { seconds }).await;
    }

    /// A stage failed.
    pub(super) async fn failed(&mut self, stage: usize, seconds: f64, failure: &Failure) {
        self.append(RunEventKind::StageFailed { key: self.keys[stage].clone(), seconds, failure: failure.clone() });
        self.set_stage(stage, &StageState::Failed { seconds, message: failure.message.clone() }).await;
    }

    /// A try failed, and there is another.
    pub(super) async fn retrying(&mut self, stage: usize, seconds: f64, failed: &FailedStage, retry: &Retry) {
        self.append(RunEventKind::StageRetried {
            key: self.keys[stage].clone(),
            tries: failed.tries,
            seconds,
            failure: failed.failure.clone(),
            after_s: retry.after.as_secs_f64(),
            gradient_checkpointing: retry.checkpointing,
        });
        self.set_stage(stage, &StageState::Running).await;
    }

    /// A stage stopped on request.
    pub(super) async fn stopped(&mut self, stage: usize, seconds: f64) {
        self.append(RunEventKind::StageStopped { key: self.keys[stage].clone(), seconds });
        self.set_stage(stage, &StageState::Interrupted { seconds }).await;
    }

    /// A stage was not run because of another.
    pub(super) async fn skipped(&mut self, stage: usize, because: &str) {
        self.append(RunEventKind::StageSkipped { key: self.keys[stage].clone(), because: because.to_owned() });
        self.set_stage(stage, &StageState::Skipped { because: because.to_owned() }).await;
    }

    /// The run ended: `ok`, `failed` or `interrupted`.
    pub(super) async fn end(&mut self, status: &str) {
        self.append(RunEventKind::RunEnded { status: status.to_owned() });
        if let Some(store) = &self.store {
            let written = store.end_run(&self.run, status).await;
            self.check(written);
        }
    }

    async fn set_stage(&mut self, stage: usize, state: &StageState) {
        if let Some(store) = &self.store {
            let written = store.set_stage(&self.run, stage, state).await;
            self.check(written);
        }
    }

    fn check(&mut self, written: Result<(), StoreError>) {
        if let Err(error) = written {
            self.store = None;
            self.remember(&error);
        }
    }

    fn append(&mut self, kind: RunEventKind) {
        if let Err(error) = self.log.append(Utc::now(), kind) {
            self.remember(&error);
        }
    }

    fn remember(&mut self, error: &dyn std::error::Error) {
        self.problem.get_or_insert_with(|| error.to_string());
    }
}

/// Opens the database and writes the run with its stages into it.
async fn begin_in_store(run: &str, request: &RunRequest, runs: &Path) -> Result<Store, StoreError> {
    let stages: Vec<StageRecord> = request
        .plan
        .stages
        .iter()
        .map(|stage| StageRecord {
            name: stage.name.clone(),
            kind: stage.spec.work.kind().to_owned(),
            key: stage.key.clone(),
            variants: stage.variants.clone(),
        })
        .collect();
    let host = past_runs::host_name();
    let store = Store::open(&runs.join("history.db")).await?;
    store.end_dead_runs(&host, |pid| past_runs::is_alive(&host, pid)).await?;
    store.begin_run(run, &host, &stages).await?;
    Ok(store)
}
