//! Kendall's rank correlation.

/// Computes Kendall's tau-b of pairs, in `[-1, 1]`: 1 for the same order, -1 for the opposite one. Ties are left out of
/// the scale (M. G. Kendall, *The treatment of ties in ranking problems*, 1945). Returns `None` with fewer than two
/// pairs, or when all values of a list are equal.
///
/// # Panics
/// Panics if the lists differ in length.
pub fn kendall_tau(x: &[f64], y: &[f64]) -> Option<f64> {
    assert_eq!(x.len(), y.len(), "pairs");
    let sign = |one: f64, other: f64| f64::from(i8::from(one > other) - i8::from(one < other));
    let (mut agreeing, mut in_x, mut in_y) = (0.0, 0.0, 0.0);
    for i in 0..x.len() {
        for j in 0..i {
            let (dx, dy) = (sign(x[i], x[j]), sign(y[i], y[j]));
            agreeing += dx * dy;
            in_x += dx * dx;
            in_y += dy * dy;
        }
    }
    let scale = f64::sqrt(in_x * in_y);
    (scale > 0.0).then(|| agreeing / scale)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rank_correlations_are_those_of_scipy() {
        // scipy.stats.kendalltau([12, 2, 1, 12, 2], [1, 4, 7, 1, 0]).statistic = -0.47140452079103173
        let found = kendall_tau(&[12.0, 2.0, 1.0, 12.0, 2.0], &[1.0, 4.0, 7.0, 1.0, 0.0]).unwrap();
        assert!((found + 0.471_404_520_791_031_73).abs() < 1e-15, "{found}");
        assert_eq!(kendall_tau(&[1.0, 2.0, 3.0], &[0.1, 0.2, 0.4]), Some(1.0));
        assert_eq!(kendall_tau(&[1.0, 2.0, 3.0], &[3.0, 2.0, 0.0]), Some(-1.0));
        assert_eq!(kendall_tau(&[1.0, 1.0], &[1.0, 2.0]), None);
        assert_eq!(kendall_tau(&[1.0], &[1.0]), None);
    }
}
