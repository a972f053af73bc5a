//! Each arm's measurements, over its seeds and questions.

use crate::event::Measurement;
use crate::evidence::{Evidence, Trial, metric_names};
use crate::metric::least_value;
use crate::slice::{Slice, whole_metric};
use crate::stats::{Design, Interval, bounded_interval, crossed_tests, mean, paired_seeds};
use std::collections::{BTreeMap, HashMap};

/// Measurements by arm, evaluation and metric.
pub type Estimates = BTreeMap<(usize, String, String), Measurement>;

/// Returns the mean of every metric of every arm with its 95% interval. No interval exceeds its metric's range.
///
/// The interval is over seeds and questions. Where a stage reports a single number, it is over seeds alone (Student's
/// t). With one seed, it is the stage's own interval.
pub fn estimates(evidence: &Evidence) -> Estimates {
    estimates_of(evidence, &metric_names(evidence))
}

/// Returns the same for these metrics, which may be those of slices.
pub(super) fn estimates_of(evidence: &Evidence, metrics: &[String]) -> Estimates {
    let evaluations = evidence.evaluations();
    let mut found = Estimates::new();
    let mut open = Vec::new();
    let mut designs = Vec::new();
    for (place, arm) in evidence.arms.iter().enumerate() {
        for &evaluation in &evaluations {
            let trials: Vec<&Trial> = arm.trials.iter().filter(|trial| trial.evaluation == evaluation).collect();
            for metric in metrics {
                let name = (place, evaluation.to_owned(), metric.clone());
                match of_trials(evidence, &trials, metric) {
                    Some(Values::Known(measured)) => {
                        found.insert(name, measured);
                    }
                    Some(Values::Scores(rows)) => {
                        let zeros = vec![vec![0.0; rows[0].len()]; rows.len()];
                        let questions = rows[0].len();
                        designs.push(Design::paired(&rows, &zeros));
                        let all: Vec<f64> = rows.into_iter().flatten().collect();
                        open.push((name, mean(&all).unwrap_or(f64::NAN), questions, all.len()));
                    }
                    None => {}
                }
            }
        }
    }
    for ((name, value, questions, count), test) in open.into_iter().zip(crossed_tests(&designs)) {
        let range = evidence.range_of(&name.2);
        let half = test.and_then(|test| test.interval).map_or(0.0, |interval| (interval.high - interval.low) / 2.0);
        let interval = match range {
            Some(range) => bounded_interval(value, half, range, questions),
            None => (half > 0.0).then_some(Interval { low: value - half, high: value + half }),
        };
        let interval = interval.map(|interval| (interval.low, interval.high));
        found.insert(name, Measurement { value, interval, count: Some(count as u64) });
    }
    for ((_, _, metric), measured) in &mut found {
        let (least, most) = evidence.range_of(metric).map_or((least_value(metric), None), |(a, b)| (Some(a), Some(b)));
        if let Some((low, high)) = &mut measured.interval {
            *low = low.max(least.unwrap_or(f64::NEG_INFINITY));
            *high = high.min(most.unwrap_or(f64::INFINITY));
        }
    }
    found
}

enum Values {
    Known(Measurement),
    /// By seed and question.
    Scores(Vec<Vec<f64>>),
}

fn of_trials(evidence: &Evidence, trials: &[&Trial], metric: &str) -> Option<Values> {
    if let [only] = trials
        && let Some(measured) = only.measurements.get(metric)
    {
        return Some(Values::Known(*measured));
    }
    let scored: Option<Vec<HashMap<usize, f64>>> =
        trials.iter().map(|trial| by_question(evidence, trial, metric)).collect();
    if let Some(scored) = scored.filter(|scored| !scored.is_empty()) {
        let mut common: Vec<usize> = scored[0].keys().copied().collect();
        common.retain(|question| scored.iter().all(|of_seed| of_seed.contains_key(question)));
        common.sort_unstable();
        if !common.is_empty() {
            let row = |of_seed: &HashMap<usize, f64>| common.iter().map(|question| of_seed[question]).collect();
            return Some(Values::Scores(scored.iter().map(row).collect()));
        }
    }
    let whole: Vec<f64> = trials.iter().filter_map(|trial| Some(trial.measurements.get(metric)?.value)).collect();
    let compared = paired_seeds(&whole, &vec![0.0; whole.len()])?;
    let interval = compared.interval.map(|interval| (interval.low, interval.high));
    Some(Values::Known(Measurement { value: compared.difference, interval, count: Some(whole.len() as u64) }))
}

/// Returns the values of `metric` by question of its slice; absent where the trial has no values for single questions.
fn by_question(evidence: &Evidence, trial: &Trial, metric: &str) -> Option<HashMap<usize, f64>> {
    let slice = Slice::of_metric(metric);
    let is_in = |question: usize| {
        slice.as_ref().is_none_or(|(_, slice)| {
            let question = evidence.questions.get(question);
            question.and_then(|question| question.slices.get(&slice.by)) == Some(&slice.value)
        })
    };
    let scores = trial.answers.iter().zip(trial.scores.get(whole_metric(metric))?);
    let scores = scores.filter(|(answer, _)| is_in(answer.question));
    Some(scores.filter_map(|(answer, score)| Some((answer.question, score.value?))).collect())
}
