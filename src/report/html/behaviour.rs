//! The style of the arms' completions: signs of reward hacking.

use super::data::{Behaviour, OverKl};
use crate::evidence::{Arm, Curves, Evidence, Score, Trial};
use crate::stats::{correlation, mean};
use std::collections::{BTreeMap, HashSet};

/// The metric of the reward on which a stage trains.
const TRAINED: &str = "reward/mean";
/// The maximum number of points of a seed in a chart over the divergence.
const MOST_RANGES: usize = 20;
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
            over_kl: over_kl(evidence, arm),
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

/// Returns the trained reward and each held-out component over the square root of the divergence, for each stage that
/// recorded one. Where the first rises and the others do not, the reward is exploited (arXiv:2210.10760).
fn over_kl(evidence: &Evidence, arm: &Arm) -> Vec<OverKl> {
    let mut found: Vec<OverKl> = Vec::new();
    for curves in evidence.training.iter().filter(|curves| curves.arms.contains(&arm.name)) {
        for metric in curves.series.keys() {
            let component = metric.strip_prefix("reward/").filter(|name| {
                // a component has a spread, which other metrics of rewards have not
                curves.series.contains_key(&format!("reward/{name}_std"))
            });
            let held_out = component.is_some_and(|name| !arm.trained_on.contains_key(name));
            if metric != TRAINED && !held_out {
                continue;
            }
            let points = pairs_over_kl(curves, metric);
            match found.iter_mut().find(|one| one.stage == curves.stage && one.metric == *metric) {
                Some(one) => one.points.extend(points),
                None => found.push(OverKl { stage: curves.stage.clone(), metric: metric.clone(), held_out, points }),
            }
        }
    }
    found.retain(|one| one.points.len() > 1);
    let has_held_out = found.iter().any(|one| one.held_out);
    found.sort_by_key(|one| (one.stage.clone(), one.held_out));
    if has_held_out { found } else { Vec::new() }
}

/// Returns at most [`MOST_RANGES`] pairs of the square root of the divergence and the metric, each a mean over a range
/// of the steps that have both.
fn pairs_over_kl(curves: &Curves, metric: &str) -> Vec<(f64, f64)> {
    let (Some(kl), Some(values)) = (curves.series.get("grpo/kl"), curves.series.get(metric)) else { return Vec::new() };
    let values: BTreeMap<u64, f64> = values.iter().copied().collect();
    let pairs: Vec<(f64, f64)> =
        kl.iter().filter_map(|(step, kl)| Some((kl.max(0.0).sqrt(), *values.get(step)?))).collect();
    let range = pairs.len().div_ceil(MOST_RANGES).max(1);
    let mean = |pairs: &[(f64, f64)]| {
        let count = pairs.len() as f64;
        let (x, y) = pairs.iter().fold((0.0, 0.0), |sum, pair| (sum.0 + pair.0, sum.1 + pair.1));
        (x / count, y / count)
    };
    pairs.chunks(range).map(mean).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::digest::Digest;
    use crate::stage::StageKind;

    #[test]
    fn rewards_are_paired_with_the_divergence_of_their_step() {
        let series = |values: &[(u64, f64)]| values.to_vec();
        let curves = Curves {
            arms: vec!["a".to_owned()],
            seed: 1,
            stage: "grpo".to_owned(),
            kind: StageKind::Grpo,
            key: Digest::of(b"key"),
            series: BTreeMap::from([
                ("grpo/kl".to_owned(), series(&[(10, 0.04), (20, 0.09), (30, -1e-9)])),
                ("reward/mean".to_owned(), series(&[(10, 0.5), (15, 0.9), (20, 0.6), (30, 0.7)])),
            ]),
        };
        assert_eq!(pairs_over_kl(&curves, "reward/mean"), [(0.2, 0.5), (0.3, 0.6), (0.0, 0.7)]);
        assert!(pairs_over_kl(&curves, "reward/rouge").is_empty());
        let long = |value: f64| (1..=60).map(|step| (step, value)).collect::<Vec<_>>();
        let series = BTreeMap::from([("grpo/kl".to_owned(), long(0.25)), ("reward/mean".to_owned(), long(2.0))]);
        assert_eq!(pairs_over_kl(&Curves { series, ..curves }, "reward/mean"), vec![(0.5, 2.0); 20]);
    }

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
