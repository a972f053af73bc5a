//! What happens in a run, as its log tells it, and what that comes to for each stage.

use crate::digest::Digest;
use crate::event::{Failure, Measurement, MemoryUse};
use crate::host::{boot_id, host_name, start_ticks};
use crate::stage::{RunStatus, StageStatus};
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// A line of `run.jsonl`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct RunEvent {
    /// When.
    pub at: DateTime<Utc>,
    /// What.
    pub kind: RunEventKind,
}

/// The process that runs the stages of a run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunProcess {
    /// Host name.
    pub host: String,
    /// Process id.
    pub pid: u32,
    /// Identity of the host's boot; empty in the logs of earlier versions.
    #[serde(default)]
    pub boot_id: String,
    /// When the process started, in clock ticks since then; absent in the logs of earlier versions.
    #[serde(default)]
    pub start_ticks: Option<u64>,
}

impl RunProcess {
    /// This process.
    pub fn this_process() -> Self {
        let pid = std::process::id();
        Self { host: host_name(), pid, boot_id: boot_id(), start_ticks: start_ticks(pid) }
    }

    /// Whether a process with this id that began at the same time is there.
    pub fn is_there(&self) -> bool {
        self.boot_id == boot_id() && self.start_ticks.is_some() && start_ticks(self.pid) == self.start_ticks
    }
}

/// What happened in a run.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RunEventKind {
    /// The run began.
    RunStarted {
        /// The process that runs its stages.
        #[serde(flatten)]
        process: RunProcess,
        /// Version of `orchestrate`.
        version: String,
    },
    /// A stage's result was in the cache.
    StageHit {
        /// Its cache key.
        key: Digest,
    },
    /// A worker was started.
    StageStarted {
        /// The stage's cache key.
        key: Digest,
    },
    /// Another process works on the stage.
    StageWaiting {
        /// The stage's cache key.
        key: Digest,
        /// Which process.
        owner: String,
    },
    /// A try at a stage is about to end, and the device tells what energy it took meanwhile.
    StageEnergy {
        /// The stage's cache key.
        key: Digest,
        /// Joules since the worker was started.
        joules: f64,
    },
    /// A try at a stage is about to end, and the system says what memory it took.
    StageMemory {
        /// The stage's cache key.
        key: Digest,
        /// The most it held, and what was expected.
        memory: MemoryUse,
    },
    /// A stage's checkpoint was committed.
    StageDone {
        /// The stage's cache key.
        key: Digest,
        /// Seconds since it was started.
        seconds: f64,
        /// What its `finished` event says.
        results: BTreeMap<String, Measurement>,
    },
    /// A stage failed.
    StageFailed {
        /// The stage's cache key.
        key: Digest,
        /// Seconds since it was started.
        seconds: f64,
        /// Why.
        failure: Failure,
    },
    /// A try at a stage failed, and there is another.
    StageRetried {
        /// The stage's cache key.
        key: Digest,
        /// Tries so far.
        tries: u32,
        /// Seconds since this one was started.
        seconds: f64,
        /// Why it failed.
        failure: Failure,
        /// Seconds before the next one.
        after_s: f64,
        /// Whether the next one is with gradient checkpointing, as this one was not.
        gradient_checkpointing: bool,
    },
    /// A stage stopped on request.
    StageStopped {
        /// The stage's cache key.
        key: Digest,
        /// Seconds since it was started.
        seconds: f64,
    },
    /// A stage was not run because of another.
    StageSkipped {
        /// Its cache key.
        key: Digest,
        /// Why.
        because: String,
    },
    /// The run ended.
    RunEnded {
        /// How.
        status: RunStatus,
    },
}

impl RunEventKind {
    /// The stage that it is about.
    pub fn key(&self) -> Option<&Digest> {
        match self {
            Self::StageHit { key }
            | Self::StageStarted { key }
            | Self::StageWaiting { key, .. }
            | Self::StageEnergy { key, .. }
            | Self::StageMemory { key, .. }
            | Self::StageDone { key, .. }
            | Self::StageFailed { key, .. }
            | Self::StageRetried { key, .. }
            | Self::StageStopped { key, .. }
            | Self::StageSkipped { key, .. } => Some(key),
            Self::RunStarted { .. } | Self::RunEnded { .. } => None,
        }
    }
}

/// What all that happened to a stage of a run comes to. The one place that says so: commands, pages and the database all read it
/// from here.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct StageProgress {
    /// How it stands, as far as the events say: see [`StageStatus::after_the_run`].
    pub status: StageStatus,
    /// When a worker was first started on it.
    pub started_at: Option<DateTime<Utc>>,
    /// Seconds that its last worker took.
    pub seconds: Option<f64>,
    /// Why it failed or was skipped.
    pub message: Option<String>,
    /// How often a worker was started on it.
    pub tries: u32,
    /// The most memory that a try took; absent where it did not run or the system does not say.
    pub memory: Option<MemoryUse>,
    /// What it measured here.
    pub results: BTreeMap<String, Measurement>,
}

impl StageProgress {
    /// Takes in the next event of the stage.
    pub fn take_in(&mut self, event: &RunEvent) {
        let (status, seconds, message) = match &event.kind {
            RunEventKind::RunStarted { .. } | RunEventKind::RunEnded { .. } | RunEventKind::StageEnergy { .. } => {
                return;
            }
            RunEventKind::StageMemory { memory, .. } => {
                self.memory = Some(self.memory.map_or(*memory, |other| other.larger(*memory)));
                return;
            }
            RunEventKind::StageHit { .. } => (StageStatus::Cached, None, None),
            RunEventKind::StageStarted { .. } => {
                self.started_at.get_or_insert(event.at);
                self.tries += 1;
                (StageStatus::Running, None, None)
            }
            RunEventKind::StageWaiting { .. } => (StageStatus::Running, None, None),
            RunEventKind::StageRetried { failure, .. } => (StageStatus::Running, None, Some(&failure.message)),
            RunEventKind::StageDone { seconds, results, .. } => {
                self.results.clone_from(results);
                (StageStatus::Ok, Some(*seconds), None)
            }
            RunEventKind::StageFailed { seconds, failure, .. } => {
                (StageStatus::Failed, Some(*seconds), Some(&failure.message))
            }
            RunEventKind::StageStopped { seconds, .. } => (StageStatus::Interrupted, Some(*seconds), None),
            RunEventKind::StageSkipped { because, .. } => (StageStatus::Skipped, None, Some(because)),
        };
        self.status = status;
        self.seconds = seconds;
        self.message = message.cloned();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::FailureClass;

    fn progress(kinds: Vec<RunEventKind>) -> StageProgress {
        let mut progress = StageProgress::default();
        for kind in kinds {
            progress.take_in(&RunEvent { at: Utc::now(), kind });
        }
        progress
    }

    fn failure() -> Failure {
        Failure { class: FailureClass::Crash, message: "it crashed".to_owned(), hint: None }
    }

    #[test]
    fn the_failure_of_a_try_is_forgotten_when_the_next_one_begins() {
        let key = Digest::of(b"stage");
        let started = || RunEventKind::StageStarted { key: key.clone() };
        let retried = RunEventKind::StageRetried {
            key: key.clone(),
            tries: 1,
            seconds: 2.0,
            failure: failure(),
            after_s: 0.0,
            gradient_checkpointing: false,
        };
        let paused = progress(vec![started(), retried.clone()]);
        assert_eq!((paused.status, paused.message.as_deref()), (StageStatus::Running, Some("it crashed")));
        let stopped = RunEventKind::StageStopped { key: key.clone(), seconds: 3.0 };
        let ended = progress(vec![started(), retried, started(), stopped]);
        assert_eq!((ended.status, ended.message, ended.tries), (StageStatus::Interrupted, None, 2));
    }

    #[test]
    fn the_last_word_counts() {
        let key = Digest::of(b"stage");
        let failed = RunEventKind::StageFailed { key: key.clone(), seconds: 1.0, failure: failure() };
        let started = RunEventKind::StageStarted { key: key.clone() };
        let failed = progress(vec![started, failed]);
        assert_eq!((failed.status, failed.seconds), (StageStatus::Failed, Some(1.0)));
        assert_eq!(progress(vec![RunEventKind::StageHit { key }]).status, StageStatus::Cached);
        assert_eq!(progress(vec![]).status, StageStatus::Pending);
    }
}
