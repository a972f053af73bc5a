//! How many more seeds or questions a difference needs to be significant.

use super::student::quantile;
use statrs::distribution::{ChiSquared, ContinuousCDF as _};

/// The share of tries in which the difference would be found, by convention.
pub const POWER: f64 = 0.8;
/// More than these are not counted.
const MOST: u64 = 1_000_000;

/// The seeds, of each arm, with which a difference as large as the observed one is found with probability [`POWER`] by a
/// two-sided test at `alpha`: the least n with
///
/// `|difference| >= sqrt(v) (t(1 - alpha / 2, df) + t(POWER, df))`, `v = of_questions + between_seeds / n`,
///
/// where t is the quantile of Student's t distribution and df those of v after Satterthwaite (1946). `of_questions` is the
/// part of the squared standard error that stays however many seeds there are, from `questions` of them; `between_seeds` is
/// the variance of the difference from seed to seed. Absent when no number of seeds will do.
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

/// The questions with which the mean of differences that vary by `variance` from question to question is found, as
/// [`seeds_needed`] finds it. Absent when no number that can be counted will do.
pub fn questions_needed(difference: f64, variance: f64, alpha: f64) -> Option<u64> {
    least(2, |questions| is_found(difference, variance / questions as f64, questions as f64 - 1.0, alpha))
}

/// Seeds of each arm and questions, in this order, with which a difference is found that seeds alone would not show: as many
/// questions as leave seeds half of the variance that may be, and the seeds that this half asks for. `of_question` is the variance
/// of the difference from question to question, all else as in [`seeds_needed`]. Absent when no numbers that can be counted will do.
pub fn both_needed(difference: f64, of_question: f64, between_seeds: f64, alpha: f64) -> Option<(u64, u64)> {
    let questions = questions_needed(difference, 2.0 * of_question, alpha)?;
    let left = of_question / questions as f64;
    let seeds = seeds_needed(difference, left, usize::try_from(questions).ok()?, between_seeds, alpha)?;
    Some((seeds, questions))
}

/// Between which values a variance lies with probability one half that is estimated as `estimate` with `df` degrees of freedom.
///
/// # Panics
/// When `df` is not positive.
pub fn likely_variance(estimate: f64, df: f64) -> (f64, f64) {
    let chi_squared = ChiSquared::new(df).expect("positive degrees of freedom");
    (estimate * df / chi_squared.inverse_cdf(0.75), estimate * df / chi_squared.inverse_cdf(0.25))
}

fn is_found(difference: f64, variance: f64, df: f64, alpha: f64) -> bool {
    // the quantiles change no more where there are that many
    let df = df.clamp(1.0, 1e6);
    difference.abs() >= variance.sqrt() * (quantile(1.0 - alpha / 2.0, df) + quantile(POWER, df))
}

/// The least number from `from` on for which `is_enough`, which holds from some number on.
fn least(from: u64, is_enough: impl Fn(u64) -> bool) -> Option<u64> {
    let mut high = from;
    while !is_enough(high) {
        high *= 2;
        if high > MOST {
            return None;
        }
    }
    let mut low = from.max(high / 2); // `high / 2` was not enough, unless `high` is where it began
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
        // 0.1 would have to be 2.8 standard errors, but the questions alone have one of 0.05
        assert_eq!(seeds_needed(0.1, 0.0025, 100, 0.01, 0.05), None);
        assert!(seeds_needed(0.2, 0.0025, 100, 0.01, 0.05).is_some());
        assert_eq!(seeds_needed(0.0, 0.0, 100, 0.01, 0.05), None);
        assert_eq!(questions_needed(0.0, 1.0, 0.05), None);
    }

    #[test]
    fn with_more_questions_seeds_do_after_all() {
        // of 30 questions, seeds alone would never do
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
