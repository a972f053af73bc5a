//! A stage whose worker is running, and its time limit.

use crate::event::{Event, EventKind, Failure, FailureClass, Measurement, PeakMemory};
use crate::pace::Pace;
use crate::workspace::{EventReader, Job, WorkspaceError};
use chrono::{DateTime, Utc};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// A stage whose worker is running.
pub(super) struct Running {
    pub(super) job: Job,
    pub(super) reader: EventReader,
    /// The number of events read so far.
    pub(super) seen: usize,
    pub(super) log: PathBuf,
    /// Bytes of the log that earlier workers wrote.
    pub(super) log_start: u64,
    pub(super) started_at: DateTime<Utc>,
    pub(super) limit: Option<TimeLimit>,
    pub(super) last_step: Option<u64>,
    /// Whether the worker resumed, so that its seconds are not those of the whole stage.
    pub(super) resumed: bool,
    pub(super) results: BTreeMap<String, Measurement>,
    pub(super) failure: Option<Failure>,
    /// Why the events cannot be read.
    pub(super) damage: Option<WorkspaceError>,
    /// Energy in joules since the worker started, if the device reports it.
    pub(super) energy_j: Option<f64>,
    /// The worker's peak memory, if the system reports it.
    pub(super) peak_memory: Option<PeakMemory>,
    pub(super) pace: Pace,
}

impl Running {
    /// Creates the state of a worker that just started in the attempt directory `dir`. Earlier workers left `seen`
    /// events and `log_start` bytes of the log.
    pub(super) fn new(job: Job, dir: &Path, reader: EventReader, seen: usize, log_start: u64) -> Self {
        Self {
            job,
            reader,
            seen,
            log: dir.join(super::run_loop::WORKER_LOG),
            log_start,
            started_at: Utc::now(),
            limit: None,
            last_step: None,
            resumed: false,
            results: BTreeMap::new(),
            failure: None,
            damage: None,
            energy_j: None,
            peak_memory: None,
            pace: Pace::default(),
        }
    }

    pub(super) fn apply(&mut self, event: &Event) {
        self.energy_j = event.energy_j.or(self.energy_j);
        self.peak_memory = event.peak_memory.or(self.peak_memory);
        self.pace.event(event.at, &event.kind);
        match &event.kind {
            EventKind::Step(step) => self.last_step = Some(step.step),
            EventKind::Started(started) => {
                self.last_step = started.resumed_from_step;
                self.resumed |= started.resumed_from_step.is_some();
            }
            EventKind::Stopped { step } | EventKind::ResumePoint { step } => self.last_step = Some(*step),
            EventKind::Finished(results) => self.results.clone_from(results),
            EventKind::Failed(failure) => self.failure = Some(failure.clone()),
            EventKind::Phase(_) | EventKind::StepPart(_) | EventKind::Completion(_) | EventKind::Warning(_) => {}
        }
    }

    /// Returns the time limit if the worker exceeded it and was asked to stop.
    pub(super) fn timed_out(&self) -> Option<&TimeLimit> {
        self.limit.as_ref().filter(|limit| limit.asked_at.is_some())
    }
}

/// The time limit of a stage.
#[derive(Clone, Debug)]
pub(super) struct TimeLimit {
    pub(super) seconds: f64,
    since: Instant,
    grace: Duration,
    asked_at: Option<Instant>,
    killed: bool,
}

/// The next action towards a worker that exceeds its time limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Due {
    /// Ask the worker for a resume point.
    Stop,
    /// Kill the worker, because it did not end in time.
    Kill,
}

impl TimeLimit {
    /// Creates a time limit that begins now.
    pub(super) fn new(seconds: f64, grace_s: f64) -> Self {
        let grace = Duration::from_secs_f64(grace_s);
        Self { seconds, since: Instant::now(), grace, asked_at: None, killed: false }
    }

    /// Returns the action that is due now; each is returned once.
    pub(super) fn due(&mut self, now: Instant) -> Option<Due> {
        match self.asked_at {
            None if (now - self.since).as_secs_f64() >= self.seconds => {
                self.asked_at = Some(now);
                Some(Due::Stop)
            }
            Some(asked_at) if !self.killed && now - asked_at >= self.grace => {
                self.killed = true;
                Some(Due::Kill)
            }
            _ => None,
        }
    }

    /// Returns the failure of a stage that exceeded the limit.
    pub(super) fn failure(&self, last_step: Option<u64>) -> Failure {
        let step = last_step.map_or_else(String::new, |step| format!(" after step {step}"));
        Failure {
            class: FailureClass::Timeout,
            message: format!("it ran longer than its limit of {} s{step}", self.seconds),
            hint: Some(
                "raise `runtime.timeout_s` and run the recipe again: the stage goes on from its resume point".into(),
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_worker_whose_time_is_over_is_asked_once_and_killed_after_the_grace() {
        let mut limit = TimeLimit::new(10.0, 5.0);
        let at = |seconds| limit.since + Duration::from_secs(seconds);
        let times = [9, 10, 11, 14, 15, 99].map(at);
        let due = times.map(|now| limit.due(now));
        assert_eq!(due, [None, Some(Due::Stop), None, None, Some(Due::Kill), None]);
    }
}
