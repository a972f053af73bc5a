//! Descriptive statistics of a list of numbers.

/// Computes the mean; `None` for an empty list.
pub fn mean(values: &[f64]) -> Option<f64> {
    (!values.is_empty()).then(|| values.iter().sum::<f64>() / values.len() as f64)
}

/// Computes the unbiased variance; 0 for fewer than two values.
pub fn variance(values: &[f64]) -> f64 {
    match mean(values) {
        Some(mean) if values.len() >= 2 => {
            values.iter().map(|value| (value - mean).powi(2)).sum::<f64>() / (values.len() - 1) as f64
        }
        _ => 0.0,
    }
}

/// Computes the unbiased standard deviation; 0 for fewer than two values.
pub fn standard_deviation(values: &[f64]) -> f64 {
    variance(values).sqrt()
}

/// Computes Welch's t: the number of standard errors by which the mean of `after` exceeds that of `before` (Welch,
/// Biometrika 1947).
///
/// 0 when either list has fewer than two values. Infinite when neither list varies and their means differ.
pub fn welch_t(before: &[f64], after: &[f64]) -> f64 {
    let (Some(low), Some(high)) = (mean(before), mean(after)) else { return 0.0 };
    if before.len() < 2 || after.len() < 2 || low.total_cmp(&high).is_eq() {
        return 0.0;
    }
    let error = (variance(before) / before.len() as f64 + variance(after) / after.len() as f64).sqrt();
    (high - low) / error
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stats::testing::assert_near;

    #[test]
    fn deviations_are_unbiased() {
        assert_eq!(mean(&[]), None);
        assert_near(variance(&[1.0, 2.0, 3.0, 4.0]), 5.0 / 3.0, 1e-15);
        assert_near(standard_deviation(&[0.0, 1.0]), 0.5f64.sqrt(), 1e-15);
        assert_near(standard_deviation(&[7.0]), 0.0, 0.0);
    }

    #[test]
    fn welch_t_counts_standard_errors() {
        // means 2 and 5, both variances 1, so the standard error is sqrt(1/3 + 1/3)
        assert_near(welch_t(&[1.0, 2.0, 3.0], &[4.0, 5.0, 6.0]), 3.0 / (2.0f64 / 3.0).sqrt(), 1e-12);
        assert_near(welch_t(&[4.0, 5.0, 6.0], &[1.0, 2.0, 3.0]), -3.0 / (2.0f64 / 3.0).sqrt(), 1e-12);
        assert_near(welch_t(&[2.0, 2.0], &[2.0, 2.0]), 0.0, 0.0);
        assert!(welch_t(&[2.0, 2.0], &[1.0, 1.0]) < f64::MIN, "no value varies, so the difference is certain");
        assert_near(welch_t(&[2.0], &[1.0, 1.0]), 0.0, 0.0);
    }
}
