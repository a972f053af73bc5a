//! The stages of past runs, read from their logs.

use crate::digest::Digest;
use crate::event::{Measurement, MemoryUse};
use crate::history::checkpoints::{events_dir, results};
use crate::history::past_runs::PastRun;
use crate::history::run_log::{LoggedPlan, LoggedStage, read_events};
use crate::run_event::{RunEvent, StageProgress};
use crate::stage::{RunStatus, StageKind, StageStatus};
use crate::workspace::{EventLog, Workspace, WorkspaceError};
use chrono::{DateTime, Utc};
use serde_json::json;
use std::collections::BTreeMap;
use std::io;

/// A stage of a run.
#[derive(Clone, Debug)]
pub struct StageRow {
    /// The run's id.
    pub run: String,
    /// The recipes that it belongs to, joined by spaces.
    pub recipe: String,
    /// The variants that it belongs to, joined by spaces.
    pub variant: String,
    /// The stage's name.
    pub stage: String,
    /// The stage's kind.
    pub kind: StageKind,
    /// The stage's cache key.
    pub key: Digest,
    /// The stage's status.
    pub status: StageStatus,
    /// When a worker first started on it.
    pub started_at: Option<DateTime<Utc>>,
    /// The duration of its last worker in seconds.
    pub seconds: Option<f64>,
    /// The stage's measurements.
    pub metrics: BTreeMap<String, Measurement>,
    /// Why the stage failed or was skipped.
    pub message: Option<String>,
    /// The number of workers that were started on it.
    pub tries: u32,
    /// Peak memory in this run; absent if the stage did not run or the system does not report it.
    pub memory: Option<MemoryUse>,
}

impl StageRow {
    /// Returns the object that `history --json` documents.
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
    /// Reads the run's events, in order. An incomplete last line, left by a process that died, is not an event.
    pub fn events(&self) -> io::Result<Vec<RunEvent>> {
        Ok(read_events(&self.log_dir)?.0)
    }

    /// Returns the progress of each stage with events, by its key.
    pub fn stage_progress(&self) -> io::Result<BTreeMap<Digest, StageProgress>> {
        let mut progress: BTreeMap<Digest, StageProgress> = BTreeMap::new();
        for event in self.events()? {
            if let Some(key) = event.kind.key() {
                progress.entry(key.clone()).or_default().apply(&event);
            }
        }
        if self.status != RunStatus::Running {
            for stage in progress.values_mut() {
                stage.status = stage.status.after_the_run();
            }
        }
        Ok(progress)
    }

    /// Returns the progress of a stage without events.
    fn not_begun(&self) -> StageProgress {
        let status = match self.status {
            RunStatus::Running => StageStatus::Pending,
            _ => StageStatus::NotRun,
        };
        StageProgress { status, ..StageProgress::default() }
    }

    /// Returns the stages of the run, in the order of its plan.
    pub fn stage_rows(&self, workspace: &Workspace) -> io::Result<Vec<StageRow>> {
        let plan = LoggedPlan::load(&self.log_dir)?;
        let mut progress = self.stage_progress()?;
        let stages = plan.stages.iter().zip(plan.names());
        let row = |(stage, names): (&LoggedStage, (String, String))| {
            row(workspace, self, names, stage, progress.remove(&stage.key).unwrap_or_else(|| self.not_begun()))
        };
        Ok(stages.map(row).collect())
    }
}

/// The steps and values of one metric of a stage.
pub type Series = Vec<(u64, f64)>;

/// Reads the metrics of the stage with this key.
pub fn stage_metrics(workspace: &Workspace, key: &Digest) -> Result<BTreeMap<String, Series>, WorkspaceError> {
    let mut metrics: BTreeMap<String, Series> = BTreeMap::new();
    for step in EventLog::open(&events_dir(workspace, key))?.steps()? {
        let step = step?;
        for (name, value) in step.metrics {
            metrics.entry(name).or_default().push((step.step, value));
        }
    }
    Ok(metrics)
}

fn row(
    workspace: &Workspace,
    past: &PastRun,
    (recipe, variant): (String, String),
    stage: &LoggedStage,
    progress: StageProgress,
) -> StageRow {
    let StageProgress { status, started_at, seconds, message, tries, memory, results: measured } = progress;
    let metrics = match status {
        // Empty if the events are gone.
        StageStatus::Cached => results(workspace, &stage.key).unwrap_or_default(),
        _ => measured,
    };
    StageRow {
        run: past.run.clone(),
        recipe,
        variant,
        stage: stage.stage.clone(),
        kind: stage.kind,
        key: stage.key.clone(),
        status,
        started_at,
        seconds,
        metrics,
        message,
        tries,
        memory,
    }
}
