//! pass@k: the probability that at least one of k samples is correct.

/// Computes the unbiased estimate of pass@k from `samples` samples of which `correct` are correct (arXiv:2107.03374,
/// equation 1).
///
/// The estimate is `1 - C(samples - correct, k) / C(samples, k)`. It is computed as a product of factors in [0, 1], so
/// no binomial overflows.
///
/// # Panics
/// Panics if `k` is 0 or more than `samples`, or `correct` is more than `samples`.
pub fn pass_at(samples: usize, correct: usize, k: usize) -> f64 {
    assert!((1..=samples).contains(&k), "k = {k} of {samples} samples");
    assert!(correct <= samples, "{correct} of {samples} samples are right");
    let wrong = samples - correct;
    if wrong < k {
        return 1.0; // any k samples include a correct one
    }
    // C(wrong, k) / C(samples, k) = product over i in wrong + 1 ..= samples of (i - k) / i
    let none_right: f64 = (wrong + 1..=samples).map(|i| 1.0 - k as f64 / i as f64).product();
    1.0 - none_right
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The fraction of the k-element subsets of `samples` samples, the first `correct` of them correct, that include a
    /// correct one.
    fn counted(samples: usize, correct: usize, k: usize) -> f64 {
        let subsets = (0u32..1 << samples).filter(|subset| subset.count_ones() as usize == k);
        let right = |subset: &u32| subset & ((1 << correct) - 1) != 0;
        let (count, with_right) = subsets.fold((0.0, 0.0), |(count, with_right), subset| {
            (count + 1.0, with_right + f64::from(u8::from(right(&subset))))
        });
        with_right / count
    }

    #[test]
    fn it_is_the_share_of_subsets_that_hold_a_right_sample() {
        for samples in 1..=9 {
            for correct in 0..=samples {
                for k in 1..=samples {
                    let (found, expected) = (pass_at(samples, correct, k), counted(samples, correct, k));
                    assert!(
                        (found - expected).abs() < 1e-12,
                        "n {samples}, c {correct}, k {k}: {found}, not {expected}"
                    );
                }
            }
        }
    }

    #[test]
    fn with_one_sample_it_is_whether_that_is_right_and_many_samples_do_not_overflow() {
        assert_eq!((pass_at(1, 0, 1), pass_at(1, 1, 1)), (0.0, 1.0));
        assert!((pass_at(100_000, 25_000, 1) - 0.25).abs() < 1e-9);
        assert!(pass_at(100_000, 1, 50_000) > 0.4999 && pass_at(100_000, 1, 50_000) < 0.5001);
    }
}
