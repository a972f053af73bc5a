//! The current state of runs and their stages.

use super::Site;
use super::follow::Follower;
use crate::digest::Digest;
use crate::history::{PastRun, PastRuns, StageRow, events_dir};
use crate::run_event::RunEventKind;
use crate::workspace::EventLog;
use chrono::Utc;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::io;

/// The maximum number of completions that are shown at a time.
pub(super) const COMPLETIONS: usize = 48;

/// Returns all runs, newest first.
pub(super) fn runs(site: &Site) -> io::Result<Value> {
    let past = PastRuns::all(&site.runs)?;
    Ok(Value::from(past.runs.iter().map(summary).collect::<Vec<_>>()))
}

fn summary(run: &PastRun) -> Value {
    let events = run.events().unwrap_or_default();
    let ended = events.iter().rev().find(|event| matches!(event.kind, RunEventKind::RunEnded { .. }));
    json!({
        "run": run.run, "status": run.status, "recipes": run.invocation.recipes, "set": run.invocation.set,
        "resumes": run.invocation.resumes, "started_at": events.first().map(|event| event.at),
        "ended_at": ended.map(|event| event.at), "host": run.process.as_ref().map(|process| &process.host),
        "unreadable_lines": run.unreadable_lines,
    })
}

/// Returns a run with its stages. The progress of running stages is in [`live`].
pub(super) fn run(run: &PastRun, rows: &[StageRow]) -> Value {
    let mut object = summary(run);
    object["stages"] = rows.iter().map(StageRow::to_json).collect();
    object
}

/// Returns the progress of the stages of `followers`.
pub(super) fn live(followers: &BTreeMap<Digest, Follower>) -> Value {
    let now = Utc::now();
    let line = |(key, follower): (&Digest, &Follower)| {
        let line = follower.line();
        let (step, total_steps) = line.position();
        json!({
            "key": key, "step": step, "total_steps": total_steps, "eta_s": line.eta_s(now), "phase": line.phase(),
            "text": line.progress(now),
        })
    };
    followers.iter().map(line).collect()
}

/// Returns completions of one step of the stage with this key: of `step`, or of the last step with completions.
pub(super) fn completions(site: &Site, key: &Digest, step: Option<u64>) -> io::Result<Value> {
    let log = EventLog::open(&events_dir(&site.workspace, key)).map_err(io::Error::other)?;
    let steps = log.completion_steps();
    let chosen = step.or_else(|| steps.last().copied());
    let mut found = Vec::new();
    if let Some(step) = chosen {
        for completion in log.completions(step..=step).map_err(io::Error::other)?.take(COMPLETIONS) {
            found.push(json!(completion.map_err(io::Error::other)?));
        }
    }
    Ok(json!({ "key": key, "step": chosen, "steps": steps, "completions": found }))
}
