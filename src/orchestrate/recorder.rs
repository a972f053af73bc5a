//! Writes down what a run does: first into its log directory, then into the database.
//!
//! A failure to write never ends a run that may have been going on for days: the first one is remembered and told at the
//! end, and nothing more is written to what failed.

use super::run_log::{RunEventKind, RunLog};
use super::{RunError, RunRequest, past_runs};
use crate::digest::Digest;
use crate::event::{Event, Failure, Measurement};
use chrono::Utc;
use std::collections::BTreeMap;
use std::path::Path;
use ulid::Ulid;

/// The memory of a run that is going on.
pub(super) struct Recorder {
    run: String,
    keys: Vec<Digest>,
    log: RunLog,
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
        let mut recorder = Self { run, keys, log, problem: None };
        recorder.append(RunEventKind::RunStarted {
            host: past_runs::host_name(),
            pid: std::process::id(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
        });
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
    }

    /// A worker was started.
    pub(super) async fn started(&mut self, stage: usize) {
        self.append(RunEventKind::StageStarted { key: self.keys[stage].clone() });
    }

    /// A worker wrote events.
    pub(super) async fn events(&mut self, _stage: usize, _events: &[Event]) {}

    /// Another process works on the stage.
    pub(super) async fn waiting(&mut self, stage: usize, owner: &str) {
        self.append(RunEventKind::StageWaiting { key: self.keys[stage].clone(), owner: owner.to_owned() });
    }

    /// A checkpoint was committed.
    pub(super) async fn done(&mut self, stage: usize, seconds: f64, results: BTreeMap<String, Measurement>) {
        self.append(RunEventKind::StageDone { key: self.keys[stage].clone(), seconds, results });
    }

    /// A stage failed.
    pub(super) async fn failed(&mut self, stage: usize, seconds: f64, failure: &Failure) {
        self.append(RunEventKind::StageFailed { key: self.keys[stage].clone(), seconds, failure: failure.clone() });
    }

    /// A stage stopped on request.
    pub(super) async fn stopped(&mut self, stage: usize, seconds: f64) {
        self.append(RunEventKind::StageStopped { key: self.keys[stage].clone(), seconds });
    }

    /// A stage was not run because of another.
    pub(super) async fn skipped(&mut self, stage: usize, because: &str) {
        self.append(RunEventKind::StageSkipped { key: self.keys[stage].clone(), because: because.to_owned() });
    }

    /// The run ended: `ok`, `failed` or `interrupted`.
    pub(super) async fn end(&mut self, status: &str) {
        self.append(RunEventKind::RunEnded { status: status.to_owned() });
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
