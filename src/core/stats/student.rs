//! Student's t distribution.

use statrs::distribution::{ContinuousCDF as _, StudentsT};

/// Computes the probability of a value at least as far from 0 as `t`, with `df` degrees of freedom.
///
/// # Panics
/// Panics if `df` is not positive.
pub(super) fn two_sided_p(t: f64, df: f64) -> f64 {
    if t.is_infinite() { 0.0 } else { 2.0 * distribution(df).cdf(-t.abs()) }
}

/// Computes the `share` quantile, with `df` degrees of freedom.
///
/// # Panics
/// Panics if `df` is not positive.
pub(super) fn quantile(share: f64, df: f64) -> f64 {
    distribution(df).inverse_cdf(share)
}

fn distribution(df: f64) -> StudentsT {
    StudentsT::new(0.0, 1.0, df).expect("positive degrees of freedom")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stats::testing::{assert_near, golden};

    #[test]
    fn probabilities_and_quantiles_equal_scipy() {
        for case in golden("comparison.json")["student"].as_array().unwrap() {
            let number = |name: &str| case[name].as_f64().unwrap();
            assert_near(two_sided_p(number("t"), number("df")), number("p"), 1e-10);
            let expected = number("quantile");
            assert_near(quantile(0.975, number("df")), expected, 1e-6 * expected);
        }
        assert_near(two_sided_p(f64::INFINITY, 3.0), 0.0, 0.0);
    }
}
