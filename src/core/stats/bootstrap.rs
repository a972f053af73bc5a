//! Resampling with replacement (B. Efron, "Bootstrap methods: another look at the jackknife", 1979).

use rand::{RngExt as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;

/// The ends of a 95% interval.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Interval {
    /// The lower end.
    pub low: f64,
    /// The upper end.
    pub high: f64,
}

impl Interval {
    /// Computes the percentile interval of a statistic's values on resamples; `None` without values.
    pub(super) fn of_percentiles(mut values: Vec<f64>) -> Option<Self> {
        values.sort_by(f64::total_cmp);
        Some(Self { low: percentile(&values, 0.025)?, high: percentile(&values, 0.975)? })
    }
}

/// Computes `statistic` on `resamples` draws, each of `units` indices with replacement.
pub(super) fn resampled<T>(
    units: usize,
    resamples: u32,
    seed: u64,
    mut statistic: impl FnMut(&[usize]) -> T,
) -> Vec<T> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let mut chosen = vec![0; units];
    (0..resamples)
        .map(|_| {
            chosen.fill_with(|| rng.random_range(0..units));
            statistic(&chosen)
        })
        .collect()
}

/// Computes the `share` quantile of `sorted`, interpolated linearly (R's type 7); `None` for an empty list.
pub(super) fn percentile(sorted: &[f64], share: f64) -> Option<f64> {
    let last = sorted.len().checked_sub(1)?;
    let position = share * last as f64;
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "between 0 and the last index")]
    let below = position.floor() as usize;
    let above = (below + 1).min(last);
    Some(sorted[below] + (sorted[above] - sorted[below]) * (position - below as f64))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_those_of_numpy() {
        let sorted = [1.0, 2.0, 4.0, 8.0];
        assert_eq!(percentile(&sorted, 0.0), Some(1.0));
        assert_eq!(percentile(&sorted, 0.5), Some(3.0));
        assert!((percentile(&sorted, 0.975).unwrap() - 7.7).abs() < 1e-12);
        assert_eq!(percentile(&sorted, 1.0), Some(8.0));
    }
}
