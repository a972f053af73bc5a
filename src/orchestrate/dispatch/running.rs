//! A stage whose worker is running, and one that is tried again.

use crate::cache::EventReader;
use crate::event::{Event, EventKind, Failure, FailureClass, Measurement};
use crate::exec::WorkerGroup;
use crate::recipe::Retries;
use chrono::{DateTime, Utc};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// A stage whose worker is running.
pub(super) struct Running {
    pub(super) group: WorkerGroup,
    pub(super) reader: EventReader,
    /// Events read so far.
    pub(super) seen: usize,
    pub(super) log: PathBuf,
    pub(super) started_at: DateTime<Utc>,
    pub(super) limit: Option<TimeLimit>,
    pub(super) last_step: Option<u64>,
    /// It went on from a resume point, so its seconds are not those of the whole stage.
    pub(super) resumed: bool,
    pub(super) results: BTreeMap<String, Measurement>,
    pub(super) failure: Option<Failure>,
}

impl Running {
    pub(super) fn take_in(&mut self, event: &Event) {
        match &event.kind {
            EventKind::Step(step) => self.last_step = Some(step.step),
            EventKind::Started(started) => {
                self.last_step = started.resumed_from_step;
                self.resumed |= started.resumed_from_step.is_some();
            }
            EventKind::Stopped { step } | EventKind::ResumePoint { step } => self.last_step = Some(*step),
            EventKind::Finished(results) => self.results.clone_from(results),
            EventKind::Failed(failure) => self.failure = Some(failure.clone()),
            EventKind::Phase(_) | EventKind::Completion(_) | EventKind::Warning(_) => {}
        }
    }

    /// Whether its time was over and it was asked to stop.
    pub(super) fn timed_out(&self) -> Option<&TimeLimit> {
        self.limit.as_ref().filter(|limit| limit.asked_at.is_some())
    }
}

/// How long a stage may run.
#[derive(Clone, Debug)]
pub(super) struct TimeLimit {
    pub(super) seconds: f64,
    since: Instant,
    grace: Duration,
    asked_at: Option<Instant>,
    killed: bool,
}

/// What is due to a worker whose time is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Due {
    /// Ask it for a resume point.
    Stop,
    /// It has had time enough for that.
    Kill,
}

impl TimeLimit {
    /// From now on.
    pub(super) fn new(seconds: f64, grace_s: f64) -> Self {
        let grace = Duration::from_secs_f64(grace_s);
        Self { seconds, since: Instant::now(), grace, asked_at: None, killed: false }
    }

    /// What is due now; each is due once.
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

    /// What is said of a stage that it stopped.
    pub(super) fn failure(&self, last_step: Option<u64>) -> Failure {
        let step = last_step.map_or_else(String::new, |step| format!(" after step {step}"));
        Failure {
            class: FailureClass::Timeout,
            message: format!("it ran longer than its limit of {} s{step}", self.seconds),
            hint: Some("raise `runtime.timeout_s`; `orchestrate resume` goes on from its resume point".into()),
        }
    }
}

/// The tries at a stage so far.
#[derive(Clone, Debug, Default)]
pub(super) struct Tries {
    /// How many were begun.
    pub(super) begun: u32,
    /// How many failed, by why.
    failed: BTreeMap<&'static str, u32>,
    /// From now on with gradient checkpointing.
    pub(super) checkpointing: bool,
}

/// Another try.
#[derive(Clone, Debug, PartialEq)]
pub(in crate::orchestrate) struct Retry {
    pub(in crate::orchestrate) after: Duration,
    /// With gradient checkpointing, which the last one was without.
    pub(in crate::orchestrate) checkpointing: bool,
}

impl Retry {
    /// When, and what is different then.
    pub(super) fn describe(&self) -> String {
        let how = if self.checkpointing { " with gradient checkpointing" } else { "" };
        if self.after.is_zero() {
            return format!("tried again{how}");
        }
        format!("tried again in {} s{how}", self.after.as_secs_f64())
    }
}

impl Tries {
    /// Whether a stage that failed for this reason is tried again. `can_checkpoint`: it trains, and was tried without gradient
    /// checkpointing, the one thing that needs less memory and changes no bit.
    pub(super) fn next(&mut self, class: FailureClass, retries: &Retries, can_checkpoint: bool) -> Option<Retry> {
        let (name, most) = match class {
            FailureClass::OutOfMemory if !can_checkpoint => return None,
            FailureClass::OutOfMemory => ("oom", retries.oom),
            FailureClass::Crash => ("crash", retries.crash),
            FailureClass::Timeout => ("timeout", retries.timeout),
            FailureClass::JudgeUnavailable => ("judge_unavailable", retries.judge_unavailable),
            FailureClass::Input | FailureClass::NonFinite | FailureClass::Io => return None,
        };
        let failed = self.failed.entry(name).or_default();
        *failed += 1;
        if *failed > most {
            return None;
        }
        let pause_s = match class {
            // nothing outside has to recover
            FailureClass::OutOfMemory | FailureClass::Timeout => 0.0,
            _ => (retries.backoff_s * 2_f64.powi((*failed - 1).min(60).cast_signed())).min(retries.max_backoff_s),
        };
        let checkpointing = class == FailureClass::OutOfMemory;
        self.checkpointing |= checkpointing;
        Some(Retry { after: Duration::from_secs_f64(pause_s), checkpointing })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn retries() -> Retries {
        Retries { oom: 9, crash: 3, timeout: 1, judge_unavailable: 2, backoff_s: 2.0, max_backoff_s: 5.0 }
    }

    fn pauses(class: FailureClass) -> Vec<f64> {
        let mut tries = Tries::default();
        std::iter::from_fn(|| tries.next(class, &retries(), true))
            .map(|retry| retry.after.as_secs_f64())
            .take(99)
            .collect()
    }

    #[test]
    fn each_class_has_its_number_of_retries_with_doubled_pauses() {
        assert_eq!(pauses(FailureClass::Crash), [2.0, 4.0, 5.0]);
        assert_eq!(pauses(FailureClass::JudgeUnavailable), [2.0, 4.0]);
        assert_eq!(pauses(FailureClass::Timeout), [0.0]);
        for class in [FailureClass::Input, FailureClass::NonFinite, FailureClass::Io] {
            assert_eq!(pauses(class), [0.0; 0], "{class:?}");
        }
    }

    #[test]
    fn classes_are_counted_each_for_itself() {
        let mut tries = Tries::default();
        assert!(tries.next(FailureClass::Timeout, &retries(), true).is_some());
        assert!(tries.next(FailureClass::Crash, &retries(), true).is_some());
        assert_eq!(tries.next(FailureClass::Timeout, &retries(), true), None);
    }

    #[test]
    fn exhausted_memory_is_tried_again_only_with_something_that_saves_memory() {
        let mut tries = Tries::default();
        let retry = tries.next(FailureClass::OutOfMemory, &retries(), true).expect("checkpointing saves memory");
        assert!(retry.checkpointing && tries.checkpointing);
        assert_eq!(tries.next(FailureClass::OutOfMemory, &retries(), false), None);
    }

    #[test]
    fn a_worker_whose_time_is_over_is_asked_once_and_killed_after_the_grace() {
        let mut limit = TimeLimit::new(10.0, 5.0);
        let at = |seconds| limit.since + Duration::from_secs(seconds);
        let times = [9, 10, 11, 14, 15, 99].map(at);
        let due = times.map(|now| limit.due(now));
        assert_eq!(due, [None, Some(Due::Stop), None, None, Some(Due::Kill), None]);
    }
}
