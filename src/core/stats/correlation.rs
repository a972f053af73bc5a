//! Pearson's correlation.

use super::mean;

/// Computes Pearson's correlation of pairs; `None` with fewer than three pairs, or when either list does not vary.
///
/// # Panics
/// Panics if the lists differ in length.
pub fn correlation(x: &[f64], y: &[f64]) -> Option<f64> {
    assert_eq!(x.len(), y.len(), "pairs");
    if x.len() < 3 {
        return None;
    }
    let (x_mean, y_mean) = (mean(x)?, mean(y)?);
    let (mut xx, mut yy, mut xy) = (0.0, 0.0, 0.0);
    for (x, y) in x.iter().zip(y) {
        let (dx, dy) = (x - x_mean, y - y_mean);
        (xx, yy, xy) = (xx + dx * dx, yy + dy * dy, xy + dx * dy);
    }
    let scale = (xx * yy).sqrt();
    (scale > f64::EPSILON * x_mean.abs().max(y_mean.abs())).then(|| (xy / scale).clamp(-1.0, 1.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn correlations_are_those_of_numpy() {
        // numpy.corrcoef([1, 2, 3, 4, 5], [2, 1, 4, 3, 6])[0, 1] = 0.8219949365267865
        let found = correlation(&[1.0, 2.0, 3.0, 4.0, 5.0], &[2.0, 1.0, 4.0, 3.0, 6.0]).unwrap();
        assert!((found - 0.821_994_936_526_786_5).abs() < 1e-12);
        assert_eq!(correlation(&[1.0, 2.0, 3.0], &[-1.0, -2.0, -3.0]), Some(-1.0));
        assert_eq!(correlation(&[1.0, 1.0, 1.0], &[1.0, 2.0, 3.0]), None);
        assert_eq!(correlation(&[1.0, 2.0], &[1.0, 2.0]), None);
    }
}
