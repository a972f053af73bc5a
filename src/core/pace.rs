//! Estimates the speed of a stage and the time of its end.

use crate::event::{EventKind, StepPart};
use chrono::{DateTime, TimeDelta, Utc};
use std::collections::VecDeque;

/// The number of steps in the estimate: enough to smooth, and few enough to follow a change of pace.
const WINDOW: usize = 20;

/// The smallest fraction of a first step, or of a stage, from which the rest is estimated.
const LEAST_SHARE: f64 = 0.05;

/// An estimator of the remaining time from the last steps.
#[derive(Clone, Debug, Default)]
pub struct Pace {
    seen: VecDeque<(DateTime<Utc>, u64)>,
    /// The progress of the step after the last one, with its time.
    part: Option<(DateTime<Utc>, f64)>,
    /// The progress of the whole stage when the worker began and at its last report, where the worker measures it other
    /// than by steps.
    stage: Option<[(DateTime<Utc>, f64); 2]>,
    total_steps: u64,
}

impl Pace {
    /// Updates the estimate with an event of the worker.
    pub fn event(&mut self, at: DateTime<Utc>, kind: &EventKind) {
        match kind {
            EventKind::Started(started) => {
                self.start(at, started.resumed_from_step.unwrap_or(0), started.total_steps);
            }
            EventKind::Phase(_) => self.restart_clock(at),
            EventKind::StepPart(part) => self.part(at, part),
            EventKind::Step(step) => self.step(at, step.step, step.total_steps),
            EventKind::Completion(_)
            | EventKind::ResumePoint { .. }
            | EventKind::Warning(_)
            | EventKind::Finished(_)
            | EventKind::Stopped { .. }
            | EventKind::Failed(_) => {}
        }
    }

    /// Starts the estimate of a worker that begins at `at` after `step` completed steps. Data of an earlier worker is
    /// dropped.
    fn start(&mut self, at: DateTime<Utc>, step: u64, total_steps: u64) {
        self.seen.clear();
        self.part = None;
        self.stage = None;
        self.seen.push_back((at, step));
        self.total_steps = total_steps;
    }

    /// Restarts the clock at `at`, because loading takes time that is unrelated to steps.
    fn restart_clock(&mut self, at: DateTime<Utc>) {
        if self.seen.len() == 1 {
            self.seen[0].0 = at;
        }
    }

    /// Records the progress of the next step at `at`.
    fn part(&mut self, at: DateTime<Utc>, part: &StepPart) {
        self.part = Some((at, part.share));
        if let Some(share) = part.share_of_stage {
            let first = self.stage.map_or((at, share), |[first, _]| first);
            self.stage = Some([first, (at, share)]);
        }
    }

    /// Returns the progress of the next step, from 0 to 1, where it is known.
    pub fn share(&self) -> Option<f64> {
        self.part.map(|(_, share)| share)
    }

    /// Records that `step` ended at `at`.
    fn step(&mut self, at: DateTime<Utc>, step: u64, total_steps: u64) {
        self.total_steps = total_steps;
        self.part = None;
        self.seen.push_back((at, step));
        if self.seen.len() > WINDOW {
            self.seen.pop_front();
        }
    }

    /// Returns the number of completed steps and of all steps.
    pub fn position(&self) -> (u64, u64) {
        (self.seen.back().map_or(0, |&(_, step)| step), self.total_steps)
    }

    /// Returns the remaining seconds, once a step, or a part of the first one, has been timed.
    pub fn eta_s(&self, now: DateTime<Utc>) -> Option<f64> {
        if let Some([(first_at, first), (last_at, last)]) = self.stage {
            if last - first < LEAST_SHARE {
                return None;
            }
            let left = seconds(last_at - first_at) * (1.0 - last) / (last - first);
            return Some((left - seconds(now - last_at)).max(0.0));
        }
        let (&(first_at, first), &(last_at, last)) = (self.seen.front()?, self.seen.back()?);
        let per_step = match last.checked_sub(first)? {
            0 => {
                let (part_at, share) = self.part.filter(|(_, share)| *share >= LEAST_SHARE)?;
                seconds(part_at - last_at) / share
            }
            steps => seconds(last_at - first_at) / steps as f64,
        };
        let Some(others) = self.total_steps.checked_sub(last + 1) else { return Some(0.0) };
        // A step that takes longer than the others is assumed to end now.
        Some((per_step - seconds(now - last_at)).max(0.0) + others as f64 * per_step)
    }
}

fn seconds(delta: TimeDelta) -> f64 {
    delta.as_seconds_f64()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> DateTime<Utc> {
        DateTime::from_timestamp(1_700_000_000 + second, 0).expect("a valid time")
    }

    #[test]
    fn time_left_is_steps_left_at_the_pace_so_far() {
        let mut pace = Pace::default();
        pace.start(at(0), 0, 10);
        assert_eq!(pace.eta_s(at(5)), None);
        pace.restart_clock(at(100));
        pace.step(at(102), 1, 10);
        pace.step(at(104), 2, 10);
        assert_eq!(pace.eta_s(at(104)), Some(16.0));
        assert_eq!(pace.eta_s(at(105)), Some(15.0));
        assert_eq!(pace.eta_s(at(1000)), Some(14.0));
        pace.step(at(1001), 10, 10);
        assert_eq!(pace.eta_s(at(1002)), Some(0.0));
    }

    #[test]
    fn a_part_of_the_first_step_tells_the_pace_already() {
        let mut pace = Pace::default();
        pace.start(at(0), 0, 10);
        pace.restart_clock(at(100));
        pace.part(at(100), &part(0.02, None));
        assert_eq!(pace.eta_s(at(104)), None);
        pace.part(at(105), &part(0.25, None));
        assert_eq!(pace.eta_s(at(105)), Some(195.0));
        assert_eq!(pace.share(), Some(0.25));
        pace.step(at(118), 1, 10);
        assert_eq!((pace.share(), pace.eta_s(at(118))), (None, Some(162.0)));
    }

    fn part(share: f64, share_of_stage: Option<f64>) -> StepPart {
        StepPart { step: 1, total_steps: 10, share, share_of_stage }
    }

    #[test]
    fn steps_that_differ_are_weighed_by_the_worker() {
        let mut pace = Pace::default();
        pace.start(at(0), 0, 7);
        pace.restart_clock(at(100));
        pace.part(at(100), &part(0.0, Some(0.0)));
        pace.part(at(101), &part(0.02, Some(0.01)));
        assert_eq!(pace.eta_s(at(101)), None);
        pace.part(at(140), &part(0.5, Some(0.25)));
        assert_eq!(pace.eta_s(at(140)), Some(120.0));
        pace.step(at(180), 1, 7);
        pace.part(at(180), &part(0.0, Some(0.5)));
        assert_eq!(pace.eta_s(at(185)), Some(75.0));
        // A worker that resumed in the middle counts only its own progress.
        pace.start(at(200), 1, 7);
        pace.part(at(200), &part(0.0, Some(0.5)));
        pace.part(at(210), &part(0.0, Some(0.75)));
        assert_eq!(pace.eta_s(at(210)), Some(10.0));
    }

    #[test]
    fn a_resumed_stage_counts_only_its_own_steps() {
        let mut pace = Pace::default();
        pace.start(at(0), 500, 510);
        pace.step(at(3), 501, 510);
        assert_eq!(pace.eta_s(at(3)), Some(27.0));
        assert_eq!(pace.position(), (501, 510));
    }
}
