//! Comparisons of two variants on the same questions.

use super::bootstrap::{Interval, draw, resampled};
use rand::{RngExt as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;

/// How variant A does against variant B.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Comparison {
    /// Mean of A minus mean of B.
    pub difference: f64,
    /// Its 95% interval, by bootstrap over questions.
    pub interval: Interval,
    /// Two-sided, of the randomization test that exchanges A and B within questions at random.
    pub p_value: f64,
    /// Cohen's d of paired samples: the mean of the differences in units of their standard deviation; absent when all
    /// are equal.
    pub effect_size: Option<f64>,
}

/// Compares the scores `a[i]` and `b[i]` on question i; none for fewer than two questions or without resamples.
///
/// # Panics
/// When the variants did not answer the same number of questions.
pub fn paired_comparison(a: &[f64], b: &[f64], resamples: u32, seed: u64) -> Option<Comparison> {
    assert_eq!(a.len(), b.len(), "both variants answer every question");
    let differences: Vec<f64> = a.iter().zip(b).map(|(a, b)| a - b).collect();
    if differences.len() < 2 {
        return None;
    }
    let means = resampled(differences.len(), resamples, seed, |chosen| mean_at(&differences, chosen));
    Some(Comparison {
        difference: mean(&differences),
        interval: Interval::of_percentiles(means)?,
        p_value: sign_flip_p_value(&differences, resamples, seed),
        effect_size: effect_size(&differences),
    })
}

/// Share of random sign flips whose mean is at least as far from 0, the observed one counted as one of them.
fn sign_flip_p_value(differences: &[f64], resamples: u32, seed: u64) -> f64 {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    rng.set_stream(1); // the bootstrap draws from stream 0 of the same seed
    let observed = differences.iter().sum::<f64>().abs() * (1.0 - 1e-12); // a rounding error is no smaller sum
    let extreme = (0..resamples).filter(|_| {
        let flipped = |&difference: &f64| if rng.random::<bool>() { difference } else { -difference };
        differences.iter().map(flipped).sum::<f64>().abs() >= observed
    });
    (extreme.count() + 1) as f64 / (f64::from(resamples) + 1.0)
}

fn effect_size(differences: &[f64]) -> Option<f64> {
    let mean = mean(differences);
    let squares: f64 = differences.iter().map(|difference| (difference - mean).powi(2)).sum();
    let deviation = (squares / (differences.len() - 1) as f64).sqrt();
    (deviation > 1e-12 * mean.abs()).then(|| mean / deviation) // less is rounding errors of equal differences
}

/// How variant A, trained with several seeds, does against variant B.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct GridComparison {
    /// Mean of A minus mean of B.
    pub difference: f64,
    /// Its 95% interval, by bootstrap over seeds and questions.
    pub interval: Interval,
}

/// Compares the scores `a[s][q]` and `b[s][q]` of training seed s on question q.
///
/// Each resample draws seeds, for each variant its own, and questions, the same for all (the two ways crossed, after
/// A. Owen, "The pigeonhole bootstrap", 2007). With few seeds the interval is too narrow: of n seeds the bootstrap sees
/// (n - 1) / n of the variance between them. None for fewer than two seeds or questions, or without resamples.
///
/// # Panics
/// When the seeds did not all answer the same number of questions.
pub fn grid_comparison(a: &[Vec<f64>], b: &[Vec<f64>], resamples: u32, seed: u64) -> Option<GridComparison> {
    let questions = a.first()?.len();
    let alike = a.iter().chain(b).all(|scores| scores.len() == questions);
    assert!(alike, "every seed of both variants answers every question");
    if a.len() < 2 || b.len() < 2 || questions < 2 {
        return None;
    }
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    rng.set_stream(1); // the questions are drawn from stream 0 of the same seed
    let differences = resampled(questions, resamples, seed, |chosen| {
        let mut drawn = |arm: &[Vec<f64>]| -> f64 {
            let seeds = draw(arm.len(), &mut rng);
            seeds.map(|s| mean_at(&arm[s], chosen)).sum::<f64>() / arm.len() as f64
        };
        drawn(a) - drawn(b)
    });
    let of_all = |arm: &[Vec<f64>]| arm.iter().map(|scores| mean(scores)).sum::<f64>() / arm.len() as f64;
    Some(GridComparison { difference: of_all(a) - of_all(b), interval: Interval::of_percentiles(differences)? })
}

/// Adjusts the p-values of several comparisons so that the chance of even one false discovery stays bounded (S. Holm,
/// 1979); in the order given.
pub fn holm(p_values: &[f64]) -> Vec<f64> {
    let mut ascending: Vec<usize> = (0..p_values.len()).collect();
    ascending.sort_by(|&i, &j| p_values[i].total_cmp(&p_values[j]));
    let mut adjusted = vec![0.0; p_values.len()];
    let mut least = 0.0_f64;
    for (rank, i) in ascending.into_iter().enumerate() {
        least = least.max(p_values[i] * (p_values.len() - rank) as f64).min(1.0);
        adjusted[i] = least;
    }
    adjusted
}

fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len() as f64
}

fn mean_at(values: &[f64], chosen: &[usize]) -> f64 {
    chosen.iter().map(|&i| values[i]).sum::<f64>() / chosen.len() as f64
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stats::testing::{assert_near, golden, numbers};
    use proptest::prelude::*;

    #[test]
    fn a_paired_comparison_equals_scipy() {
        let golden = &golden("stats.json")["paired"];
        let found = paired_comparison(&numbers(&golden["a"]), &numbers(&golden["b"]), 100_000, 1).unwrap();
        let (interval, width) = (numbers(&golden["interval"]), found.interval.high - found.interval.low);
        assert_near(found.difference, golden["difference"].as_f64().unwrap(), 1e-12);
        assert_near(found.interval.low, interval[0], 0.02 * width);
        assert_near(found.interval.high, interval[1], 0.02 * width);
        assert_near(found.p_value, golden["p_value"].as_f64().unwrap(), 1e-3);
        assert_near(found.effect_size.unwrap(), golden["effect_size"].as_f64().unwrap(), 1e-12);
    }

    #[test]
    fn a_comparison_over_seeds_and_questions_equals_numpy() {
        let golden = &golden("stats.json")["grid"];
        let scores = |name: &str| -> Vec<Vec<f64>> { serde_json::from_value(golden[name].clone()).unwrap() };
        let found = grid_comparison(&scores("a"), &scores("b"), 50_000, 1).unwrap();
        let (interval, width) = (numbers(&golden["interval"]), found.interval.high - found.interval.low);
        assert_near(found.difference, golden["difference"].as_f64().unwrap(), 1e-12);
        assert_near(found.interval.low, interval[0], 0.02 * width);
        assert_near(found.interval.high, interval[1], 0.02 * width);
    }

    #[test]
    fn seeds_that_differ_widen_the_interval_that_questions_alone_would_give() {
        let question = |q: u32| f64::from(q % 7) / 7.0;
        let arm = |shifts: [f64; 3]| shifts.map(|shift| (0..50).map(|q| question(q) + shift).collect()).to_vec();
        let steady = grid_comparison(&arm([0.1; 3]), &arm([0.0; 3]), 1000, 1).unwrap().interval;
        let unsteady = grid_comparison(&arm([0.0, 0.1, 0.2]), &arm([-0.1, 0.0, 0.1]), 1000, 1).unwrap().interval;
        assert_near(steady.high - steady.low, 0.0, 1e-9);
        assert!(unsteady.high - unsteady.low > 0.1);
    }

    #[test]
    fn equal_variants_do_not_differ() {
        let found = paired_comparison(&[0.1, 0.5, 0.9], &[0.1, 0.5, 0.9], 1000, 1).unwrap();
        assert_eq!((found.difference, found.p_value, found.effect_size), (0.0, 1.0, None));
        assert_eq!(found.interval, Interval { low: 0.0, high: 0.0 });
    }

    #[test]
    fn a_constant_lead_has_no_effect_size() {
        let found = paired_comparison(&[0.3, 0.4, 0.9], &[0.2, 0.3, 0.8], 100, 1).unwrap();
        assert_eq!(found.effect_size, None);
    }

    #[test]
    fn too_little_to_resample_has_no_comparison() {
        assert_eq!(paired_comparison(&[1.0], &[0.0], 100, 1), None);
        assert_eq!(paired_comparison(&[1.0, 0.0], &[0.0, 1.0], 0, 1), None);
        assert_eq!(grid_comparison(&[], &[], 100, 1), None);
        assert_eq!(grid_comparison(&[vec![0.0, 1.0]], &[vec![0.0, 1.0]], 100, 1), None);
    }

    #[test]
    fn holm_equals_statsmodels() {
        let golden = &golden("stats.json")["holm"];
        let adjusted = holm(&numbers(&golden["p_values"]));
        for (value, expected) in adjusted.iter().zip(numbers(&golden["adjusted"])) {
            assert_near(*value, expected, 1e-12);
        }
    }

    proptest! {
        #[test]
        fn exchanging_the_variants_turns_the_comparison_round(
            pairs in prop::collection::vec((0.0..1.0, 0.0..1.0), 2..30)
        ) {
            let (a, b): (Vec<f64>, Vec<f64>) = pairs.into_iter().unzip();
            let (one, other) = (paired_comparison(&a, &b, 50, 1).unwrap(), paired_comparison(&b, &a, 50, 1).unwrap());
            prop_assert!((one.difference + other.difference).abs() < 1e-12);
            prop_assert!((one.interval.low + other.interval.high).abs() < 1e-9);
            prop_assert!((one.p_value - other.p_value).abs() < 1e-12);
        }

        #[test]
        fn holm_never_lowers_a_p_value_nor_leaves_the_range(p_values in prop::collection::vec(0.0..=1.0, 0..20)) {
            for (adjusted, p_value) in holm(&p_values).into_iter().zip(p_values) {
                prop_assert!(p_value <= adjusted && adjusted <= 1.0);
            }
        }
    }
}
