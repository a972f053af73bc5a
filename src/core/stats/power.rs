//! Power analysis: the seeds or questions that a difference needs to be significant.

use super::student::quantile;
use statrs::distribution::{ChiSquared, ContinuousCDF as _};

/// The power of the tests: the conventional probability of detecting the difference.
pub const POWER: f64 = 0.8;
/// The largest number of seeds or questions that is considered.
const MOST: u64 = 1_000_000;

/// Computes the number of seeds per arm with which a two-sided test at `alpha` detects the observed difference with
/// probability [`POWER`].
///
/// It is the least n with
///
/// `|difference| >= sqrt(v) (t(1 - alpha / 2, df) + t(POWER, df))`, `v = of_questions + between_seeds / n`,
///
/// where t is the quantile of Student's t distribution and df are those of v after Satterthwaite (1946). `of_questions`
/// is the part of the squared standard error that does not depend on the number of seeds; it is estimated from
/// `questions` questions. `between_seeds` is the variance of the difference from seed to seed. `None` when no number of
/// seeds suffices.
pub fn seeds_needed(
    difference: f64,
    of_questions: f64,
    questions: usize,
    between_seeds: f64,
    alpha: f64,
) -> Option<u64> {
    least(2, |seeds| {
        let of_seeds = between_seeds / seeds as f64;
        let variance = of_questions + of_seeds;
        let freedom = |part: f64, count: f64| if part > 0.0 { part * part / (count - 1.0).max(1.0) } else { 0.0 };
        let spread = freedom(of_questions, questions as f64) + freedom(of_seeds, seeds as f64);
        let df = if spread > 0.0 { variance * variance / spread } else { 1.0 };
        is_found(difference, variance, df, alpha)
    })
}

/// Computes the number of questions with which the mean difference is detected, by the criterion of [`seeds_needed`].
///
/// `variance` is the variance of the differences from question to question. `None` when more than a million questions
/// are needed.
pub fn questions_needed(difference: f64, variance: f64, alpha: f64) -> Option<u64> {
    least(2, |questions| is_found(difference, variance / questions as f64, questions as f64 - 1.0, alpha))
}

/// Computes the numbers of seeds per arm and of questions with which a difference is detected that more seeds alone
/// would not show.
///
/// The questions are chosen so that half of the admissible variance remains for the seeds; the seeds then follow from
/// it. `of_question` is the variance of the difference from question to question. The other arguments are those of
/// [`seeds_needed`]. `None` when either number exceeds a million.
pub fn both_needed(difference: f64, of_question: f64, between_seeds: f64, alpha: f64) -> Option<(u64, u64)> {
    let questions = questions_needed(difference, 2.0 * of_question, alpha)?;
    let left = of_question / questions as f64;
    let seeds = seeds_needed(difference, left, usize::try_from(questions).ok()?, between_seeds, alpha)?;
    Some((seeds, questions))
}

/// Computes the interval that contains a variance with probability one half, given its `estimate` with `df` degrees of
/// freedom.
///
/// # Panics
/// Panics if `df` is not positive.
pub fn likely_variance(estimate: f64, df: f64) -> (f64, f64) {
    let chi_squared = ChiSquared::new(df).expect("positive degrees of freedom");
    (estimate * df / chi_squared.inverse_cdf(0.75), estimate * df / chi_squared.inverse_cdf(0.25))
}

fn is_found(difference: f64, variance: f64, df: f64, alpha: f64) -> bool {
    // the quantiles no longer change at that many degrees of freedom
    let df = df.clamp(1.0, 1e6);
    difference.abs() >= variance.sqrt() * (quantile(1.0 - alpha / 2.0, df) + quantile(POWER, df))
}

/// Finds the least number from `from` on for which `is_enough`; `is_enough` must hold from some number on.
fn least(from: u64, is_enough: impl Fn(u64) -> bool) -> Option<u64> {
    let mut high = from;
    while !is_enough(high) {
        high *= 2;
        if high > MOST {
            return None;
        }
    }
    let mut low = from.max(high / 2); // `high / 2` was not enough, unless `high` is the start
    while low < high {
        let middle = low.midpoint(high);
        if is_enough(middle) { high = middle } else { low = middle + 1 }
    }
    Some(high)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stats::testing::golden;

    #[test]
    fn sample_sizes_are_those_of_statsmodels_to_one() {
        for case in golden("comparison.json")["power"].as_array().unwrap() {
            let (effect, alpha) = (case["effect"].as_f64().unwrap(), case["alpha"].as_f64().unwrap());
            let expected = case["n"].as_f64().unwrap().ceil();
            let seeds = seeds_needed(effect, 0.0, 100, 1.0, alpha).unwrap() as f64;
            assert!((seeds - expected).abs() <= 1.0, "{seeds} seeds, statsmodels has {expected}, effect {effect}");
            let questions = questions_needed(effect, 1.0, alpha).unwrap() as f64;
            assert!((questions - expected).abs() <= 1.0, "{questions} questions, statsmodels has {expected}");
        }
    }

    #[test]
    fn too_few_questions_are_not_mended_by_seeds() {
        // 0.1 would have to be 2.8 standard errors, but the questions alone contribute one of 0.05
        assert_eq!(seeds_needed(0.1, 0.0025, 100, 0.01, 0.05), None);
        assert!(seeds_needed(0.2, 0.0025, 100, 0.01, 0.05).is_some());
        assert_eq!(seeds_needed(0.0, 0.0, 100, 0.01, 0.05), None);
        assert_eq!(questions_needed(0.0, 1.0, 0.05), None);
    }

    #[test]
    fn with_more_questions_seeds_do_after_all() {
        // with 30 questions, no number of seeds suffices
        assert_eq!(seeds_needed(0.05, 0.25 / 30.0, 30, 0.04, 0.05), None);
        let (seeds, questions) = both_needed(0.05, 0.25, 0.04, 0.05).unwrap();
        let left = 0.25 / questions as f64;
        assert_eq!(seeds_needed(0.05, left, usize::try_from(questions).unwrap(), 0.04, 0.05), Some(seeds));
        // (1.96 + 0.84)^2 standard errors, half of their squares each
        assert!((questions as f64 / (2.0 * 0.25 * 7.85 / 0.0025) - 1.0).abs() < 0.01, "{questions} questions");
        assert!((seeds as f64 / (2.0 * 0.04 * 7.85 / 0.0025) - 1.0).abs() < 0.02, "{seeds} seeds");
        assert_eq!(both_needed(0.0, 0.25, 0.04, 0.05), None);
    }

    #[test]
    fn what_few_seeds_tell_of_their_variance_is_wide() {
        // scipy.stats.chi2.ppf([0.75, 0.25], 2) is [2.7726, 0.5754]
        let (little, much) = likely_variance(1.0, 2.0);
        assert!((little - 0.721_35).abs() < 1e-4 && (much - 3.476_06).abs() < 1e-4, "{little} {much}");
        let (little, much) = likely_variance(1.0, 1000.0);
        assert!(little > 0.96 && much < 1.04);
    }

    #[test]
    fn a_difference_that_never_varies_needs_nothing() {
        assert_eq!(seeds_needed(0.1, 0.0, 100, 0.0, 0.05), Some(2));
    }
}
