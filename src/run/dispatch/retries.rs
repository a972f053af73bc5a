//! Retries of failed stages.

use super::run_loop::Loop;
use super::running::Running;
use crate::event::{Failure, FailureClass};
use crate::recipe::Retries;
use crate::run::FailedStage;
use crate::run::failure::log_tail;
use crate::run_update::{Retry, RunUpdate};
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// A stage that waits for its next try.
pub(super) struct Retrying {
    due: Instant,
    failed: FailedStage,
    last_step: Option<u64>,
    seconds: f64,
}

/// The tries at a stage so far.
#[derive(Clone, Debug, Default)]
pub(super) struct Tries {
    /// The number of tries that began.
    pub(super) begun: u32,
    /// The number of failed tries by reason.
    failed: BTreeMap<&'static str, u32>,
    /// Whether further tries use gradient checkpointing.
    pub(super) checkpointing: bool,
}

impl Tries {
    /// Returns the retry of a stage that failed for this reason, if any is left.
    ///
    /// `can_checkpoint` means that the stage trains and was tried without gradient checkpointing. Gradient
    /// checkpointing is the only change that needs less memory and keeps results bit-identical.
    pub(super) fn next(&mut self, class: FailureClass, retries: &Retries, can_checkpoint: bool) -> Option<Retry> {
        let (name, most) = match class {
            FailureClass::OutOfMemory if !can_checkpoint => return None,
            FailureClass::OutOfMemory => ("oom", retries.oom),
            FailureClass::Crash => ("crash", retries.crash),
            FailureClass::Timeout => ("timeout", retries.timeout),
            FailureClass::JudgeUnavailable => ("judge_unavailable", retries.judge_unavailable),
            // Another try would fail in the same way.
            FailureClass::Input
            | FailureClass::NonFinite
            | FailureClass::Io
            | FailureClass::JudgeBudget
            | FailureClass::Program
            | FailureClass::Interrupted => return None,
        };
        let failed = self.failed.entry(name).or_default();
        *failed += 1;
        if *failed > most {
            return None;
        }
        let pause_s = match class {
            // No external service has to recover.
            FailureClass::OutOfMemory | FailureClass::Timeout => 0.0,
            _ => (retries.backoff_s * 2_f64.powi((*failed - 1).min(60).cast_signed())).min(retries.max_backoff_s),
        };
        let checkpointing = class == FailureClass::OutOfMemory;
        self.checkpointing |= checkpointing;
        Some(Retry { after: Duration::from_secs_f64(pause_s), checkpointing })
    }
}

impl Loop<'_> {
    /// Handles a failed try: schedules a retry or fails the stage.
    pub(super) async fn failed_try(&mut self, stage: usize, failure: Failure, running: Running, seconds: f64) {
        let planned = &self.dispatch.plan.stages[stage];
        let tries = self.tries.entry(stage).or_default();
        let can_checkpoint = planned.memory.can_checkpoint && !tries.checkpointing;
        let retry = tries.next(failure.class, &planned.runtime.retries, can_checkpoint);
        let log_tail = log_tail(&running.log);
        let failed = FailedStage { failure, log_tail, log: running.log, tries: tries.begun };
        let Some(retry) = retry.filter(|_| self.may_start()) else {
            return self.failed(stage, failed, seconds).await;
        };
        let (tries, failure) = (failed.tries, failed.failure.clone());
        self.dispatch.tell(RunUpdate::Retried { stage, tries, seconds, failure, retry }).await;
        self.scheduler.pause(stage);
        let due = Instant::now() + retry.after;
        self.retrying.insert(stage, Retrying { due, failed, last_step: running.last_step, seconds });
    }

    /// Wakes the stages whose pause is over.
    pub(super) fn wake_retries(&mut self) {
        let now = Instant::now();
        let scheduler = &mut self.scheduler;
        self.retrying.retain(|stage, retrying| {
            let waits = retrying.due > now;
            if !waits {
                scheduler.wake(*stage);
            }
            waits
        });
    }

    /// Cancels the retries that are waiting. Each stage ends with its last failure, or as stopped after a request to
    /// stop.
    pub(super) async fn give_up_retries(&mut self) {
        for (stage, Retrying { failed, last_step, seconds, .. }) in std::mem::take(&mut self.retrying) {
            if self.stop_requests > 0 {
                self.stopped(stage, last_step, seconds).await;
            } else {
                self.failed(stage, failed, seconds).await;
            }
        }
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
        let never = [FailureClass::Input, FailureClass::NonFinite, FailureClass::Io];
        for class in never.into_iter().chain([FailureClass::JudgeBudget, FailureClass::Program]) {
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
}
