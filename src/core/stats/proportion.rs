//! Means of bounded values, such as proportions and ratings.

use super::bootstrap::Interval;
use super::describe::{mean, standard_deviation};
use super::student::quantile;
use super::studentized::studentized_mean;

/// The standard normal's 97.5% quantile.
const Z: f64 = 1.959_963_984_540_054;

/// Computes the 95% interval of the proportion `successes / count` (E. B. Wilson, 1927); `None` for a count of 0.
///
/// It lies within 0 and 1, and has a positive width even for no successes or only successes.
///
/// # Panics
/// Panics if there are more successes than trials.
pub fn share_interval(successes: usize, count: usize) -> Option<Interval> {
    assert!(successes <= count, "{successes} of {count}");
    (count > 0).then(|| wilson(successes as f64 / count as f64, count as f64))
}

/// Computes the 95% interval of the mean of `values`, one per question; `None` for fewer than two values, or when
/// nothing varies.
///
/// For values within `range`, the interval lies within it too: see [`bounded_interval`]. Where each value is an end of
/// the range, as with 1 for right and 0 for wrong, it is Wilson's interval of the proportion. Without a range, it is a
/// bootstrap-t interval of `resamples` draws with `seed`.
pub fn mean_interval(values: &[f64], range: Option<(f64, f64)>, resamples: u32, seed: u64) -> Option<Interval> {
    let Some((least, most)) = range else { return studentized_mean(values, resamples, seed) };
    if values.len() < 2 {
        return None;
    }
    let is = |value: f64, end: f64| value.total_cmp(&end).is_eq();
    if values.iter().all(|&value| is(value, least) || is(value, most)) {
        let share = share_interval(values.iter().filter(|value| is(**value, most)).count(), values.len())?;
        return Some(stretched(share, (least, most)));
    }
    let count = values.len() as f64;
    let half = standard_deviation(values) / count.sqrt() * quantile(0.975, count - 1.0);
    bounded_interval(mean(values)?, half, (least, most), values.len())
}

/// Computes the 95% interval of a mean of `count` values within `range`, given the half width `half`, which may exceed
/// the range.
///
/// It is Wilson's interval of the proportion whose own standard error would give that half width (E. Korn and B.
/// Graubard, 1998, do so for surveys). It stays within the range. `None` when nothing varies, except at an end of the
/// range: there, `count` equal values still bound the mean.
pub fn bounded_interval(mean: f64, half: f64, range: (f64, f64), count: usize) -> Option<Interval> {
    let (least, most) = range;
    let width = most - least;
    let share = ((mean - least) / width).clamp(0.0, 1.0);
    // a smaller distance from an end is a rounding error of equal values
    let is_end = !(1e-12..=1.0 - 1e-12).contains(&share);
    if is_end {
        return (count > 0).then(|| stretched(wilson(share.round(), count as f64), range));
    }
    if half <= 1e-12 * width {
        return None;
    }
    Some(stretched(wilson(share, share * (1.0 - share) * (Z * width / half).powi(2)), range))
}

fn stretched(share: Interval, (least, most): (f64, f64)) -> Interval {
    let at = |share: f64| (least + share * (most - least)).clamp(least, most);
    Interval { low: at(share.low), high: at(share.high) }
}

/// Computes Wilson's interval of the proportion `share` of `count`, which need not be an integer.
fn wilson(share: f64, count: f64) -> Interval {
    let centre = (share + Z * Z / (2.0 * count)) / (1.0 + Z * Z / count);
    let width = Z / (1.0 + Z * Z / count) * (share * (1.0 - share) / count + Z * Z / (4.0 * count * count)).sqrt();
    // at the ends, the sums have rounding errors
    let low = if share > 0.0 { (centre - width).max(0.0) } else { 0.0 };
    let high = if share < 1.0 { (centre + width).min(1.0) } else { 1.0 };
    Interval { low, high }
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

    #[test]
    fn right_and_wrong_answers_have_wilsons_interval() {
        let none = mean_interval(&[0.0; 8], Some((0.0, 1.0)), 100, 1).unwrap();
        assert_near(none.low, 0.0, 0.0);
        assert_near(none.high, 0.324_4, 1e-4);
        let all = mean_interval(&[1.0; 60], Some((0.0, 1.0)), 100, 1).unwrap();
        assert_near(all.low, 0.939_8, 1e-4);
        assert_near(all.high, 1.0, 0.0);
    }

    #[test]
    fn no_interval_leaves_the_range() {
        let values: Vec<f64> = (0..12).map(|i| if i == 0 { 0.2 } else { 0.99 }).collect();
        let found = mean_interval(&values, Some((0.0, 1.0)), 100, 1).unwrap();
        assert!(found.high < 1.0 && found.low > 0.5, "{found:?}");
        let wide = bounded_interval(0.9, 0.4, (-1.0, 1.0), 10).unwrap();
        assert!(wide.low > -1.0 && wide.low < 0.6 && wide.high <= 1.0, "{wide:?}");
    }

    #[test]
    fn in_the_middle_it_is_the_half_width_and_little_less() {
        let found = bounded_interval(0.5, 0.02, (0.0, 1.0), 100).unwrap();
        assert_near(found.low, 0.48, 1e-4);
        assert_near(found.high, 0.52, 1e-4);
    }

    #[test]
    fn equal_values_within_the_range_have_none() {
        assert_eq!(mean_interval(&[0.4; 9], Some((0.0, 1.0)), 100, 1), None);
        assert_eq!(bounded_interval(0.4, 0.0, (0.0, 1.0), 9), None);
    }
}
