//! Rows of past runs and their stages.

use super::context::Context;
use super::error::CliError;
use super::find::past_runs;
use crate::digest::Digest;
use crate::history::{PastRun, Series, events_dir};
use crate::number::duration;
use crate::report::StageLine;
use crate::run_event::RunEventKind;
use crate::workspace::{COMPLETIONS, EventLog, EventReader, Workspace};
use chrono::Utc;
use std::collections::BTreeMap;
use std::path::PathBuf;

pub(super) use crate::history::StageRow;

/// Returns the stages of `run` in the order of its plan. Without `run`, returns those of all runs, newest run first.
pub(super) fn stage_rows(context: &Context, run: Option<&PastRun>) -> Result<Vec<StageRow>, CliError> {
    let all = if run.is_none() { past_runs(context)? } else { Vec::new() };
    let workspace = Workspace::open(context.runs())?;
    let mut rows = Vec::new();
    for past in run.map_or(&all[..], std::slice::from_ref) {
        rows.extend(past.stage_rows(&workspace)?);
    }
    Ok(rows)
}

/// Returns messages about failed tries of `past` that were retried, with the stages' keys.
pub(super) fn failed_tries(past: &PastRun) -> Result<Vec<(Digest, String)>, CliError> {
    let tries = past.events()?.into_iter().filter_map(|event| match event.kind {
        RunEventKind::StageRetried { key, tries, seconds, failure, gradient_checkpointing, .. } => {
            let then = if gradient_checkpointing { "; then with gradient checkpointing" } else { "" };
            Some((key, format!("try {tries} failed after {}: {}{then}", duration(seconds), failure.message)))
        }
        _ => None,
    });
    Ok(tries.collect())
}

/// Opens the events of the stage with this key.
pub(super) fn event_log(context: &Context, key: &Digest) -> Result<EventLog, CliError> {
    Ok(EventLog::open(&events_dir(&Workspace::open(context.runs())?, key))?)
}

/// Describes the progress of the stage with this key; `None` before its worker's first event.
pub(super) fn progress(context: &Context, key: &Digest) -> Result<Option<String>, CliError> {
    let dir = events_dir(&Workspace::open(context.runs())?, key);
    let events = EventReader::new(&dir).poll()?;
    let mut line = StageLine::default();
    for event in &events {
        line.event(event.at, &event.kind);
    }
    Ok((!events.is_empty()).then(|| line.progress(Utc::now())))
}

/// Reads the metrics of the stage with this key.
pub(super) fn stage_metrics(context: &Context, key: &Digest) -> Result<BTreeMap<String, Series>, CliError> {
    Ok(crate::history::stage_metrics(&Workspace::open(context.runs())?, key)?)
}

/// Returns the file with all completions of the stage with this key, once it is committed.
pub(super) fn completions_file(context: &Context, key: &Digest) -> Result<Option<PathBuf>, CliError> {
    let path = events_dir(&Workspace::open(context.runs())?, key).join(COMPLETIONS);
    Ok(path.is_file().then_some(path))
}
