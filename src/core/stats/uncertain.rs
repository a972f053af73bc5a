//! A mean whose squared standard error is a sum of estimated variances, each with few degrees of freedom.
//!
//! Three seeds estimate their variance with two degrees of freedom. The questions add a variance that is known much
//! better, so the error of the mean does not follow one t distribution. The generalized pivotal quantity (S.
//! Weerahandi, "Generalized Confidence Intervals", 1993) uses a chi-squared distribution for each estimate:
//!
//! `mean + Z sqrt(sum of estimate df / chi-squared(df))`
//!
//! For one estimate this is Student's t; for two it is the Behrens-Fisher test. Its type I error stays below the
//! nominal one. With an effective number of degrees of freedom (Satterthwaite, 1946) it exceeds the nominal one for two
//! or three seeds. `benches/results/statistics.md` has both.

use super::bootstrap::Interval;
use super::student::{quantile, two_sided_p};
use rand::{RngExt as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;
use statrs::distribution::{ChiSquared, Continuous as _, ContinuousCDF as _, Normal};
use std::collections::HashMap;
use std::sync::{Arc, LazyLock, Mutex, PoisonError};

/// The number of points at which the chi-squared distributions are evaluated.
const POINTS: usize = 2048;
/// The probability that an interval excludes: 1 - 0.95.
const OUTSIDE: f64 = 0.05;

/// An estimated variance.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Estimate {
    /// The estimated value.
    pub(super) value: f64,
    /// The degrees of freedom of the estimate.
    pub(super) df: f64,
}

/// A part of the squared standard error.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct VariancePart {
    /// The estimated variance.
    pub(super) of: Estimate,
    /// A variance that `of` includes and that is subtracted. The difference is at least 0.
    pub(super) less: Option<Estimate>,
}

/// The quantiles of a chi-squared distribution over its degrees of freedom, by these (as bits) and the axis.
type KnownQuantiles = HashMap<(u64, usize), Arc<Vec<f64>>>;

/// The quantiles that the process has computed: degrees of freedom are counts, so there are few.
static KNOWN: LazyLock<Mutex<KnownQuantiles>> = LazyLock::new(Mutex::default);

/// Returns quantiles at even steps, shuffled differently for each `axis`, so that axes are independent.
fn quantiles(df: f64, axis: usize) -> Arc<Vec<f64>> {
    let compute = || {
        let distribution = ChiSquared::new(df).expect("positive degrees of freedom");
        let step = |point: usize| (point as f64 + 0.5) / POINTS as f64;
        let mut values: Vec<f64> = (0..POINTS).map(|point| distribution.inverse_cdf(step(point)) / df).collect();
        let mut rng = ChaCha8Rng::seed_from_u64(axis as u64);
        for last in (1..POINTS).rev() {
            values.swap(last, rng.random_range(0..=last));
        }
        Arc::new(values)
    };
    let mut known = KNOWN.lock().unwrap_or_else(PoisonError::into_inner);
    Arc::clone(known.entry((df.to_bits(), axis)).or_insert_with(compute))
}

/// A mean with its uncertainty.
pub(super) struct UncertainMean {
    mean: f64,
    error: StandardError,
}

enum StandardError {
    /// The values do not vary.
    Zero,
    /// One estimate: Student's t.
    Student { error: f64, df: f64 },
    /// Equally likely values of the standard error.
    Mixed(Vec<f64>),
}

impl UncertainMean {
    /// Combines `mean` with its squared standard error, which is the sum of `parts`.
    pub(super) fn new(mean: f64, parts: &[VariancePart]) -> Self {
        // a smaller variance is the rounding error of equal values
        let least = 1e-24 * mean * mean;
        let parts: Vec<&VariancePart> = parts.iter().filter(|part| part.of.value > least).collect();
        let error = match parts.as_slice() {
            [] => StandardError::Zero,
            [VariancePart { of, less: None }] => StandardError::Student { error: of.value.sqrt(), df: of.df },
            parts => {
                let mut squared = vec![0.0; POINTS];
                for (axis, VariancePart { of, less }) in parts.iter().enumerate() {
                    let own = quantiles(of.df, 2 * axis);
                    let taken = less.map(|less| (less.value, quantiles(less.df, 2 * axis + 1)));
                    for (point, sum) in squared.iter_mut().enumerate() {
                        let less = taken.as_ref().map_or(0.0, |(value, quantiles)| value / quantiles[point]);
                        *sum += (of.value / own[point] - less).max(0.0);
                    }
                }
                StandardError::Mixed(squared.into_iter().map(f64::sqrt).collect())
            }
        };
        Self { mean, error }
    }

    /// The two-sided p-value of the hypothesis that the mean is 0; absent when nothing varies.
    pub(super) fn p_value(&self) -> Option<f64> {
        self.outside(self.mean.abs())
    }

    /// The 95% interval, symmetric about the mean; absent when nothing varies.
    ///
    /// It excludes 0 exactly where [`Self::p_value`] is below 0.05.
    pub(super) fn interval(&self) -> Option<Interval> {
        let half = self.half_width()?;
        Some(Interval { low: self.mean - half, high: self.mean + half })
    }

    fn half_width(&self) -> Option<f64> {
        match &self.error {
            StandardError::Zero => None,
            StandardError::Student { error, df } => Some(error * quantile(1.0 - OUTSIDE / 2.0, *df)),
            StandardError::Mixed(errors) => {
                let typical = errors.iter().sum::<f64>() / errors.len() as f64;
                let boundary = boundary(errors, typical);
                // only near the boundary is the probability itself compared
                let is_inside = |distance: f64| {
                    if (distance - boundary).abs() > 1e-11 * boundary {
                        distance < boundary
                    } else {
                        mean_tail(errors, distance) > OUTSIDE
                    }
                };
                let mut high = typical;
                while is_inside(high) {
                    high *= 2.0;
                }
                let mut low = 0.0;
                while high - low > 1e-9 * high {
                    let middle = f64::midpoint(low, high);
                    if is_inside(middle) { low = middle } else { high = middle }
                }
                Some(high)
            }
        }
    }

    /// Computes the probability that the mean is at least `distance` from the true one.
    fn outside(&self, distance: f64) -> Option<f64> {
        match &self.error {
            StandardError::Zero => None,
            StandardError::Student { error, df } => Some(two_sided_p(distance / error, *df)),
            StandardError::Mixed(errors) => Some(mean_tail(errors, distance)),
        }
    }
}

/// Computes the probability outside `distance`, over equally likely standard errors.
fn mean_tail(errors: &[f64], distance: f64) -> f64 {
    let normal = Normal::standard();
    let tail = |error: &f64| if *error > 0.0 { 2.0 * normal.cdf(-distance / error) } else { 0.0 };
    errors.iter().map(tail).sum::<f64>() / errors.len() as f64
}

/// Finds the distance outside which the probability is [`OUTSIDE`], by Newton's method. The probability is convex, so
/// every step but the first approaches from below.
fn boundary(errors: &[f64], typical: f64) -> f64 {
    let normal = Normal::standard();
    let mut distance = 2.0 * typical;
    for _ in 0..100 {
        let slope = |error: &f64| if *error > 0.0 { 2.0 * normal.pdf(distance / error) / error } else { 0.0 };
        let density = errors.iter().map(slope).sum::<f64>() / errors.len() as f64;
        let next = (distance + (mean_tail(errors, distance) - OUTSIDE) / density).max(0.0);
        if (next - distance).abs() <= 1e-13 * next {
            break;
        }
        distance = next;
    }
    distance
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stats::testing::assert_near;

    fn part(value: f64, df: f64) -> VariancePart {
        VariancePart { of: Estimate { value, df }, less: None }
    }

    #[test]
    fn of_one_estimate_it_is_students_t() {
        // a tiny second estimate, so that the two are not taken as one
        let mixed = UncertainMean::new(0.5, &[part(0.04, 2.0), part(1e-20, 9.0)]);
        let student = UncertainMean::new(0.5, &[part(0.04, 2.0)]);
        assert_near(mixed.p_value().unwrap(), student.p_value().unwrap(), 1e-4);
        let (mixed, student) = (mixed.interval().unwrap(), student.interval().unwrap());
        assert_near(mixed.high, student.high, 0.01 * (student.high - student.low));
        assert_near(student.high - 0.5, 0.2 * 4.302_652_73, 1e-6);
    }

    #[test]
    fn the_interval_leaves_out_zero_where_p_is_below_a_twentieth_and_only_there() {
        for step in 1..200 {
            let mean = f64::from(step) * 0.005;
            let found = UncertainMean::new(mean, &[part(0.01, 2.0), part(0.02, 40.0)]);
            assert_eq!(found.p_value().unwrap() < 0.05, found.interval().unwrap().low > 0.0, "{mean}");
        }
    }

    #[test]
    fn the_interval_is_that_of_a_bisection_by_the_probability_to_the_bit() {
        let bisected = |found: &UncertainMean, errors: &[f64]| {
            let (mut low, mut high) = (0.0, errors.iter().sum::<f64>() / errors.len() as f64);
            while found.outside(high).unwrap() > OUTSIDE {
                high *= 2.0;
            }
            while high - low > 1e-9 * high {
                let middle = f64::midpoint(low, high);
                if found.outside(middle).unwrap() > OUTSIDE { low = middle } else { high = middle }
            }
            high
        };
        for (df, other) in [(1.0, 1.0), (1.0, 500.0), (2.0, 9.0), (9.0, 40.0)] {
            for value in [1e-12, 0.003, 0.2, 1e6] {
                let overlap = VariancePart { less: Some(Estimate { value: 0.9 * value, df: 80.0 }), ..part(value, df) };
                for parts in [[part(value, df), part(0.02, other)], [overlap, part(1e-9, other)]] {
                    let found = UncertainMean::new(0.5, &parts);
                    let StandardError::Mixed(errors) = &found.error else { panic!("two estimates") };
                    assert_eq!(found.half_width().unwrap().to_bits(), bisected(&found, errors).to_bits(), "{parts:?}");
                }
            }
        }
    }

    #[test]
    fn what_does_not_vary_has_neither() {
        let found = UncertainMean::new(0.5, &[part(0.0, 2.0)]);
        assert_eq!((found.p_value(), found.interval()), (None, None));
    }
}
