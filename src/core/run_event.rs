//! The events of a run, as its log records them, and the progress of each stage that follows from them.

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
    /// The time of the event.
    pub at: DateTime<Utc>,
    /// The content of the event.
    pub kind: RunEventKind,
}

/// The process that runs the stages of a run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunProcess {
    /// The host name.
    pub host: String,
    /// The process id.
    pub pid: u32,
    /// The id of the host's boot; empty in the logs of earlier versions.
    #[serde(default)]
    pub boot_id: String,
    /// The start of the process, in clock ticks since the boot; absent in the logs of earlier versions.
    #[serde(default)]
    pub start_ticks: Option<u64>,
}

impl RunProcess {
    /// Returns the identity of this process.
    pub fn this_process() -> Self {
        let pid = std::process::id();
        Self { host: host_name(), pid, boot_id: boot_id(), start_ticks: start_ticks(pid) }
    }

    /// Whether a process with this id and start time exists on this boot.
    pub fn is_there(&self) -> bool {
        self.boot_id == boot_id() && self.start_ticks.is_some() && start_ticks(self.pid) == self.start_ticks
    }
}

/// The content of a run's event.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RunEventKind {
    /// The run began.
    RunStarted {
        /// The process that runs its stages.
        #[serde(flatten)]
        process: RunProcess,
        /// The version of `orchestrate`.
        version: String,
    },
    /// A stage's result was in the cache.
    StageHit {
        /// The stage's cache key.
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
        /// The process that works on the stage.
        owner: String,
    },
    /// A try at a stage is about to end, and the device reported its energy.
    StageEnergy {
        /// The stage's cache key.
        key: Digest,
        /// The joules since the worker was started.
        joules: f64,
    },
    /// A try at a stage is about to end, and the system reported its memory.
    StageMemory {
        /// The stage's cache key.
        key: Digest,
        /// The peak memory and its estimate.
        memory: MemoryUse,
    },
    /// A stage's checkpoint was committed.
    StageDone {
        /// The stage's cache key.
        key: Digest,
        /// The seconds since the stage was started.
        seconds: f64,
        /// The stage's results, from its `finished` event.
        results: BTreeMap<String, Measurement>,
    },
    /// A stage failed.
    StageFailed {
        /// The stage's cache key.
        key: Digest,
        /// The seconds since the stage was started.
        seconds: f64,
        /// The failure.
        failure: Failure,
    },
    /// A try at a stage failed, and another one follows.
    StageRetried {
        /// The stage's cache key.
        key: Digest,
        /// The number of tries so far.
        tries: u32,
        /// The seconds since this try was started.
        seconds: f64,
        /// The failure of this try.
        failure: Failure,
        /// The seconds before the next try.
        after_s: f64,
        /// Whether the next try uses gradient checkpointing, unlike this one.
        gradient_checkpointing: bool,
    },
    /// A stage stopped on request.
    StageStopped {
        /// The stage's cache key.
        key: Digest,
        /// The seconds since the stage was started.
        seconds: f64,
    },
    /// A stage did not run because of another stage.
    StageSkipped {
        /// The stage's cache key.
        key: Digest,
        /// The reason.
        because: String,
    },
    /// The run ended.
    RunEnded {
        /// The status of the run.
        status: RunStatus,
    },
}

impl RunEventKind {
    /// Returns the key of the stage that the event concerns.
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

/// The progress of a stage in a run, computed from its events. Commands, pages and the database all use this
/// computation.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct StageProgress {
    /// The status as far as the events show it; see [`StageStatus::after_the_run`].
    pub status: StageStatus,
    /// The time at which a worker was first started.
    pub started_at: Option<DateTime<Utc>>,
    /// The duration of the last worker, in seconds.
    pub seconds: Option<f64>,
    /// The reason why the stage failed or was skipped.
    pub message: Option<String>,
    /// The number of workers that were started.
    pub tries: u32,
    /// The peak memory of a try; absent where the stage did not run or the system does not report it.
    pub memory: Option<MemoryUse>,
    /// The stage's results in this run.
    pub results: BTreeMap<String, Measurement>,
}

impl StageProgress {
    /// Updates the progress with the next event of the stage.
    pub fn apply(&mut self, event: &RunEvent) {
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
            progress.apply(&RunEvent { at: Utc::now(), kind });
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
