//! What is known of past runs, as rows.

use super::context::Context;
use super::error::CliError;
use crate::cache::{COMPLETIONS, Cache, EventLog};
use crate::digest::Digest;
use crate::event::Measurement;
use crate::orchestrate::{LoggedPlan, LoggedStage, PastRun, RunEvent, RunEventKind, events_dir, results};
use crate::report::duration;
use chrono::{DateTime, Utc};
use serde_json::json;
use std::collections::BTreeMap;
use std::path::PathBuf;

/// A stage of a run.
#[derive(Clone, Debug)]
pub(super) struct StageRow {
    pub(super) run: String,
    pub(super) recipe: String,
    pub(super) variant: String,
    pub(super) stage: String,
    pub(super) kind: String,
    pub(super) key: Digest,
    pub(super) status: String,
    pub(super) started_at: Option<DateTime<Utc>>,
    pub(super) seconds: Option<f64>,
    pub(super) metrics: BTreeMap<String, Measurement>,
    pub(super) message: Option<String>,
    /// How often a worker was started on it.
    pub(super) tries: u32,
}

impl StageRow {
    /// The documented object of `history --json`.
    pub(super) fn to_json(&self) -> serde_json::Value {
        json!({
            "run": self.run, "recipe": self.recipe, "variant": self.variant, "stage": self.stage, "kind": self.kind,
            "key": self.key, "status": self.status, "started_at": self.started_at, "seconds": self.seconds,
            "metrics": self.metrics, "message": self.message, "tries": self.tries,
        })
    }
}

/// The stages of `run`, or of all runs, the newest run first, in the order of their plans.
pub(super) fn stage_rows(context: &Context, run: Option<&PastRun>) -> Result<Vec<StageRow>, CliError> {
    let all = if run.is_none() { PastRun::all(context.runs())? } else { Vec::new() };
    let runs = run.map_or(&all[..], std::slice::from_ref);
    let mut rows = Vec::new();
    for past in runs {
        let plan = LoggedPlan::load(&past.log_dir)?;
        let events = run_events(past)?;
        let stages = plan.stages.iter().zip(plan.names());
        rows.extend(stages.map(|(stage, names)| row(context, past, names, stage, &events)));
    }
    Ok(rows)
}

/// What the tries at stages of `past` failed of that were followed by others, with the stages' keys.
pub(super) fn failed_tries(past: &PastRun) -> Result<Vec<(Digest, String)>, CliError> {
    let tries = run_events(past)?.into_iter().filter_map(|event| match event.kind {
        RunEventKind::StageRetried { key, tries, seconds, failure, gradient_checkpointing, .. } => {
            let then = if gradient_checkpointing { "; then with gradient checkpointing" } else { "" };
            Some((key, format!("try {tries} failed after {}: {}{then}", duration(seconds), failure.message)))
        }
        _ => None,
    });
    Ok(tries.collect())
}

fn run_events(past: &PastRun) -> Result<Vec<RunEvent>, CliError> {
    let text = fs_err::read_to_string(past.log_dir.join("run.jsonl"))?;
    // A line that was being written when its process died is no event.
    Ok(text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect())
}

fn row(
    context: &Context,
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
        status: "not run".to_owned(),
        started_at: None,
        seconds: None,
        metrics: BTreeMap::new(),
        message: None,
        tries: 0,
    };
    for event in events {
        take_in(&mut row, event);
    }
    match row.status.as_str() {
        "running" if past.status != "running" => "interrupted".clone_into(&mut row.status),
        "hit" => row.metrics = results_of(context, &stage.key),
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

/// One metric of a stage over its steps.
pub(super) type Series = Vec<(u64, f64)>;

/// The events of the stage with this key.
pub(super) fn event_log(context: &Context, key: &Digest) -> Result<EventLog, CliError> {
    Ok(EventLog::open(&events_dir(&Cache::open(context.runs())?, key))?)
}

/// The metrics of the stage with this key.
pub(super) fn stage_metrics(context: &Context, key: &Digest) -> Result<BTreeMap<String, Series>, CliError> {
    let mut metrics: BTreeMap<String, Series> = BTreeMap::new();
    for step in event_log(context, key)?.steps()? {
        let step = step?;
        for (name, value) in step.metrics {
            metrics.entry(name).or_default().push((step.step, value));
        }
    }
    Ok(metrics)
}

/// The file with all completions of the stage with this key, once it is committed.
pub(super) fn completions_file(context: &Context, key: &Digest) -> Result<Option<PathBuf>, CliError> {
    let path = events_dir(&Cache::open(context.runs())?, key).join(COMPLETIONS);
    Ok(path.is_file().then_some(path))
}

/// What the stage with this key measured; nothing if its events are gone.
fn results_of(context: &Context, key: &Digest) -> BTreeMap<String, Measurement> {
    Cache::open(context.runs()).and_then(|cache| results(&cache, key)).unwrap_or_default()
}
