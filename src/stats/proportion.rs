//! Shares.

use super::bootstrap::Interval;

/// The standard normal's 97.5% quantile.
const Z: f64 = 1.959_963_984_540_054;

/// The 95% interval of the share that `successes` of `count` are (E. B. Wilson, 1927): within 0 and 1, and of some width
/// even for none and all. Absent for a count of 0.
///
/// # Panics
/// When there are more successes than tries.
pub fn share_interval(successes: usize, count: usize) -> Option<Interval> {
    assert!(successes <= count, "{successes} of {count}");
    if count == 0 {
        return None;
    }
    let (n, share) = (count as f64, successes as f64 / count as f64);
    let centre = (share + Z * Z / (2.0 * n)) / (1.0 + Z * Z / n);
    let width = Z / (1.0 + Z * Z / n) * (share * (1.0 - share) / n + Z * Z / (4.0 * n * n)).sqrt();
    Some(Interval { low: (centre - width).max(0.0), high: (centre + width).min(1.0) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stats::testing::{assert_near, golden};

    #[test]
    fn intervals_equal_statsmodels() {
        let golden = golden("judges.json");
        for case in golden["wilson"].as_array().unwrap() {
            let number = |key: &str| case[key].as_u64().and_then(|number| usize::try_from(number).ok()).unwrap();
            let found = share_interval(number("successes"), number("count")).unwrap();
            assert_near(found.low, case["low"].as_f64().unwrap(), 1e-9);
            assert_near(found.high, case["high"].as_f64().unwrap(), 1e-9);
        }
        assert_eq!(share_interval(0, 0), None);
    }
}
