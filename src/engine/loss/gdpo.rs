//! Advantages from components that are normalized one by one before they are added (`normalize_then_sum`).

use super::advantages::{STD_EPS, advantages, present};
use orchestrate_core::recipe::spec::{AdvantageBaseline, ComponentStd, ScaleRewards};
use orchestrate_core::stats::{mean, standard_deviation};
use serde::{Deserialize, Serialize};
use std::cmp::Ordering;
use std::collections::BTreeMap;

/// The values of one reward component over the completions of a rollout.
#[derive(Clone, Debug, PartialEq)]
pub struct Column {
    /// The component's name.
    pub name: String,
    /// The component's weight in the sum.
    pub weight: f64,
    /// The component's value for each completion; absent if it is missing.
    pub values: Vec<Option<f64>>,
}

/// Returns the advantage of every completion, with each component normalized before the sum. A component of large
/// variance therefore does not dominate. The weighted sum is then normalized over the whole rollout (GDPO,
/// arXiv:2601.05242).
///
/// | `component_std` | a component's value `r` becomes |
/// | --- | --- |
/// | `Group` | `(r - group mean) / (group std + 1e-4)` |
/// | `Running` | `(r - group mean) / (s + 1e-4)`, where `s` is from [`RunningStd`], after this rollout was added |
/// | `Rank` | `(midrank in the group - (n + 1) / 2) / n`, where `n` counts the group's complete completions |
///
/// A completion that lacks any component is left out of all means and deviations. The advantage is `None` for such a
/// completion and in a group with fewer than two complete ones.
pub fn gdpo_advantages(
    columns: &[Column],
    group_size: usize,
    component_std: ComponentStd,
    running: &mut BTreeMap<String, RunningStd>,
) -> Vec<Option<f64>> {
    let mut sums: Vec<Option<f64>> = complete(columns).into_iter().map(|complete| complete.then_some(0.0)).collect();
    for column in columns {
        let kept: Vec<Option<f64>> = column.values.iter().zip(&sums).map(|(value, sum)| sum.and(*value)).collect();
        let scores = match component_std {
            ComponentStd::Group => advantages(&kept, group_size, ScaleRewards::Group, AdvantageBaseline::Group),
            ComponentStd::Running => {
                let running = running.entry(column.name.clone()).or_default();
                running.add(&kept, group_size);
                let divisor = running.std() + STD_EPS;
                let centred = advantages(&kept, group_size, ScaleRewards::None, AdvantageBaseline::Group);
                centred.into_iter().map(|value| value.map(|value| value / divisor)).collect()
            }
            ComponentStd::Rank => kept.chunks(group_size).flat_map(ranks).collect(),
        };
        for (sum, score) in sums.iter_mut().zip(scores) {
            *sum = sum.zip(score).map(|(sum, score)| sum + column.weight * score);
        }
    }
    let values = present(&sums);
    let (mean, divisor) = (mean(&values).unwrap_or(0.0), standard_deviation(&values) + STD_EPS);
    sums.into_iter().map(|sum| sum.map(|sum| (sum - mean) / divisor)).collect()
}

/// Returns whether each completion has all components.
fn complete(columns: &[Column]) -> Vec<bool> {
    let count = columns.first().map_or(0, |column| column.values.len());
    (0..count).map(|i| columns.iter().all(|column| column.values[i].is_some())).collect()
}

/// Returns the centred midranks of a group, divided by the number of its values; `None` with fewer than two values.
fn ranks(group: &[Option<f64>]) -> Vec<Option<f64>> {
    let values = present(group);
    let count = values.len() as f64;
    let rank = |value: f64| {
        let below = values.iter().filter(|other| **other < value).count() as f64;
        let equal = values.iter().filter(|other| other.partial_cmp(&&value) == Some(Ordering::Equal)).count() as f64;
        below + f64::midpoint(equal, 1.0)
    };
    let centred = |value: f64| (rank(value) - f64::midpoint(count, 1.0)) / count;
    group.iter().map(|value| value.filter(|_| values.len() >= 2).map(centred)).collect()
}

/// The standard deviation of a component within groups, averaged over steps.
///
/// Each step adds the pooled deviation of its groups: the root of the sum of squared deviations from the group means
/// over the degrees of freedom. The average is exponential with decay 0.9 and corrected for its start, as in Adam.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RunningStd {
    /// The exponential average before its correction.
    average: f64,
    /// The number of steps in it.
    steps: u64,
}

impl RunningStd {
    /// The decay of the average for each step.
    const DECAY: f64 = 0.9;

    /// Adds a step. Without a group of two values, nothing changes.
    fn add(&mut self, values: &[Option<f64>], group_size: usize) {
        let (mut squares, mut freedom) = (0.0, 0_usize);
        for group in values.chunks(group_size) {
            let values = present(group);
            if let Some(mean) = mean(&values) {
                squares += values.iter().map(|value| (value - mean).powi(2)).sum::<f64>();
                freedom += values.len() - 1;
            }
        }
        if freedom > 0 {
            let pooled = (squares / freedom as f64).sqrt();
            self.average = Self::DECAY * self.average + (1.0 - Self::DECAY) * pooled;
            self.steps += 1;
        }
    }

    /// The corrected average; 0 before the first step.
    pub fn std(&self) -> f64 {
        if self.steps == 0 {
            return 0.0;
        }
        let steps = i32::try_from(self.steps).unwrap_or(i32::MAX);
        self.average / (1.0 - Self::DECAY.powi(steps))
    }
}

#[cfg(test)]
#[allow(clippy::float_cmp, reason = "these values are exact")]
mod tests {
    use super::*;

    const RIGHT: [f64; 4] = [1.0, 0.0, 1.0, 0.0];
    const COSINE: [f64; 4] = [0.80, 0.82, 0.78, 0.84];

    fn column(name: &str, values: &[f64]) -> Column {
        Column { name: name.to_owned(), weight: 1.0, values: values.iter().copied().map(Some).collect() }
    }

    fn found(columns: &[Column], group_size: usize, std: ComponentStd) -> Vec<f64> {
        let mut running = BTreeMap::new();
        let found = gdpo_advantages(columns, group_size, std, &mut running);
        found.into_iter().map(|advantage| advantage.expect("nothing is missing")).collect()
    }

    #[track_caller]
    fn assert_near(found: &[f64], expected: &[f64], tolerance: f64) {
        assert_eq!(found.len(), expected.len());
        let near = found.iter().zip(expected).all(|(found, expected)| (found - expected).abs() <= tolerance);
        assert!(near, "{found:?} is not {expected:?}");
    }

    /// Two steps of one group each: in the first the cosine spreads by 0.2, in the second by 0.026.
    fn running_after(cosine: &[f64]) -> BTreeMap<String, RunningStd> {
        let mut running = BTreeMap::new();
        let columns = [column("right", &RIGHT), column("cosine", cosine)];
        gdpo_advantages(&columns, 4, ComponentStd::Running, &mut running);
        running
    }

    #[test]
    fn scores_within_a_group_can_punish_a_right_answer_and_a_running_scale_does_not() {
        let columns = [column("right", &RIGHT), column("cosine", &COSINE)];
        let sums: Vec<Option<f64>> = RIGHT.iter().zip(COSINE).map(|(right, cosine)| Some(right + cosine)).collect();
        let summed = advantages(&sums, 4, ScaleRewards::Group, AdvantageBaseline::Group);
        let summed: Vec<f64> = summed.into_iter().flatten().collect();
        assert_near(&summed, &[0.884, -0.884, 0.848, -0.848], 6e-4);
        let by_group = found(&columns, 4, ComponentStd::Group);
        assert!(by_group[2] < 0.0, "the third completion is right and loses for 0.03 of cosine: {by_group:?}");
        // the cosine usually spreads by 0.2
        let mut running = running_after(&[0.5, 0.9, 0.6, 1.0]);
        let steady = gdpo_advantages(&columns, 4, ComponentStd::Running, &mut running);
        let steady: Vec<f64> = steady.into_iter().flatten().collect();
        assert!(steady[0] > 0.0 && steady[2] > 0.0 && steady[1] < 0.0 && steady[3] < 0.0, "{steady:?}");
    }

    #[test]
    fn the_running_std_is_a_corrected_average_of_pooled_deviations() {
        let mut running = RunningStd::default();
        assert_eq!(running.std(), 0.0);
        // groups 1, 3 and 5, 5, 8 (one value missing): squares 2 and 6 over 1 + 2 degrees of freedom
        running.add(&[Some(1.0), Some(3.0), None, Some(5.0), Some(5.0), Some(8.0)], 3);
        let first = (8.0_f64 / 3.0).sqrt();
        assert!((running.std() - first).abs() < 1e-12, "the first step alone");
        running.add(&[Some(0.0), Some(1.0)], 2);
        let second = 0.5_f64.sqrt();
        let expected = (0.9 * 0.1 * first + 0.1 * second) / (1.0 - 0.81);
        assert!((running.std() - expected).abs() < 1e-12);
        let before = running;
        running.add(&[Some(1.0), None], 2);
        assert_eq!(running, before, "one value has no deviation");
        let text = serde_json::to_string(&running).unwrap();
        assert_eq!(serde_json::from_str::<RunningStd>(&text).unwrap(), running);
    }

    /// The closed form of the influence of components: `std_2 / std_1` for a sum that is normalized afterwards, 1 for
    /// components that are normalized before. The third column is constant.
    #[test]
    fn influence_is_in_proportion_to_spread_for_sums_and_equal_after_normalization() {
        let one: Vec<f64> = (0..64).map(|i| f64::from((i * 7) % 16)).collect();
        let two: Vec<f64> = (0..64).map(|i| 4.0 * f64::from((i * 5 + i / 16) % 16)).collect();
        let columns = [column("one", &one), column("two", &two), column("three", &[0.5; 64])];
        let slope = |advantages: &[f64], values: &[f64], other: &[f64]| {
            // least squares of the advantages on both components
            let dot = |x: &[f64], y: &[f64]| x.iter().zip(y).map(|(x, y)| x * y).sum::<f64>();
            let centred = |x: &[f64]| {
                let mean = mean(x).unwrap();
                x.iter().map(|x| x - mean).collect::<Vec<f64>>()
            };
            let (x, y, a) = (centred(values), centred(other), centred(advantages));
            let determinant = dot(&x, &x) * dot(&y, &y) - dot(&x, &y).powi(2);
            (dot(&x, &a) * dot(&y, &y) - dot(&y, &a) * dot(&x, &y)) / determinant * standard_deviation(values)
        };
        let sums: Vec<Option<f64>> = one.iter().zip(&two).map(|(one, two)| Some(one + two)).collect();
        let summed = advantages(&sums, 64, ScaleRewards::Group, AdvantageBaseline::Group);
        let summed: Vec<f64> = summed.into_iter().flatten().collect();
        let ratio = |advantages: &[f64]| slope(advantages, &two, &one) / slope(advantages, &one, &two);
        let spreads = standard_deviation(&two) / standard_deviation(&one);
        assert!((ratio(&summed) - spreads).abs() < 1e-9 && (spreads - 4.0).abs() < 0.1, "{}", ratio(&summed));
        for std in [ComponentStd::Group, ComponentStd::Running] {
            assert!((ratio(&found(&columns, 64, std)) - 1.0).abs() < 1e-3, "{std:?}");
        }
    }

    /// Adding R components of L levels gives at most R (L - 1) + 1 distinct sums; normalizing them first, up to L^R.
    #[test]
    fn normalization_keeps_apart_what_sums_confuse() {
        let (mut one, mut two) = (Vec::new(), Vec::new());
        for i in 0..3 {
            for j in 0..3 {
                one.push(f64::from(i));
                two.push(f64::from(j).powi(2) / 2.0);
            }
        }
        let levels = |values: &[f64]| {
            let mut values: Vec<i64> = values.iter().map(|value| (value * 1e6).round() as i64).collect();
            values.sort_unstable();
            values.dedup();
            values.len()
        };
        let same: Vec<f64> = one.iter().zip(&one).map(|(one, _)| *one).collect();
        let other: Vec<f64> = (0..9).map(|i| f64::from(i % 3)).collect();
        let sums: Vec<f64> = same.iter().zip(&other).map(|(one, other)| one + other).collect();
        assert_eq!(levels(&sums), 5, "R (L - 1) + 1 for R = 2 and L = 3");
        assert_eq!(levels(&found(&[column("one", &one), column("two", &two)], 9, ComponentStd::Group)), 9, "L^R");
    }

    #[test]
    fn ranks_ignore_scale_and_share_ties() {
        let of = |values: &[Option<f64>]| ranks(values);
        assert_eq!(of(&[Some(3.0), Some(1.0), Some(2.0)]), [Some(1.0 / 3.0), Some(-1.0 / 3.0), Some(0.0)]);
        assert_eq!(
            of(&[Some(0.0), Some(1e9), Some(0.0), None]),
            [Some(-0.5 / 3.0), Some(1.0 / 3.0), Some(-0.5 / 3.0), None]
        );
        assert_eq!(of(&[Some(1.0); 2]), [Some(0.0); 2]);
        assert_eq!(of(&[Some(1.0), None]), [None; 2]);
        let columns = [column("right", &RIGHT), column("cosine", &COSINE)];
        let wide = [column("right", &RIGHT), column("cosine", &COSINE.map(|cosine| 1000.0 * cosine))];
        assert_eq!(found(&columns, 4, ComponentStd::Rank), found(&wide, 4, ComponentStd::Rank));
    }
}
