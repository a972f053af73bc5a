//! Advantages of completions over the others of their group.

use orchestrate_core::recipe::spec::ScaleRewards;
use orchestrate_core::stats::{mean, standard_deviation};

/// Added to a standard deviation, to avoid a division by zero in a group of equal rewards.
const STD_EPS: f64 = 1e-4;
/// Standard deviation below which rewards count as equal up to rounding.
const EQUAL: f64 = 1e-8;

/// Returns the advantage of every completion, `(r - mean) / (std + 1e-4)` with the unbiased standard deviation (GRPO,
/// arXiv:2402.03300, section 4.1.2). Without scaling, the difference is not divided (Dr. GRPO, arXiv:2503.20783,
/// section 3.2). `rewards` holds groups of `group_size`, one after the other.
///
/// A missing reward is left out of mean and deviation. The advantage is `None` for a missing reward and in a group with
/// fewer than two rewards.
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

/// The values of one reward component over the completions of a rollout.
#[derive(Clone, Debug, PartialEq)]
pub struct Column {
    /// The component's weight in the sum.
    pub weight: f64,
    /// The component's value for each completion; absent if it is missing.
    pub values: Vec<Option<f64>>,
}

/// Returns the advantage of every completion, with each component normalized within its group before the sum. A
/// component of large variance therefore does not dominate. The weighted sum is then normalized over the whole rollout
/// (GDPO, arXiv:2601.05242).
///
/// A completion that lacks any component is left out of all means and deviations. The advantage is `None` for such a
/// completion and in a group with fewer than two complete ones.
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

/// Returns whether each completion has all components.
fn complete(columns: &[Column]) -> Vec<bool> {
    let count = columns.first().map_or(0, |column| column.values.len());
    (0..count).map(|i| columns.iter().all(|column| column.values[i].is_some())).collect()
}

/// Returns whether the rewards of a group differ by more than rounding, so that they rank its completions.
pub fn has_spread(rewards: &[Option<f64>]) -> bool {
    standard_deviation(&present(rewards)) >= EQUAL
}

fn present(values: &[Option<f64>]) -> Vec<f64> {
    values.iter().copied().flatten().collect()
}
