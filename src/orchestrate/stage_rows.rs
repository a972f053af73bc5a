//! The stages of past runs, as their logs tell them.

use super::checkpoints::{events_dir, results};
use super::past_runs::PastRun;
use super::run_log::{LoggedPlan, LoggedStage, RunEvent, RunEventKind, read_events};
use crate::cache::{Cache, CacheError, EventLog};
use crate::digest::Digest;
use crate::event::{Measurement, MemoryUse};
use chrono::{DateTime, Utc};
use serde_json::json;
use std::collections::BTreeMap;
use std::io;

/// A stage of a run.
#[derive(Clone, Debug)]
pub struct StageRow {
    /// The run.
    pub run: String,
    /// Recipes it belongs to, with spaces between.
    pub recipe: String,
    /// Variants it belongs to, with spaces between.
    pub variant: String,
    /// Its name.
    pub stage: String,
    /// Its kind.
    pub kind: String,
    /// Its cache key.
    pub key: Digest,
    /// `pending`, `running`, `hit`, `ok`, `failed`, `skipped`, `interrupted` or `not run`.
    pub status: String,
    /// When a worker was first started on it.
    pub started_at: Option<DateTime<Utc>>,
    /// Seconds that its last worker took.
    pub seconds: Option<f64>,
    /// What it measured.
    pub metrics: BTreeMap<String, Measurement>,
    /// Why it failed or was skipped.
    pub message: Option<String>,
    /// How often a worker was started on it.
    pub tries: u32,
    /// The memory it took here; absent where it did not run or the system does not say.
    pub memory: Option<MemoryUse>,
}

impl StageRow {
    /// The documented object of `history --json`.
    pub fn to_json(&self) -> serde_json::Value {
        json!({
            "run": self.run, "recipe": self.recipe, "variant": self.variant, "stage": self.stage, "kind": self.kind,
            "key": self.key, "status": self.status, "started_at": self.started_at, "seconds": self.seconds,
            "metrics": self.metrics, "message": self.message, "tries": self.tries,
            "memory": self.memory,
        })
    }
}

impl PastRun {
    /// What happened, in order. A line that was being written when its process died is no event.
    pub fn events(&self) -> io::Result<Vec<RunEvent>> {
        Ok(read_events(&self.log_dir)?.0)
    }

    /// Its stages, in the order of its plan.
    pub fn stage_rows(&self, cache: &Cache) -> io::Result<Vec<StageRow>> {
        let plan = LoggedPlan::load(&self.log_dir)?;
        let events = self.events()?;
        let stages = plan.stages.iter().zip(plan.names());
        Ok(stages.map(|(stage, names)| row(cache, self, names, stage, &events)).collect())
    }
}

/// One metric of a stage over its steps.
pub type Series = Vec<(u64, f64)>;

/// The metrics of the stage with this key.
pub fn stage_metrics(cache: &Cache, key: &Digest) -> Result<BTreeMap<String, Series>, CacheError> {
    let mut metrics: BTreeMap<String, Series> = BTreeMap::new();
    for step in EventLog::open(&events_dir(cache, key))?.steps()? {
        let step = step?;
        for (name, value) in step.metrics {
            metrics.entry(name).or_default().push((step.step, value));
        }
    }
    Ok(metrics)
}

fn row(
    cache: &Cache,
    past: &PastRun,
    (recipe, variant): (String, String),
    stage: &LoggedStage,
    events: &[RunEvent],
) -> StageRow {
    let mut row = StageRow {
        run: past.run.clone(),
        recipe,
        variant,
        stage: stage.stage.clone(),
        kind: stage.kind.clone(),
        key: stage.key.clone(),
        status: if past.status == "running" { "pending" } else { "not run" }.to_owned(),
        started_at: None,
        seconds: None,
        metrics: BTreeMap::new(),
        message: None,
        tries: 0,
        memory: None,
    };
    for event in events {
        take_in(&mut row, event);
    }
    match row.status.as_str() {
        "running" if past.status != "running" => "interrupted".clone_into(&mut row.status),
        // nothing if its events are gone
        "hit" => row.metrics = results(cache, &stage.key).unwrap_or_default(),
        _ => {}
    }
    row
}

/// Brings `row` up to `event`, if it is about its stage.
fn take_in(row: &mut StageRow, event: &RunEvent) {
    let mut ended = |key: &Digest, status: &str, seconds: Option<f64>| {
        let concerned = *key == row.key;
        if concerned {
            status.clone_into(&mut row.status);
            row.seconds = seconds;
        }
        concerned
    };
    match &event.kind {
        RunEventKind::StageHit { key } => {
            ended(key, "hit", None);
        }
        RunEventKind::StageStarted { key } if ended(key, "running", None) => {
            row.started_at = row.started_at.or(Some(event.at));
            row.tries += 1;
        }
        RunEventKind::StageRetried { key, failure, .. } if ended(key, "running", None) => {
            row.message = Some(failure.message.clone());
        }
        RunEventKind::StageMemory { key, memory } if *key == row.key => {
            row.memory = Some(row.memory.map_or(*memory, |other| other.larger(*memory)));
        }
        RunEventKind::StageWaiting { key, .. } => {
            ended(key, "running", None);
        }
        RunEventKind::StageDone { key, seconds, results } if ended(key, "ok", Some(*seconds)) => {
            row.metrics.clone_from(results);
            row.message = None; // that of a try that failed
        }
        RunEventKind::StageFailed { key, seconds, failure } if ended(key, "failed", Some(*seconds)) => {
            row.message = Some(failure.message.clone());
        }
        RunEventKind::StageStopped { key, seconds } => {
            ended(key, "interrupted", Some(*seconds));
        }
        RunEventKind::StageSkipped { key, because } if ended(key, "skipped", None) => {
            row.message = Some(because.clone());
        }
        _ => {}
    }
}
