//! The area under the ROC curve.

/// Computes the area under the ROC curve, which is U / (n m) of H. B. Mann and D. R. Whitney, 1947.
///
/// It is the probability that a value of `positive` exceeds one of `negative`, with ties counted half. 1 is perfect
/// separation and 0.5 is chance. `None` when either list is empty. Values must be finite.
pub fn auc(positive: &[f64], negative: &[f64]) -> Option<f64> {
    if positive.is_empty() || negative.is_empty() {
        return None;
    }
    let mut sorted = negative.to_vec();
    sorted.sort_unstable_by(f64::total_cmp);
    let wins = |value: &f64| {
        let below = sorted.partition_point(|other| other < value);
        let up_to = sorted.partition_point(|other| other <= value);
        (below + up_to) as f64 / 2.0
    };
    let u: f64 = positive.iter().map(wins).sum();
    Some(u / (positive.len() as f64 * negative.len() as f64))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stats::testing::assert_near;
    use proptest::prelude::*;

    /// Computes the area from every pair, as in the definition.
    fn by_pairs(positive: &[f64], negative: &[f64]) -> f64 {
        let pair = |a: f64, b: f64| if a > b { 1.0 } else { f64::from(u8::from(a >= b)) / 2.0 };
        let sum: f64 = positive.iter().flat_map(|&a| negative.iter().map(move |&b| pair(a, b))).sum();
        sum / (positive.len() * negative.len()) as f64
    }

    #[test]
    fn equals_scikit_learn() {
        // roc_auc_score([0, 0, 1, 1], [0.1, 0.4, 0.35, 0.8]), the example of its documentation
        assert_near(auc(&[0.35, 0.8], &[0.1, 0.4]).unwrap(), 0.75, 1e-15);
        // roc_auc_score([1, 1, 1, 0, 0], [1, 1, 0, 1, 0]): of 6 pairs, 2 are won and 3 are tied
        assert_near(auc(&[1.0, 1.0, 0.0], &[1.0, 0.0]).unwrap(), 3.5 / 6.0, 1e-15);
    }

    #[test]
    fn full_separation_none_and_the_wrong_way_round() {
        assert_eq!(auc(&[2.0, 3.0], &[0.0, 1.0]), Some(1.0));
        assert_eq!(auc(&[1.0, 1.0], &[1.0]), Some(0.5));
        assert_eq!(auc(&[0.0, -0.0], &[0.0]), Some(0.5));
        assert_eq!(auc(&[-1.0], &[0.0, 1.0]), Some(0.0));
        assert_eq!(auc(&[], &[1.0]), None);
        assert_eq!(auc(&[1.0], &[]), None);
    }

    proptest! {
        #[test]
        fn is_the_share_of_pairs_won(
            positive in prop::collection::vec(-4_i8..4, 1..40), negative in prop::collection::vec(-4_i8..4, 1..40)
        ) {
            let floats = |values: &[i8]| values.iter().map(|&value| f64::from(value) / 2.0).collect::<Vec<f64>>();
            let (positive, negative) = (floats(&positive), floats(&negative));
            let found = auc(&positive, &negative).unwrap();
            prop_assert!((found - by_pairs(&positive, &negative)).abs() < 1e-12);
            prop_assert!((found + auc(&negative, &positive).unwrap() - 1.0).abs() < 1e-12);
        }
    }
}
