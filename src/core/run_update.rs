//! The updates that the loop of a run sends to its log, its database and its display. All of them consume the same
//! stream, so they agree.

use crate::event::{Event, Failure, Measurement, MemoryUse};
use std::collections::BTreeMap;
use std::time::Duration;

/// An update of a run in progress. Stages are identified by their indices in the plan.
#[derive(Clone, Debug)]
pub enum RunUpdate {
    /// The results of stages were in the cache. There may be thousands of them at once.
    Cached {
        /// The stages.
        stages: Vec<usize>,
    },
    /// A worker was started.
    Started {
        /// The worker's stage.
        stage: usize,
    },
    /// Another process works on a stage.
    Waiting {
        /// The stage.
        stage: usize,
        /// The process that works on the stage.
        owner: String,
    },
    /// The events of a worker were read again; often there are no new ones.
    Worked {
        /// The worker's stage.
        stage: usize,
        /// The new events.
        events: Vec<Event>,
    },
    /// A try is about to end, and its device reported its energy.
    Energy {
        /// The stage.
        stage: usize,
        /// The joules since the worker was started.
        joules: f64,
    },
    /// A try is about to end, and the system reported its memory.
    Memory {
        /// The stage.
        stage: usize,
        /// The peak memory and its estimate.
        memory: MemoryUse,
    },
    /// A try failed, and another one follows.
    Retried {
        /// The stage.
        stage: usize,
        /// The number of tries so far.
        tries: u32,
        /// The seconds since this try was started.
        seconds: f64,
        /// The failure of this try.
        failure: Failure,
        /// The next try.
        retry: Retry,
    },
    /// A checkpoint was committed.
    Done {
        /// The checkpoint's stage.
        stage: usize,
        /// The seconds since the stage was started.
        seconds: f64,
        /// The stage's results.
        results: BTreeMap<String, Measurement>,
    },
    /// A stage failed.
    Failed {
        /// The stage.
        stage: usize,
        /// The seconds since the stage was started.
        seconds: f64,
        /// The failure.
        failure: Failure,
    },
    /// A stage stopped on request.
    Stopped {
        /// The stage.
        stage: usize,
        /// The seconds since the stage was started.
        seconds: f64,
        /// The step of the stage's newest resume point.
        step: Option<u64>,
    },
    /// A stage does not run because of another stage.
    Skipped {
        /// The stage.
        stage: usize,
        /// The reason.
        because: String,
    },
    /// A message that may interest the user and is not logged.
    Note {
        /// The stage concerned; absent: the whole run.
        stage: Option<usize>,
        /// The message.
        message: String,
    },
    /// A message that must be seen.
    Warning {
        /// The message.
        message: String,
    },
    /// The run was asked to stop and waits for resume points.
    Stopping {
        /// The names of the stages that are still running.
        stages: Vec<String>,
        /// The seconds until the last of them is killed.
        grace_s: f64,
    },
    /// Progress of the run; sent every few seconds.
    Overall {
        /// The number of stages that have ended.
        ended: usize,
        /// The number of all stages.
        stages: usize,
        /// The remaining seconds, where they are known.
        eta_s: Option<f64>,
    },
    /// A moment has passed; sent ten times a second, for moving lines.
    Tick,
    /// No further update follows.
    Ended,
}

/// A further try at a stage.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Retry {
    /// The pause before the try.
    pub after: Duration,
    /// Whether the try uses gradient checkpointing, unlike the last one.
    pub checkpointing: bool,
}
