//! Bootstrap-t intervals (B. Efron and R. Tibshirani, "An Introduction to the Bootstrap", 1993, chapter 12).
//!
//! Each resample's distance from the sample is measured in the resample's own standard errors. The ends of the interval
//! are these distances in the sample's standard errors. So the interval leans to the side of the long tail, whereas
//! percentiles of resampled means lean away from it (T. Hesterberg, "What Teachers Should Know About the Bootstrap",
//! 2015). `benches/results/statistics.md` has the coverage.

use super::bootstrap::{Interval, percentile, resampled};
use super::student::quantile;

/// The least number of values for resampling. Resamples of fewer are too alike, so Student's t replaces them.
const LEAST_VALUES: usize = 8;

/// The log-likelihood of one document, for perplexity.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Document {
    /// The sum of the negative log-likelihoods of the document's tokens, in nats.
    pub nll: f64,
    /// The number of tokens in the sum.
    pub tokens: u64,
}

/// Computes the 95% interval of the mean of `values`, which are unbounded.
///
/// `None` for fewer than two values, without resamples, or when nothing varies.
pub(super) fn studentized_mean(values: &[f64], resamples: u32, seed: u64) -> Option<Interval> {
    let pairs: Vec<(f64, f64)> = values.iter().map(|&value| (value, 1.0)).collect();
    studentized_ratio(&pairs, resamples, seed)
}

/// Computes the 95% interval of the perplexity `exp(sum of nll / sum of tokens)`, resampled over documents.
///
/// The unit is the document because its tokens are not independent. `None` for fewer than two documents, without
/// resamples, or when nothing varies.
pub fn perplexity_interval(documents: &[Document], resamples: u32, seed: u64) -> Option<Interval> {
    let with_tokens = documents.iter().filter(|document| document.tokens > 0);
    let pairs: Vec<(f64, f64)> = with_tokens.map(|document| (document.nll, document.tokens as f64)).collect();
    let of_log = studentized_ratio(&pairs, resamples, seed)?;
    Some(Interval { low: of_log.low.exp(), high: of_log.high.exp() })
}

/// Computes the 95% interval of the ratio of two sums, over pairs of summands.
fn studentized_ratio(pairs: &[(f64, f64)], resamples: u32, seed: u64) -> Option<Interval> {
    let all: Vec<usize> = (0..pairs.len()).collect();
    let (ratio, error) = ratio(pairs, &all)?;
    if resamples == 0 || error <= 1e-12 * ratio.abs() {
        return None; // a smaller error is the rounding error of pairs that are all equal
    }
    if pairs.len() < LEAST_VALUES {
        let half = error * quantile(0.975, pairs.len() as f64 - 1.0);
        return Some(Interval { low: ratio - half, high: ratio + half });
    }
    let distance = |chosen: &[usize]| {
        let (of_resample, own_error) = self::ratio(pairs, chosen)?;
        // a resample of equal values has no scale
        (own_error > 1e-12 * error).then(|| (of_resample - ratio) / own_error)
    };
    let mut distances: Vec<f64> = resampled(pairs.len(), resamples, seed, distance).into_iter().flatten().collect();
    distances.sort_by(f64::total_cmp);
    let end = |share| Some(ratio - error * percentile(&distances, share)?);
    Some(Interval { low: end(0.975)?, high: end(0.025)? })
}

/// Computes the ratio of the sums of the `chosen` pairs and its standard error, by linearization; `None` for fewer than
/// two pairs.
fn ratio(pairs: &[(f64, f64)], chosen: &[usize]) -> Option<(f64, f64)> {
    let count = chosen.len() as f64;
    let (above, below) = chosen.iter().fold((0.0, 0.0), |(a, b), &i| (a + pairs[i].0, b + pairs[i].1));
    let ratio = above / below;
    let squares: f64 = chosen.iter().map(|&i| (pairs[i].0 - ratio * pairs[i].1).powi(2)).sum();
    (chosen.len() > 1).then(|| (ratio, (squares / (count - 1.0) * count).sqrt() / below))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stats::testing::{assert_near, golden, numbers};

    #[test]
    fn the_interval_of_a_mean_is_about_that_of_the_normal_approximation() {
        let values: Vec<f64> = (0..400).map(|i| f64::from(i % 4 == 0)).collect();
        let Interval { low, high } = studentized_mean(&values, 4000, 1).unwrap();
        let half_width = 1.96 * (0.25_f64 * 0.75 / 400.0).sqrt();
        assert!((low - (0.25 - half_width)).abs() < 0.006, "{low}");
        assert!((high - (0.25 + half_width)).abs() < 0.006, "{high}");
    }

    #[test]
    fn intervals_equal_numpy() {
        let golden = golden("stats.json");
        let near = |found: Interval, expected: &[f64]| {
            assert_near(found.low, expected[0], 0.02 * (expected[1] - expected[0]));
            assert_near(found.high, expected[1], 0.02 * (expected[1] - expected[0]));
        };
        let mean = studentized_mean(&numbers(&golden["mean"]["values"]), 100_000, 1).unwrap();
        near(mean, &numbers(&golden["mean"]["interval"]));
        let nll = numbers(&golden["perplexity"]["nll"]);
        let tokens: Vec<u64> = serde_json::from_value(golden["perplexity"]["tokens"].clone()).unwrap();
        let documents: Vec<Document> =
            nll.into_iter().zip(tokens).map(|(nll, tokens)| Document { nll, tokens }).collect();
        near(perplexity_interval(&documents, 100_000, 1).unwrap(), &numbers(&golden["perplexity"]["interval"]));
    }

    #[test]
    fn the_same_seed_gives_the_same_bits_and_another_seed_does_not() {
        let values = [0.3, 0.1, 0.9, 0.4, 0.7, 0.2, 0.8, 0.35];
        assert_eq!(studentized_mean(&values, 100, 7), studentized_mean(&values, 100, 7));
        assert_ne!(studentized_mean(&values, 100, 7), studentized_mean(&values, 100, 8));
    }

    #[test]
    fn too_little_to_resample_has_no_interval() {
        assert_eq!(studentized_mean(&[], 100, 1), None);
        assert_eq!(studentized_mean(&[1.0], 100, 1), None);
        assert_eq!(studentized_mean(&[1.0, 2.0], 0, 1), None);
        assert_eq!(studentized_mean(&[1.5; 20], 100, 1), None);
        assert_eq!(
            perplexity_interval(&[Document { nll: 1.0, tokens: 3 }, Document { nll: 0.0, tokens: 0 }], 9, 1),
            None
        );
    }

    #[test]
    fn few_values_have_the_interval_of_students_t() {
        let Interval { low, high } = studentized_mean(&[1.0, 2.0, 3.0], 100, 1).unwrap();
        assert_near(low, 2.0 - 4.302_652_73 / 3.0_f64.sqrt(), 1e-6);
        assert_near(high, 2.0 + 4.302_652_73 / 3.0_f64.sqrt(), 1e-6);
    }

    #[test]
    fn documents_of_one_perplexity_have_it_without_spread_whatever_their_length() {
        let documents: Vec<Document> =
            (1_u32..50).map(|n| Document { nll: 2.0 * f64::from(n), tokens: n.into() }).collect();
        assert_eq!(perplexity_interval(&documents, 200, 3), None);
    }
}
