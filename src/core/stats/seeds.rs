//! Comparison of two arms with one number per seed, such as the perplexity of a whole text or the metric of a command.

use super::bootstrap::Interval;
use super::describe::{mean, variance};
use super::student::{quantile, two_sided_p};

/// The difference between the seeds of two arms.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct SeedComparison {
    /// The mean of the first arm minus the mean of the second.
    pub difference: f64,
    /// The 95% interval of the difference by Student's t; absent where an arm has one seed.
    pub interval: Option<Interval>,
    /// The two-sided p-value; absent where an arm has one seed, or nothing varies.
    pub p_value: Option<f64>,
    /// The variance of the difference from seed to seed; absent where an arm has one seed.
    pub between_seeds: Option<f64>,
}

/// Compares the measurements `a[s]` and `b[s]` of the same seeds by the paired t test; `None` without seeds.
///
/// # Panics
/// Panics if the arms differ in the number of seeds.
pub fn paired_seeds(a: &[f64], b: &[f64]) -> Option<SeedComparison> {
    assert_eq!(a.len(), b.len(), "every seed is one of both arms");
    let differences: Vec<f64> = a.iter().zip(b).map(|(a, b)| a - b).collect();
    let count = differences.len() as f64;
    let spread = (differences.len() > 1).then(|| variance(&differences));
    Some(compared(mean(&differences)?, spread, spread.map(|spread| (spread / count, count - 1.0))))
}

/// Compares the measurements of different seeds of two arms by Welch's t test; `None` where an arm has no seed.
pub fn unpaired_seeds(a: &[f64], b: &[f64]) -> Option<SeedComparison> {
    let difference = mean(a)? - mean(b)?;
    let (n, m) = (a.len() as f64, b.len() as f64);
    if a.len() < 2 || b.len() < 2 {
        return Some(compared(difference, None, None));
    }
    let (of_a, of_b) = (variance(a) / n, variance(b) / m);
    let df = (of_a + of_b).powi(2) / (of_a * of_a / (n - 1.0) + of_b * of_b / (m - 1.0));
    Some(compared(difference, Some(variance(a) + variance(b)), Some((of_a + of_b, df))))
}

/// Builds the comparison; `error` is the squared standard error and its degrees of freedom.
fn compared(difference: f64, between_seeds: Option<f64>, error: Option<(f64, f64)>) -> SeedComparison {
    let interval = error.map(|(squared, df)| {
        let half = if squared > 0.0 { squared.sqrt() * quantile(0.975, df) } else { 0.0 };
        Interval { low: difference - half, high: difference + half }
    });
    // a smaller error is the rounding error of equal differences
    let tested = error.filter(|(squared, _)| *squared > 1e-24 * difference * difference);
    let p_value = tested.map(|(squared, df)| two_sided_p(difference / squared.sqrt(), df));
    SeedComparison { difference, interval, p_value, between_seeds }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stats::testing::{assert_near, golden, numbers};

    #[test]
    fn t_tests_equal_scipy() {
        let golden = &golden("comparison.json")["seeds"];
        let (a, b) = (numbers(&golden["a"]), numbers(&golden["b"]));
        let unpaired = unpaired_seeds(&a, &b).unwrap();
        let paired = paired_seeds(&a[..b.len()], &b).unwrap();
        for (found, expected) in [(paired, &golden["paired"]), (unpaired, &golden["unpaired"])] {
            let (interval, ends) = (found.interval.unwrap(), numbers(&expected["interval"]));
            assert_near(found.p_value.unwrap(), expected["p_value"].as_f64().unwrap(), 1e-10);
            assert_near(interval.low, ends[0], 1e-6);
            assert_near(interval.high, ends[1], 1e-6);
        }
    }

    #[test]
    fn one_seed_has_a_difference_and_nothing_else() {
        let found = paired_seeds(&[2.0], &[1.5]).unwrap();
        assert_eq!((found.difference, found.interval, found.p_value), (0.5, None, None));
        assert_eq!(unpaired_seeds(&[2.0, 3.0], &[1.5]).unwrap().p_value, None);
        assert_eq!(paired_seeds(&[], &[]), None);
        assert_eq!(unpaired_seeds(&[], &[1.0]), None);
    }

    #[test]
    fn seeds_that_do_not_vary_have_no_p_value() {
        let found = paired_seeds(&[2.0, 2.0], &[1.0, 1.0]).unwrap();
        assert_eq!((found.p_value, found.interval), (None, Some(Interval { low: 1.0, high: 1.0 })));
    }
}
