//! How fast a stage goes and when it will end.

use chrono::{DateTime, TimeDelta, Utc};
use std::collections::VecDeque;

/// Steps that the estimate looks back on: enough to smooth, few enough to follow a change of pace.
const WINDOW: usize = 20;

/// Estimates the time left from the last steps.
#[derive(Clone, Debug, Default)]
pub struct Pace {
    seen: VecDeque<(DateTime<Utc>, u64)>,
    /// How far the step after the last one was, and when.
    part: Option<(DateTime<Utc>, f64)>,
    total_steps: u64,
}

impl Pace {
    /// The worker begins to work at `at` with `step` steps behind it; forgets what an earlier worker did.
    pub fn start(&mut self, at: DateTime<Utc>, step: u64, total_steps: u64) {
        self.seen.clear();
        self.part = None;
        self.seen.push_back((at, step));
        self.total_steps = total_steps;
    }

    /// Loading is over: time before `at` says nothing about steps.
    pub fn restart_clock(&mut self, at: DateTime<Utc>) {
        if self.seen.len() == 1 {
            self.seen[0].0 = at;
        }
    }

    /// `share` of the next step was done at `at`.
    pub fn part(&mut self, at: DateTime<Utc>, share: f64) {
        self.part = Some((at, share));
    }

    /// How far the next step is, where that is known.
    pub fn share(&self) -> Option<f64> {
        self.part.map(|(_, share)| share)
    }

    /// `step` ended at `at`.
    pub fn step(&mut self, at: DateTime<Utc>, step: u64, total_steps: u64) {
        self.total_steps = total_steps;
        self.part = None;
        self.seen.push_back((at, step));
        if self.seen.len() > WINDOW {
            self.seen.pop_front();
        }
    }

    /// Steps done, and in all.
    pub fn position(&self) -> (u64, u64) {
        (self.seen.back().map_or(0, |&(_, step)| step), self.total_steps)
    }

    /// Seconds left, once a step has been timed, or a part of the first one.
    pub fn eta_s(&self, now: DateTime<Utc>) -> Option<f64> {
        let (&(first_at, first), &(last_at, last)) = (self.seen.front()?, self.seen.back()?);
        let per_step = match last.checked_sub(first)? {
            0 => {
                let (part_at, share) = self.part.filter(|(_, share)| *share > 0.0)?;
                seconds(part_at - last_at) / share
            }
            steps => seconds(last_at - first_at) / steps as f64,
        };
        let Some(others) = self.total_steps.checked_sub(last + 1) else { return Some(0.0) };
        // a step that takes longer than the others is about to end
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
        pace.part(at(100), 0.0);
        assert_eq!(pace.eta_s(at(104)), None);
        pace.part(at(105), 0.25);
        assert_eq!(pace.eta_s(at(105)), Some(195.0));
        assert_eq!(pace.share(), Some(0.25));
        pace.step(at(118), 1, 10);
        assert_eq!((pace.share(), pace.eta_s(at(118))), (None, Some(162.0)));
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
