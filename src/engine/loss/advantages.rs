//! Advantages of completions over the others of their group.

use orchestrate_core::recipe::spec::{AdvantageBaseline, ScaleRewards};
use orchestrate_core::stats::{mean, standard_deviation};

/// Added to a standard deviation, to avoid a division by zero in a group of equal rewards.
pub(super) const STD_EPS: f64 = 1e-4;
/// Standard deviation below which rewards count as equal up to rounding.
const EQUAL: f64 = 1e-8;

/// Returns the advantage of every completion, `(r - baseline) / divisor`. `rewards` holds groups of `group_size`, one
/// after the other.
///
/// By default, the baseline is the mean of the group and the divisor its unbiased standard deviation plus 1e-4 (GRPO,
/// arXiv:2402.03300, section 4.1.2). [`AdvantageBaseline::LeaveOneOut`] takes the mean of the others (RLOO,
/// arXiv:2402.14740, eq. 8). Without scaling, the difference is not divided (Dr. GRPO, arXiv:2503.20783, section 3.2).
/// [`ScaleRewards::Mean`] divides by the group's mean (`MaxRL`, arXiv:2602.02710); advantages are 0 where it is not
/// positive.
///
/// A missing reward is left out of mean and deviation. The advantage is `None` for a missing reward and in a group with
/// fewer than two rewards.
pub fn advantages(
    rewards: &[Option<f64>],
    group_size: usize,
    scale: ScaleRewards,
    baseline: AdvantageBaseline,
) -> Vec<Option<f64>> {
    let batch_std = standard_deviation(&present(rewards));
    rewards
        .chunks(group_size)
        .flat_map(|group| {
            let values = present(group);
            let mean = mean(&values).unwrap_or(0.0);
            let divisor = match scale {
                ScaleRewards::Group => standard_deviation(&values) + STD_EPS,
                ScaleRewards::Batch => batch_std + STD_EPS,
                ScaleRewards::Mean if mean > 0.0 => mean,
                ScaleRewards::Mean => f64::INFINITY,
                ScaleRewards::None => 1.0,
            };
            let comparable = values.len() >= 2;
            let others = values.len().saturating_sub(1) as f64;
            let sum: f64 = values.iter().sum();
            group.iter().map(move |reward| {
                reward.filter(|_| comparable).map(|r| match baseline {
                    AdvantageBaseline::Group => (r - mean) / divisor,
                    AdvantageBaseline::LeaveOneOut => (r - (sum - r) / others) / divisor,
                })
            })
        })
        .collect()
}

/// Whether the rewards of a group differ by more than rounding, so that they rank its completions.
pub fn has_spread(rewards: &[Option<f64>]) -> bool {
    standard_deviation(&present(rewards)) >= EQUAL
}

/// Returns the values that are not missing.
pub(super) fn present(values: &[Option<f64>]) -> Vec<f64> {
    values.iter().copied().flatten().collect()
}

#[cfg(test)]
#[allow(clippy::float_cmp, reason = "these values are exact")]
mod tests {
    use super::*;

    fn of(rewards: &[f64], scale: ScaleRewards, baseline: AdvantageBaseline) -> Vec<f64> {
        let rewards: Vec<Option<f64>> = rewards.iter().copied().map(Some).collect();
        let found = advantages(&rewards, rewards.len(), scale, baseline);
        found.into_iter().map(|advantage| advantage.expect("two rewards or more")).collect()
    }

    #[test]
    fn equal_rewards_have_no_advantage_whatever_the_divisor() {
        for scale in [ScaleRewards::Group, ScaleRewards::Batch, ScaleRewards::Mean, ScaleRewards::None] {
            for baseline in [AdvantageBaseline::Group, AdvantageBaseline::LeaveOneOut] {
                for reward in [0.0, 0.5, 1.0, -2.0] {
                    assert_eq!(of(&[reward; 4], scale, baseline), [0.0; 4], "{scale:?} {baseline:?} {reward}");
                }
            }
        }
    }

    #[test]
    fn right_and_wrong_are_weighted_by_how_rare_right_is() {
        // one of four is right: MaxRL gives 1/p - 1 and -1
        let maximum = of(&[1.0, 0.0, 0.0, 0.0], ScaleRewards::Mean, AdvantageBaseline::Group);
        assert_eq!(maximum, [3.0, -1.0, -1.0, -1.0]);
        let out = of(&[1.0, 0.0, 0.0, 0.0], ScaleRewards::None, AdvantageBaseline::LeaveOneOut);
        assert_eq!(out[0], 1.0);
        assert!(out[1..].iter().all(|advantage| (advantage + 1.0 / 3.0).abs() < 1e-15), "{out:?}");
        assert_eq!(of(&[0.0; 4], ScaleRewards::Mean, AdvantageBaseline::Group), [0.0; 4]);
        assert_eq!(of(&[-1.0, 0.0], ScaleRewards::Mean, AdvantageBaseline::Group), [0.0; 2], "no positive mean");
    }

    #[test]
    fn a_missing_reward_is_not_among_the_others() {
        let rewards = [Some(1.0), None, Some(0.0), Some(0.5)];
        let with_gap = advantages(&rewards, 4, ScaleRewards::None, AdvantageBaseline::LeaveOneOut);
        assert_eq!(with_gap, [Some(0.75), None, Some(-0.75), Some(0.0)]);
    }
}
