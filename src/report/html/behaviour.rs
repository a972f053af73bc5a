//! The style of the arms' completions: signs of reward hacking.

use super::data::Behaviour;
use crate::evidence::{Arm, Evidence, Score, Trial};
use crate::stats::{correlation, mean};
use std::collections::HashSet;

/// The maximum number of points of an arm in the chart of reward and length.
pub(super) const MOST_POINTS: usize = 200;

/// Returns a row for each arm that answered questions.
pub fn behaviour(evidence: &Evidence) -> Vec<Behaviour> {
    let row = |(place, arm): (usize, &Arm)| {
        let trials: Vec<&Trial> = arm.trials.iter().filter(|trial| !trial.answers.is_empty()).collect();
        if trials.is_empty() {
            return None;
        }
        let column = |metric: &str| -> Vec<f64> {
            let scores = trials.iter().filter_map(|trial| trial.scores.get(metric)).flatten();
            scores.filter_map(|score| score.value).collect()
        };
        let texts = || trials.iter().flat_map(|trial| &trial.answers).flat_map(|answer| &answer.completions);
        let points: Vec<(f64, f64)> = trials.iter().flat_map(|trial| points(trial)).collect();
        let (tokens, rewards): (Vec<f64>, Vec<f64>) = points.iter().copied().unzip();
        Some(Behaviour {
            arm: place,
            completions: texts().count(),
            tokens: mean(&column("eval/tokens_mean")),
            truncated: mean(&column("eval/truncated_frac")),
            format: mean(&column("eval/reward/format")),
            repetition: mean(&texts().map(|text| repetition(text)).collect::<Vec<_>>()),
            length_correlation: correlation(&tokens, &rewards),
            kl: last_kl(evidence, &arm.name),
            points: evenly(&points, MOST_POINTS),
        })
    };
    evidence.arms.iter().enumerate().filter_map(row).collect()
}

/// Returns tokens and total reward of each answer that has both.
fn points(trial: &Trial) -> Vec<(f64, f64)> {
    let column = |metric: &str| trial.scores.get(metric).map_or(&[][..], Vec::as_slice);
    let pair = |(tokens, reward): (&Score, &Score)| tokens.value.zip(reward.value);
    column("eval/tokens_mean").iter().zip(column("eval/reward/total")).filter_map(pair).collect()
}

/// Returns at most `most` of `points`, at equal distances.
fn evenly(points: &[(f64, f64)], most: usize) -> Vec<(f64, f64)> {
    if points.len() <= most {
        return points.to_vec();
    }
    (0..most).map(|i| points[i * points.len() / most]).collect()
}

/// Returns the fraction of the word triples of `text` that repeat an earlier one; 0 for fewer than three words.
fn repetition(text: &str) -> f64 {
    let words: Vec<String> = text.split_whitespace().map(str::to_lowercase).collect();
    let triples: Vec<&[String]> = words.windows(3).collect();
    let different: HashSet<&[String]> = triples.iter().copied().collect();
    if triples.is_empty() { 0.0 } else { 1.0 - different.len() as f64 / triples.len() as f64 }
}

/// Returns the mean over seeds of the KL divergence from the reference. It is taken over the last tenth of the last
/// stage that recorded one.
fn last_kl(evidence: &Evidence, arm: &str) -> Option<f64> {
    let mut found: Vec<(&str, f64)> = Vec::new();
    for curves in evidence.training.iter().filter(|curves| curves.arms.iter().any(|name| name == arm)) {
        if let Some(series) = curves.series.get("grpo/kl") {
            let values: Vec<f64> = series.iter().map(|(_, value)| *value).collect();
            let tail = &values[values.len() - values.len().div_ceil(10)..];
            found.extend(mean(tail).map(|kl| (curves.stage.as_str(), kl)));
        }
    }
    let (stage, _) = *found.last()?;
    mean(&found.iter().filter(|(other, _)| *other == stage).map(|(_, kl)| *kl).collect::<Vec<_>>())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn repetition_is_the_share_of_triples_said_before() {
        assert!(repetition("the femur is the longest bone").abs() < 1e-12);
        // Triples: a b a, b a b, a b a, b a b. Two of four repeat.
        assert!((repetition("A b a b a b") - 0.5).abs() < 1e-12);
        assert!(repetition("two words").abs() < 1e-12 && repetition("").abs() < 1e-12);
    }

    #[test]
    fn points_are_chosen_evenly() {
        let points: Vec<(f64, f64)> = (0..1000).map(|i| (f64::from(i), 0.0)).collect();
        let chosen = evenly(&points, 200);
        assert_eq!((chosen.len(), chosen[1].0, chosen[199].0), (200, 5.0, 995.0));
    }
}
