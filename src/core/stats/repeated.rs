//! A test that is repeated as seeds are added, and stops as soon as it is significant.
//!
//! A test at 0.05 that is looked at after 3, 4, ... 10 seeds finds a difference by chance far more often than one time
//! in twenty. Alpha spending (K. K. G. Lan and D. L. DeMets, "Discrete sequential boundaries for clinical trials",
//! 1983) bounds the probability over all looks together. After n of at most N seeds, the test may have spent
//! `alpha (n / N)^2` of its errors, the power family of K. Kim and DeMets (1987).
//!
//! The boundaries in textbooks hold for many degrees of freedom. Here a look has n - 1 of them, and with those
//! boundaries the rate would be 0.06 instead of 0.05. So the boundaries are computed for the joint distribution of the
//! t statistics of the first n of N independent normal numbers. That distribution has no parameters, and is drawn with
//! a fixed seed.
//!
//! A look that is skipped can only lower the rate of errors, so the number of seeds that are added at once may depend
//! on the results.

use super::student::two_sided_p;
use rand::{RngExt as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;

/// The number of drawn experiments.
const PATHS: usize = 200_000;
/// The exponent of the spending function: most of the errors are left to the later looks.
const POWER_FAMILY: i32 = 2;

/// The joint distribution of the t statistics of successive looks without a difference.
#[derive(Clone, Debug)]
pub struct RepeatedTest {
    first: usize,
    most: usize,
    /// The squared t statistic of each drawn experiment, by look.
    squares: Vec<Vec<f32>>, // (L, PATHS)
}

impl RepeatedTest {
    /// Creates the test that looks after `first`, `first + 1`, ... `most` seeds.
    ///
    /// # Panics
    /// Panics unless `2 <= first <= most`.
    pub fn new(first: usize, most: usize) -> Self {
        assert!(2 <= first && first <= most, "a variance needs two seeds");
        let mut rng = ChaCha8Rng::seed_from_u64(0);
        let mut squares = vec![Vec::with_capacity(PATHS); most - first + 1];
        for _ in 0..PATHS {
            let (mut mean, mut sum_of_squares) = (0.0, 0.0);
            for n in 1..=most {
                let (value, count) = (normal(&mut rng), n as f64);
                let step: f64 = value - mean;
                mean += step / count;
                sum_of_squares += step * (value - mean);
                if n >= first {
                    let t_squared: f64 = mean * mean * count * (count - 1.0) / sum_of_squares;
                    #[expect(clippy::cast_possible_truncation, reason = "seven digits suffice")]
                    squares[n - first].push(t_squared as f32);
                }
            }
        }
        Self { first, most, squares }
    }

    /// Returns the p-value, for each look, at which a test with the error rate `alpha` over all looks is significant.
    pub fn levels(&self, alpha: f64) -> Vec<f64> {
        let mut open: Vec<usize> = (0..PATHS).collect();
        let mut levels = Vec::with_capacity(self.squares.len());
        for (n, squares) in (self.first..).zip(&self.squares) {
            let spent = alpha * (n as f64 / self.most as f64).powi(POWER_FAMILY);
            #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "between 0 and PATHS")]
            let may_cross = ((spent * PATHS as f64) as usize).saturating_sub(PATHS - open.len());
            let Some(last) = may_cross.checked_sub(1) else {
                levels.push(0.0);
                continue;
            };
            let mut values: Vec<f32> = open.iter().map(|&path| squares[path]).collect();
            let (_, boundary, _) = values.select_nth_unstable_by(last, |a, b| b.total_cmp(a));
            let boundary = *boundary;
            levels.push(two_sided_p(f64::from(boundary).sqrt(), n as f64 - 1.0));
            open.retain(|&path| squares[path] < boundary);
        }
        levels
    }
}

/// Draws from the standard normal distribution (G. E. P. Box and M. E. Muller, 1958).
fn normal(rng: &mut ChaCha8Rng) -> f64 {
    let radius = (-2.0 * (1.0 - rng.random::<f64>()).ln()).sqrt();
    radius * (std::f64::consts::TAU * rng.random::<f64>()).cos()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stats::testing::{golden, numbers};

    #[test]
    fn levels_equal_those_of_an_independent_simulation() {
        for case in golden("repeated.json").as_array().unwrap() {
            let whole = |name: &str| usize::try_from(case[name].as_u64().unwrap()).unwrap();
            let alpha = case["alpha"].as_f64().unwrap();
            let found = RepeatedTest::new(whole("first"), whole("most")).levels(alpha);
            let expected = numbers(&case["levels"]);
            assert_eq!(found.len(), expected.len());
            for (n, (found, expected)) in (whole("first")..).zip(found.iter().zip(&expected)) {
                // The error of the drawn share of crossings at this look, five times.
                let tolerance = 5.0 / (expected * PATHS as f64).sqrt();
                assert!((found / expected - 1.0).abs() < tolerance, "{found} {expected} at {n} seeds, alpha {alpha}");
            }
        }
    }

    #[test]
    fn one_look_spends_everything() {
        let levels = RepeatedTest::new(6, 6).levels(0.05);
        assert!((levels[0] - 0.05).abs() < 0.002, "{levels:?}");
    }

    #[test]
    fn a_smaller_rate_has_lower_levels_at_every_look() {
        let test = RepeatedTest::new(3, 8);
        let (one, shared) = (test.levels(0.05), test.levels(0.05 / 4.0));
        assert!(one.iter().zip(&shared).all(|(one, shared)| shared < one), "{one:?} {shared:?}");
    }
}
