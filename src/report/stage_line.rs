//! A one-line summary of a stage.

use crate::event::{EventKind, Measurement};
use crate::metric::{HEADLINES, short_name};
use crate::number::{duration, measurement, number, rate};
use crate::pace::Pace;
use chrono::{DateTime, Utc};
use std::collections::BTreeMap;

/// Metrics that fit into a line, with the label of each.
const SHOWN: [(&str, &str); 3] = [("train/loss", "loss"), ("reward/mean", "reward"), ("eval/accuracy", "accuracy")];
/// The number of reward components in a finished stage's line, if it has no other result.
const COMPONENTS: usize = 2;

/// Follows the events of one stage.
#[derive(Clone, Debug, Default)]
pub struct StageLine {
    phase: Option<String>,
    pace: Pace,
    metrics: BTreeMap<String, f64>,
    results: BTreeMap<String, Measurement>,
    resumed_from_step: Option<u64>,
}

impl StageLine {
    /// Processes an event.
    pub fn event(&mut self, at: DateTime<Utc>, kind: &EventKind) {
        self.pace.event(at, kind);
        match kind {
            EventKind::Started(started) => self.resumed_from_step = started.resumed_from_step,
            EventKind::Phase(phase) => self.phase = Some(phase.clone()),
            EventKind::StepPart(_) => self.phase = None,
            EventKind::Step(step) => {
                self.phase = None;
                self.metrics.extend(step.metrics.iter().map(|(name, value)| (name.clone(), *value)));
            }
            EventKind::Finished(results) => self.results.clone_from(results),
            EventKind::Completion(_)
            | EventKind::ResumePoint { .. }
            | EventKind::Warning(_)
            | EventKind::Stopped { .. }
            | EventKind::Failed(_) => {}
        }
    }

    /// Returns the number of steps done, and of all steps.
    pub fn position(&self) -> (u64, u64) {
        self.pace.position()
    }

    /// Returns the seconds left, once a step or a part of one has been timed.
    pub fn eta_s(&self, now: DateTime<Utc>) -> Option<f64> {
        self.pace.eta_s(now)
    }

    /// Returns the worker's phase, unless it is between steps.
    pub fn phase(&self) -> Option<&str> {
        self.phase.as_deref()
    }

    /// Returns the step from which the worker resumed.
    pub fn resumed_from_step(&self) -> Option<u64> {
        self.resumed_from_step
    }

    /// Describes the progress: `step 12/100  ETA 3m05s  loss 0.123  812 tok/s`, or the phase.
    pub fn progress(&self, now: DateTime<Utc>) -> String {
        let (step, total) = self.position();
        if total == 0 && self.phase.is_none() {
            return "starting".to_owned();
        }
        let mut parts = Vec::new();
        if step > 0 || self.phase.is_none() {
            let part = self.pace.share().map_or_else(String::new, |share| format!(" + {:.0}%", 100.0 * share));
            parts.push(format!("step {step}/{total}{part}"));
        }
        if let Some(phase) = &self.phase {
            parts.push(phase.clone());
        } else if let Some(eta_s) = self.pace.eta_s(now) {
            parts.push(format!("ETA {}", duration(eta_s)));
        }
        parts.extend(self.main_metrics());
        if let Some(tokens_per_s) = self.metrics.get("perf/tokens_per_s") {
            parts.push(format!("{} tok/s", rate(*tokens_per_s)));
        }
        parts.join("  ")
    }

    /// Describes the results: `loss 0.244`, `accuracy 0.41 [0.33, 0.49]`.
    pub fn summary(&self) -> String {
        let mut parts = headlines(&self.results);
        if parts.is_empty() {
            let component = |(name, measured): (&String, &Measurement)| {
                let component = name.strip_prefix("eval/reward/").filter(|component| *component != "total")?;
                Some(format!("{component} {}", measurement(measured)))
            };
            parts.extend(self.results.iter().filter_map(component).take(COMPONENTS));
        }
        if parts.is_empty() {
            parts.extend(self.main_metrics());
        }
        if parts.is_empty() {
            // The results of a user's program, with their own names.
            let first = self.results.iter().take(3);
            parts.extend(first.map(|(name, measured)| format!("{name} {}", measurement(measured))));
        }
        parts.join("  ")
    }

    fn main_metrics(&self) -> impl Iterator<Item = String> {
        SHOWN
            .iter()
            .filter_map(|(name, word)| self.metrics.get(*name).map(|value| format!("{word} {}", number(*value))))
    }
}

/// Formats the main results of a stage, for its line and the history: `accuracy 0.41 [0.33, 0.49]`, `loss 0.244`.
pub fn headlines(results: &BTreeMap<String, Measurement>) -> Vec<String> {
    let found = HEADLINES.iter().filter_map(|name| {
        let measured = results.get(*name)?;
        let shown = if measured.interval.is_some() { measurement(measured) } else { number(measured.value) };
        Some(format!("{} {shown}", short_name(name)))
    });
    found.collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::{Started, Step, StepPart};

    fn at(second: i64) -> DateTime<Utc> {
        DateTime::from_timestamp(1_700_000_000 + second, 0).expect("a valid time")
    }

    fn started(resumed_from_step: Option<u64>) -> EventKind {
        EventKind::Started(Started {
            host: "h".into(),
            pid: 1,
            device: "cpu".into(),
            libtorch: "2.11.0".into(),
            threads: 2,
            instructions: None,
            bfloat16_products: None,
            gpu: None,
            deterministic: None,
            float32_products: None,
            resumed_from_step,
            total_steps: 100,
        })
    }

    fn step(step: u64) -> EventKind {
        let metrics = [("train/loss", 0.1234), ("reward/mean", 1.5), ("perf/tokens_per_s", 812.4)];
        let metrics = metrics.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
        EventKind::Step(Step { step, total_steps: 100, metrics })
    }

    #[test]
    fn a_line_shows_the_phase_then_the_steps() {
        let mut line = StageLine::default();
        line.event(at(0), &started(None));
        line.event(at(1), &EventKind::Phase("loading the model".into()));
        assert_eq!(line.progress(at(2)), "loading the model");
        line.event(at(10), &step(1));
        line.event(at(12), &step(2));
        assert_eq!(line.progress(at(12)), "step 2/100  ETA 8m59s  loss 0.123  reward 1.500  812 tok/s");
        assert_eq!(line.summary(), "loss 0.123  reward 1.500");
    }

    #[test]
    fn a_long_step_shows_its_parts() {
        let mut line = StageLine::default();
        line.event(at(0), &started(None));
        line.event(at(1), &EventKind::Phase("loading the model".into()));
        line.event(
            at(31),
            &EventKind::StepPart(StepPart { step: 1, total_steps: 100, share: 0.25, share_of_stage: None }),
        );
        assert_eq!(line.progress(at(31)), "step 0/100 + 25%  ETA 3h19m");
    }

    #[test]
    fn an_evaluation_ends_with_its_measurements() {
        let mut line = StageLine::default();
        line.event(at(0), &started(None));
        let accuracy = Measurement { value: 0.41, interval: Some((0.33, 0.49)), count: Some(120) };
        line.event(at(3), &EventKind::Finished([("eval/accuracy".to_owned(), accuracy)].into()));
        assert_eq!(line.summary(), "accuracy 0.41 [0.33, 0.49]");
    }

    #[test]
    fn a_finished_stage_shows_its_result_as_the_history_does() {
        let mut line = StageLine::default();
        line.event(at(0), &started(None));
        line.event(at(1), &step(1));
        let loss = Measurement { value: 0.059, interval: None, count: Some(20) };
        line.event(at(3), &EventKind::Finished([("train/loss".to_owned(), loss)].into()));
        assert_eq!(line.summary(), "loss 0.059", "not that of the last step");
    }

    #[test]
    fn the_sum_of_the_rewards_is_no_headline() {
        let mut line = StageLine::default();
        let measured = |value| Measurement { value, interval: None, count: Some(9) };
        let results = [("eval/reward/rouge", 0.3), ("eval/reward/semantic", 0.5), ("eval/reward/total", 0.8)];
        let results = results.into_iter().map(|(name, value)| (name.to_owned(), measured(value))).collect();
        line.event(at(3), &EventKind::Finished(results));
        assert_eq!(line.summary(), "rouge 0.30  semantic 0.50");
    }
}
