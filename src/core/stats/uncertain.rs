//! A mean whose variance is a sum of estimates, each from few degrees of freedom.
//!
//! Three seeds tell their variance with two degrees of freedom. How far the mean may lie is then not a quantile of one t
//! distribution, as the questions add a variance that is known much better. The generalized pivotal quantity (S. Weerahandi,
//! "Generalized Confidence Intervals", 1993) takes each estimate by its own chi-squared distribution:
//!
//! `mean + Z sqrt(sum of estimate df / chi-squared(df))`
//!
//! Of one estimate that is Student's t; of two it is the test of Behrens and Fisher. Its error of the first kind stays below the
//! nominal one, where an effective number of degrees of freedom (Satterthwaite, 1946) exceeds it with two or three seeds:
//! `benches/results/statistics.md` has both.

use super::bootstrap::Interval;
use super::student::{quantile, two_sided_p};
use rand::{RngExt as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;
use statrs::distribution::{ChiSquared, ContinuousCDF as _, Normal};
use std::collections::HashMap;
use std::rc::Rc;

/// Points at which the chi-squared distributions are taken.
const POINTS: usize = 2048;
/// The share of the distribution that an interval leaves out.
const OUTSIDE: f64 = 0.05;

/// A variance as it is estimated.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Estimate {
    /// The estimate.
    pub(super) value: f64,
    /// Its degrees of freedom.
    pub(super) df: f64,
}

/// A part of the squared standard error.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct VariancePart {
    /// The estimate.
    pub(super) of: Estimate,
    /// What the estimate holds too, and is taken from it; the rest is not below 0.
    pub(super) less: Option<Estimate>,
}

/// Quantiles of chi-squared distributions over their degrees of freedom, which many means share.
#[derive(Default)]
pub(super) struct Quantiles {
    known: HashMap<(u64, usize), Rc<Vec<f64>>>,
}

impl Quantiles {
    /// Quantiles at even steps, in an order of their own for each `axis`, so that axes do not go together.
    fn of(&mut self, df: f64, axis: usize) -> Rc<Vec<f64>> {
        let compute = || {
            let distribution = ChiSquared::new(df).expect("positive degrees of freedom");
            let step = |point: usize| (point as f64 + 0.5) / POINTS as f64;
            let mut values: Vec<f64> = (0..POINTS).map(|point| distribution.inverse_cdf(step(point)) / df).collect();
            let mut rng = ChaCha8Rng::seed_from_u64(axis as u64);
            for last in (1..POINTS).rev() {
                values.swap(last, rng.random_range(0..=last));
            }
            Rc::new(values)
        };
        Rc::clone(self.known.entry((df.to_bits(), axis)).or_insert_with(compute))
    }
}

/// A mean and where it may lie.
pub(super) struct UncertainMean {
    mean: f64,
    error: StandardError,
}

enum StandardError {
    /// Nothing varies.
    Zero,
    /// One estimate: Student's t.
    Student { error: f64, df: f64 },
    /// Possible values, all as likely.
    Mixed(Vec<f64>),
}

impl UncertainMean {
    /// Of `mean`, whose squared standard error is the sum of `parts`.
    pub(super) fn new(mean: f64, parts: &[VariancePart], quantiles: &mut Quantiles) -> Self {
        // less is rounding errors of values that are all equal
        let least = 1e-24 * mean * mean;
        let parts: Vec<&VariancePart> = parts.iter().filter(|part| part.of.value > least).collect();
        let error = match parts.as_slice() {
            [] => StandardError::Zero,
            [VariancePart { of, less: None }] => StandardError::Student { error: of.value.sqrt(), df: of.df },
            parts => {
                let mut squared = vec![0.0; POINTS];
                for (axis, VariancePart { of, less }) in parts.iter().enumerate() {
                    let own = quantiles.of(of.df, 2 * axis);
                    let taken = less.map(|less| (less.value, quantiles.of(less.df, 2 * axis + 1)));
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

    /// Two-sided p-value of a mean of 0; absent when nothing varies.
    pub(super) fn p_value(&self) -> Option<f64> {
        self.outside(self.mean.abs())
    }

    /// The 95% interval, symmetric about the mean; absent when nothing varies. It leaves out 0 where [`Self::p_value`] is below
    /// 0.05, and only there.
    pub(super) fn interval(&self) -> Option<Interval> {
        let half = self.half_width()?;
        Some(Interval { low: self.mean - half, high: self.mean + half })
    }

    fn half_width(&self) -> Option<f64> {
        match &self.error {
            StandardError::Zero => None,
            StandardError::Student { error, df } => Some(error * quantile(1.0 - OUTSIDE / 2.0, *df)),
            StandardError::Mixed(errors) => {
                let mut high = errors.iter().sum::<f64>() / errors.len() as f64;
                while self.outside(high)? > OUTSIDE {
                    high *= 2.0;
                }
                let mut low = 0.0;
                while high - low > 1e-9 * high {
                    let middle = f64::midpoint(low, high);
                    if self.outside(middle)? > OUTSIDE { low = middle } else { high = middle }
                }
                Some(high)
            }
        }
    }

    /// The probability of a mean at least `distance` from the true one.
    fn outside(&self, distance: f64) -> Option<f64> {
        match &self.error {
            StandardError::Zero => None,
            StandardError::Student { error, df } => Some(two_sided_p(distance / error, *df)),
            StandardError::Mixed(errors) => {
                let normal = Normal::standard();
                let tail = |error: &f64| if *error > 0.0 { 2.0 * normal.cdf(-distance / error) } else { 0.0 };
                Some(errors.iter().map(tail).sum::<f64>() / errors.len() as f64)
            }
        }
    }
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
        // a second estimate of next to nothing, so that it is not taken as one
        let mixed = UncertainMean::new(0.5, &[part(0.04, 2.0), part(1e-20, 9.0)], &mut Quantiles::default());
        let student = UncertainMean::new(0.5, &[part(0.04, 2.0)], &mut Quantiles::default());
        assert_near(mixed.p_value().unwrap(), student.p_value().unwrap(), 1e-4);
        let (mixed, student) = (mixed.interval().unwrap(), student.interval().unwrap());
        assert_near(mixed.high, student.high, 0.01 * (student.high - student.low));
        assert_near(student.high - 0.5, 0.2 * 4.302_652_73, 1e-6);
    }

    #[test]
    fn the_interval_leaves_out_zero_where_p_is_below_a_twentieth_and_only_there() {
        let mut quantiles = Quantiles::default();
        for step in 1..200 {
            let mean = f64::from(step) * 0.005;
            let found = UncertainMean::new(mean, &[part(0.01, 2.0), part(0.02, 40.0)], &mut quantiles);
            assert_eq!(found.p_value().unwrap() < 0.05, found.interval().unwrap().low > 0.0, "{mean}");
        }
    }

    #[test]
    fn what_does_not_vary_has_neither() {
        let found = UncertainMean::new(0.5, &[part(0.0, 2.0)], &mut Quantiles::default());
        assert_eq!((found.p_value(), found.interval()), (None, None));
    }
}
