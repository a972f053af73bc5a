//! How much better than the rest of its group a completion is.

use orchestrate_core::recipe::spec::ScaleRewards;
use orchestrate_core::stats::{mean, standard_deviation};

/// Keeps a group of equal rewards from dividing by zero.
const STD_EPS: f64 = 1e-4;
/// Rewards that deviate less than this are equal but for rounding.
const EQUAL: f64 = 1e-8;

/// Advantage of every completion, `(r - mean) / (std + 1e-4)` with the unbiased standard deviation
/// (GRPO, arXiv:2402.03300, section 4.1.2; undivided: Dr. GRPO, arXiv:2503.20783, section 3.2). `rewards` holds groups of
/// `group_size` one after the other.
///
/// A missing reward is left out of mean and deviation and has no advantage; so has a group with fewer than two rewards.
pub fn advantages(rewards: &[Option<f64>], group_size: usize, scale: ScaleRewards) -> Vec<Option<f64>> {
    let batch_std = standard_deviation(&present(rewards));
    rewards
        .chunks(group_size)
        .flat_map(|group| {
            let values = present(group);
            let mean = mean(&values).unwrap_or(0.0);
            let divisor = match scale {
                ScaleRewards::Group => standard_deviation(&values) + STD_EPS,
                ScaleRewards::Batch => batch_std + STD_EPS,
                ScaleRewards::None => 1.0,
            };
            let comparable = values.len() >= 2;
            group.iter().map(move |reward| reward.filter(|_| comparable).map(|r| (r - mean) / divisor))
        })
        .collect()
}

/// One reward component over the completions of a rollout.
#[derive(Clone, Debug, PartialEq)]
pub struct Column {
    /// Factor in the sum.
    pub weight: f64,
    /// Its value for each completion; absent when it is missing.
    pub values: Vec<Option<f64>>,
}

/// Advantage of every completion when each component is normalized within its group before they are added, so that
/// none drowns another that varies less; the weighted sum is then normalized over the whole rollout
/// (GDPO, arXiv:2601.05242).
///
/// A completion that lacks any component takes no part in any mean or deviation and has no advantage; nor has a group
/// with fewer than two complete ones.
pub fn gdpo_advantages(columns: &[Column], group_size: usize) -> Vec<Option<f64>> {
    let mut sums: Vec<Option<f64>> = complete(columns).into_iter().map(|complete| complete.then_some(0.0)).collect();
    for column in columns {
        let kept: Vec<Option<f64>> = column.values.iter().zip(&sums).map(|(value, sum)| sum.and(*value)).collect();
        let scores = advantages(&kept, group_size, ScaleRewards::Group);
        for (sum, score) in sums.iter_mut().zip(scores) {
            *sum = sum.zip(score).map(|(sum, score)| sum + column.weight * score);
        }
    }
    let values = present(&sums);
    let (mean, divisor) = (mean(&values).unwrap_or(0.0), standard_deviation(&values) + STD_EPS);
    sums.into_iter().map(|sum| sum.map(|sum| (sum - mean) / divisor)).collect()
}

/// Whether each completion has all components.
fn complete(columns: &[Column]) -> Vec<bool> {
    let count = columns.first().map_or(0, |column| column.values.len());
    (0..count).map(|i| columns.iter().all(|column| column.values[i].is_some())).collect()
}

/// Whether the rewards of a group differ, so that they say which completion is better.
pub fn has_spread(rewards: &[Option<f64>]) -> bool {
    standard_deviation(&present(rewards)) >= EQUAL
}

fn present(values: &[Option<f64>]) -> Vec<f64> {
    values.iter().copied().flatten().collect()
}
