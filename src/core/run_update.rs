//! What the loop of a run tells whoever follows it: its log, its database, its display. One stream, so that all of them say the
//! same.

use crate::event::{Event, Failure, Measurement, MemoryUse};
use std::collections::BTreeMap;
use std::time::Duration;

/// Something that happens while a run goes on. Stages are named by their places in the plan.
#[derive(Clone, Debug)]
pub enum RunUpdate {
    /// The results of stages were in the cache; there may be thousands of them at once.
    Cached {
        /// The stages.
        stages: Vec<usize>,
    },
    /// A worker was started.
    Started {
        /// Its stage.
        stage: usize,
    },
    /// Another process works on a stage.
    Waiting {
        /// The stage.
        stage: usize,
        /// Which process.
        owner: String,
    },
    /// The events of a worker were read again; often there are no new ones.
    Worked {
        /// Its stage.
        stage: usize,
        /// The new events.
        events: Vec<Event>,
    },
    /// A try is about to end, after its device took so much energy.
    Energy {
        /// The stage.
        stage: usize,
        /// Since the worker was started.
        joules: f64,
    },
    /// A try is about to end, which has taken so much memory.
    Memory {
        /// The stage.
        stage: usize,
        /// The most it held, and what was expected.
        memory: MemoryUse,
    },
    /// A try failed, and there is another.
    Retried {
        /// The stage.
        stage: usize,
        /// Tries so far.
        tries: u32,
        /// Seconds since this one was started.
        seconds: f64,
        /// Why it failed.
        failure: Failure,
        /// The next one.
        retry: Retry,
    },
    /// A checkpoint was committed.
    Done {
        /// Its stage.
        stage: usize,
        /// Seconds since it was started.
        seconds: f64,
        /// What it measured.
        results: BTreeMap<String, Measurement>,
    },
    /// A stage failed.
    Failed {
        /// The stage.
        stage: usize,
        /// Seconds since it was started.
        seconds: f64,
        /// Why.
        failure: Failure,
    },
    /// A stage stopped on request.
    Stopped {
        /// The stage.
        stage: usize,
        /// Seconds since it was started.
        seconds: f64,
        /// The step of its newest resume point.
        step: Option<u64>,
    },
    /// A stage is not run because of another.
    Skipped {
        /// The stage.
        stage: usize,
        /// Why.
        because: String,
    },
    /// Something a person may want to know, which no log keeps.
    Note {
        /// The stage it concerns; absent: the whole run.
        stage: Option<usize>,
        /// In words.
        message: String,
    },
    /// A message that must be seen.
    Warning {
        /// In words.
        message: String,
    },
    /// The run was asked to stop, and waits for resume points.
    Stopping {
        /// Names of the stages that are still running.
        stages: Vec<String>,
        /// Seconds that the last of them has.
        grace_s: f64,
    },
    /// Progress of the run; sent every few seconds.
    Overall {
        /// Stages that have ended.
        ended: usize,
        /// Stages in all.
        stages: usize,
        /// Seconds left, where that is known.
        eta_s: Option<f64>,
    },
    /// A moment has passed; sent ten times a second, for moving lines.
    Tick,
    /// Nothing more will happen.
    Ended,
}

/// Another try.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Retry {
    /// The pause before it.
    pub after: Duration,
    /// With gradient checkpointing, which the last one was without.
    pub checkpointing: bool,
}
