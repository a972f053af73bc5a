//! Effect sizes, which do not depend on the metric's units.

use super::auc::auc;
use super::describe::{mean, standard_deviation};

/// Computes Hedges' g of paired samples; `None` for fewer than three differences, or when all are equal.
///
/// It is Cohen's `d_z`, the mean of the differences in units of their standard deviation, times a factor. The factor
/// `1 - 3 / (4 (n - 1) - 1)` removes the bias of small samples (L. V. Hedges, 1981).
pub fn hedges_g(differences: &[f64]) -> Option<f64> {
    let mean = mean(differences)?;
    let deviation = standard_deviation(differences);
    let df = differences.len() as f64 - 1.0;
    // a smaller deviation is the rounding error of equal differences
    let varies = df >= 2.0 && deviation > 1e-12 * mean.abs();
    // a mean that differs from 0 only by rounding is 0
    let mean = if mean.abs() > 1e-12 * deviation { mean } else { 0.0 };
    varies.then(|| mean / deviation * (1.0 - 3.0 / (4.0 * df - 1.0)))
}

/// Computes Cliff's delta (N. Cliff, 1993), from -1 to 1; `None` when either list is empty.
///
/// It is P(a > b) - P(a < b) for a score of `a` and a score of `b`. Values must be finite.
pub fn cliffs_delta(a: &[f64], b: &[f64]) -> Option<f64> {
    auc(a, b).map(|share| 2.0 * share - 1.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stats::testing::{assert_near, golden, numbers};

    #[test]
    fn effect_sizes_equal_scipy() {
        let golden = &golden("comparison.json")["effects"];
        let (a, b) = (numbers(&golden["a"]), numbers(&golden["b"]));
        let differences: Vec<f64> = a.iter().zip(&b).map(|(a, b)| a - b).collect();
        assert_near(hedges_g(&differences).unwrap(), golden["hedges_g"].as_f64().unwrap(), 1e-12);
        assert_near(cliffs_delta(&a, &b).unwrap(), golden["cliffs_delta"].as_f64().unwrap(), 1e-12);
    }

    #[test]
    fn what_does_not_vary_has_no_standardized_difference() {
        assert_eq!(hedges_g(&[0.1, 0.1, 0.1]), None);
        assert_eq!(hedges_g(&[0.1, 0.2]), None);
        assert_eq!(hedges_g(&[]), None);
        assert_eq!(cliffs_delta(&[1.0, 1.0], &[0.0]), Some(1.0));
        assert_eq!(cliffs_delta(&[1.0], &[]), None);
    }
}
