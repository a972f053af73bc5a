//! Percentile bootstrap (B. Efron, "Bootstrap methods: another look at the jackknife", 1979).

use rand::{RngExt as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;

/// Ends of a 95% interval.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Interval {
    /// The 2.5th percentile.
    pub low: f64,
    /// The 97.5th percentile.
    pub high: f64,
}

impl Interval {
    /// Of the statistic's values on the resamples; none without any.
    pub(super) fn of_percentiles(mut values: Vec<f64>) -> Option<Self> {
        values.sort_by(f64::total_cmp);
        Some(Self { low: percentile(&values, 0.025)?, high: percentile(&values, 0.975)? })
    }
}

/// One document as perplexity sees it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Document {
    /// Sum of the negative log-likelihoods of its tokens, in nats.
    pub nll: f64,
    /// Tokens behind the sum.
    pub tokens: u64,
}

/// 95% interval of the mean of `values`; none for fewer than two values or without resamples.
pub fn mean_interval(values: &[f64], resamples: u32, seed: u64) -> Option<Interval> {
    let mean = |chosen: &[usize]| chosen.iter().map(|&i| values[i]).sum::<f64>() / chosen.len() as f64;
    interval(values.len(), resamples, seed, mean)
}

/// 95% interval of the perplexity `exp(sum of nll / sum of tokens)`, over documents: the tokens of a document are not
/// independent. None for fewer than two documents or without resamples.
pub fn perplexity_interval(documents: &[Document], resamples: u32, seed: u64) -> Option<Interval> {
    let with_tokens: Vec<Document> = documents.iter().copied().filter(|document| document.tokens > 0).collect();
    interval(with_tokens.len(), resamples, seed, |chosen| {
        let nll: f64 = chosen.iter().map(|&i| with_tokens[i].nll).sum();
        let tokens: u64 = chosen.iter().map(|&i| with_tokens[i].tokens).sum();
        (nll / tokens as f64).exp()
    })
}

/// 95% interval of `statistic` over `resamples` draws, with replacement, of `units` out of as many.
fn interval(units: usize, resamples: u32, seed: u64, statistic: impl FnMut(&[usize]) -> f64) -> Option<Interval> {
    if units < 2 {
        return None;
    }
    Interval::of_percentiles(resampled(units, resamples, seed, statistic))
}

/// `statistic` of each of `resamples` draws, with replacement, of `units` out of as many.
pub(super) fn resampled<T>(
    units: usize,
    resamples: u32,
    seed: u64,
    mut statistic: impl FnMut(&[usize]) -> T,
) -> Vec<T> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let mut chosen = Vec::with_capacity(units);
    (0..resamples)
        .map(|_| {
            chosen.clear();
            chosen.extend(draw(units, &mut rng));
            statistic(&chosen)
        })
        .collect()
}

/// As many of `units` as there are, drawn with replacement.
pub(super) fn draw(units: usize, rng: &mut ChaCha8Rng) -> impl Iterator<Item = usize> {
    (0..units).map(move |_| rng.random_range(0..units))
}

/// The `share` quantile of `sorted`, interpolated linearly (R's type 7).
fn percentile(sorted: &[f64], share: f64) -> Option<f64> {
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
    use crate::stats::testing::{assert_near, golden, numbers};
    use proptest::prelude::*;

    #[test]
    fn the_interval_of_a_mean_is_about_that_of_the_normal_approximation() {
        let values: Vec<f64> = (0..400).map(|i| f64::from(i % 4 == 0)).collect();
        let Interval { low, high } = mean_interval(&values, 4000, 1).unwrap();
        let half_width = 1.96 * (0.25_f64 * 0.75 / 400.0).sqrt();
        assert!((low - (0.25 - half_width)).abs() < 0.005, "{low}");
        assert!((high - (0.25 + half_width)).abs() < 0.005, "{high}");
    }

    #[test]
    fn intervals_equal_scipy() {
        let golden = golden("stats.json");
        let near = |found: Interval, expected: &[f64]| {
            assert_near(found.low, expected[0], 0.02 * (expected[1] - expected[0]));
            assert_near(found.high, expected[1], 0.02 * (expected[1] - expected[0]));
        };
        let mean = mean_interval(&numbers(&golden["mean"]["values"]), 100_000, 1).unwrap();
        near(mean, &numbers(&golden["mean"]["interval"]));
        let nll = numbers(&golden["perplexity"]["nll"]);
        let tokens: Vec<u64> = serde_json::from_value(golden["perplexity"]["tokens"].clone()).unwrap();
        let documents: Vec<Document> =
            nll.into_iter().zip(tokens).map(|(nll, tokens)| Document { nll, tokens }).collect();
        near(perplexity_interval(&documents, 100_000, 1).unwrap(), &numbers(&golden["perplexity"]["interval"]));
    }

    #[test]
    fn the_interval_covers_the_true_mean_about_19_times_in_20() {
        let mut rng = ChaCha8Rng::seed_from_u64(5);
        let covers = |seed| {
            let values: Vec<f64> = (0..60).map(|_| rng.random::<f64>()).collect();
            let Interval { low, high } = mean_interval(&values, 500, seed).unwrap();
            low <= 0.5 && 0.5 <= high
        };
        let covered = (0..400).map(covers).filter(|covered| *covered).count();
        assert!((364..=396).contains(&covered), "{covered} of 400");
    }

    #[test]
    fn the_same_seed_gives_the_same_bits_and_another_seed_does_not() {
        let values = [0.3, 0.1, 0.9, 0.4, 0.7];
        assert_eq!(mean_interval(&values, 100, 7), mean_interval(&values, 100, 7));
        assert_ne!(mean_interval(&values, 100, 7), mean_interval(&values, 100, 8));
    }

    #[test]
    fn too_little_to_resample_has_no_interval() {
        assert_eq!(mean_interval(&[], 100, 1), None);
        assert_eq!(mean_interval(&[1.0], 100, 1), None);
        assert_eq!(mean_interval(&[1.0, 2.0], 0, 1), None);
        assert_eq!(
            perplexity_interval(&[Document { nll: 1.0, tokens: 3 }, Document { nll: 0.0, tokens: 0 }], 9, 1),
            None
        );
    }

    #[test]
    fn documents_of_one_perplexity_have_it_without_spread_whatever_their_length() {
        let documents: Vec<Document> =
            (1_u32..50).map(|n| Document { nll: 2.0 * f64::from(n), tokens: n.into() }).collect();
        let Interval { low, high } = perplexity_interval(&documents, 200, 3).unwrap();
        assert!((low - 2.0_f64.exp()).abs() < 1e-9 && (high - 2.0_f64.exp()).abs() < 1e-9);
    }

    #[test]
    fn percentiles_are_those_of_numpy() {
        let sorted = [1.0, 2.0, 4.0, 8.0];
        assert_eq!(percentile(&sorted, 0.0), Some(1.0));
        assert_eq!(percentile(&sorted, 0.5), Some(3.0));
        assert!((percentile(&sorted, 0.975).unwrap() - 7.7).abs() < 1e-12);
        assert_eq!(percentile(&sorted, 1.0), Some(8.0));
    }

    proptest! {
        #[test]
        fn the_interval_lies_within_the_values(values in prop::collection::vec(-1e3..1e3, 2..40), seed in any::<u64>()) {
            let Interval { low, high } = mean_interval(&values, 50, seed).unwrap();
            let least = values.iter().copied().fold(f64::INFINITY, f64::min);
            let most = values.iter().copied().fold(f64::NEG_INFINITY, f64::max);
            prop_assert!(least - 1e-9 <= low && low <= high && high <= most + 1e-9);
        }
    }
}
