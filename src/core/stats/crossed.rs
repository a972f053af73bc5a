//! Comparison of two arms on the same questions, with seeds crossed with questions.
//!
//! The model is `difference(seed, question) = mean + S(seed) + Q(question) + rest(seed, question)`. The squared
//! standard error of the mean is the variance between questions plus the additional variance of the seeds. Both come
//! from the mean squares of the two-way layout. [`UncertainMean`] takes into account how precisely each is estimated.
//! The p-value and the interval come from one distribution.

use super::bootstrap::Interval;
use super::describe::variance;
use super::uncertain::{Estimate, UncertainMean, VariancePart};

/// The scores of two arms by seed and question, as summands of their difference.
#[derive(Clone, Debug, PartialEq)]
pub struct Design {
    /// Groups of seeds that are drawn together: the differences of paired seeds, or one arm's scores and the other's
    /// negated.
    groups: Vec<Vec<Vec<f64>>>, // (G, S, Q)
}

/// The test of a difference between two arms, from its variance components.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct CrossedTest {
    /// The mean of the first arm minus the mean of the second.
    pub difference: f64,
    /// The 95% interval of the difference, which excludes 0 exactly where `p_value` is below 0.05; absent when nothing
    /// varies.
    pub interval: Option<Interval>,
    /// The two-sided p-value; absent when nothing varies.
    pub p_value: Option<f64>,
    /// The part of the squared standard error that more seeds would not lower.
    pub of_questions: f64,
    /// The variance of the difference from seed to seed, with the questions fixed; 0 with one seed.
    pub between_seeds: f64,
    /// The degrees of freedom of `between_seeds`; 0 with one seed.
    pub seeds_df: f64,
}

impl Design {
    /// Creates the design of scores `a[s][q]` and `b[s][q]` of the same seeds, which share their training so far.
    ///
    /// # Panics
    /// Panics if the arms differ in the number of seeds or questions.
    pub fn paired(a: &[Vec<f64>], b: &[Vec<f64>]) -> Self {
        assert_eq!(a.len(), b.len(), "every seed is one of both arms");
        let rows = a.iter().zip(b).map(|(a, b)| {
            assert_eq!(a.len(), b.len(), "every seed of both arms answers every question");
            a.iter().zip(b).map(|(a, b)| a - b).collect()
        });
        Self::of(vec![rows.collect()])
    }

    /// Creates the design of scores whose seeds are independent.
    ///
    /// # Panics
    /// Panics if the arms differ in the number of questions, or an arm has no seed.
    pub fn unpaired(a: &[Vec<f64>], b: &[Vec<f64>]) -> Self {
        let negated = b.iter().map(|row| row.iter().map(|value| -value).collect()).collect();
        Self::of(vec![a.to_vec(), negated])
    }

    fn of(groups: Vec<Vec<Vec<f64>>>) -> Self {
        assert!(groups.iter().all(|group| !group.is_empty()), "every arm has a seed");
        let questions = groups[0][0].len();
        assert!(groups.iter().flatten().all(|row| row.len() == questions), "every seed answers every question");
        Self { groups }
    }

    /// The number of questions.
    pub fn questions(&self) -> usize {
        self.groups[0][0].len()
    }

    /// Whether any group has more than one seed.
    pub fn has_several_seeds(&self) -> bool {
        self.groups.iter().any(|group| group.len() > 1)
    }

    /// The difference of the arms' means over their seeds, for each question.
    pub fn by_question(&self) -> Vec<f64> {
        let mean = |q: usize| {
            let of_group = |group: &Vec<Vec<f64>>| group.iter().map(|row| row[q]).sum::<f64>() / group.len() as f64;
            self.groups.iter().map(of_group).sum()
        };
        (0..self.questions()).map(mean).collect()
    }

    /// The mean of the first arm minus the mean of the second.
    pub fn difference(&self) -> f64 {
        mean(&self.by_question())
    }

    /// Tests the difference; `None` for fewer than two questions.
    ///
    /// An arm with one seed adds no variance, because one seed says nothing about the others.
    fn test(&self) -> Option<CrossedTest> {
        if self.questions() < 2 {
            return None;
        }
        let questions = self.questions() as f64;
        let by_question = self.by_question();
        let difference = mean(&by_question);
        let of_means = variance(&by_question) / questions;
        let mut parts = vec![VariancePart { of: Estimate { value: of_means, df: questions - 1.0 }, less: None }];
        let (mut of_rest, mut between_seeds, mut seeds_df) = (0.0, 0.0, 0.0);
        for group in self.groups.iter().filter(|group| group.len() > 1) {
            let seeds = group.len() as f64;
            let of_seeds = variance(&group.iter().map(|row| mean(row)).collect::<Vec<f64>>());
            let rest = residual(group) / (seeds * questions);
            let less = Estimate { value: rest, df: (seeds - 1.0) * (questions - 1.0) };
            parts.push(VariancePart { of: Estimate { value: of_seeds / seeds, df: seeds - 1.0 }, less: Some(less) });
            of_rest += rest;
            between_seeds += of_seeds;
            seeds_df += seeds - 1.0;
        }
        let found = UncertainMean::new(difference, &parts);
        let p_value = found.p_value();
        let of_questions = if p_value.is_some() { (of_means - of_rest).max(0.0) } else { 0.0 };
        let interval = found.interval();
        Some(CrossedTest { difference, interval, p_value, of_questions, between_seeds, seeds_df })
    }
}

/// Tests each of `designs`, in order; `None` for a design of fewer than two questions.
pub fn crossed_tests(designs: &[Design]) -> Vec<Option<CrossedTest>> {
    designs.iter().map(Design::test).collect()
}

/// Computes the variance that seeds and questions do not explain separately: the residual mean square of the two-way
/// layout.
fn residual(group: &[Vec<f64>]) -> f64 {
    let (seeds, questions) = (group.len(), group[0].len());
    let of_seeds: Vec<f64> = group.iter().map(|row| mean(row)).collect();
    let of_questions: Vec<f64> =
        (0..questions).map(|q| group.iter().map(|row| row[q]).sum::<f64>() / seeds as f64).collect();
    let centre = mean(&of_seeds);
    let squares: f64 = group
        .iter()
        .zip(&of_seeds)
        .flat_map(|(row, of_seed)| {
            row.iter().zip(&of_questions).map(move |(value, of_question)| value - of_seed - of_question + centre)
        })
        .map(|rest| rest * rest)
        .sum();
    squares / ((seeds - 1) * (questions - 1)) as f64
}

fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len() as f64
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stats::testing::{assert_near, golden, numbers};
    use proptest::prelude::*;
    use serde_json::Value;

    fn test(design: Design) -> Option<CrossedTest> {
        crossed_tests(&[design])[0]
    }

    fn design(case: &Value) -> Design {
        let scores = |name: &str| -> Vec<Vec<f64>> { serde_json::from_value(case[name].clone()).unwrap() };
        let make = if case["paired"].as_bool().unwrap() { Design::paired } else { Design::unpaired };
        make(&scores("a"), &scores("b"))
    }

    #[test]
    fn tests_equal_the_two_way_layout_of_statsmodels() {
        for case in golden("comparison.json")["crossed"].as_array().unwrap() {
            let number = |name: &str| case[name].as_f64().unwrap();
            let found = test(design(case)).unwrap();
            let (interval, expected) = (found.interval.unwrap(), numbers(&case["interval"]));
            assert_near(found.difference, number("difference"), 1e-12);
            assert_near(found.p_value.unwrap(), number("p_value"), 0.002);
            assert_near(interval.low, expected[0], 0.01 * (expected[1] - expected[0]));
            assert_near(interval.high, expected[1], 0.01 * (expected[1] - expected[0]));
        }
    }

    #[test]
    fn with_one_seed_it_is_the_paired_t_test() {
        let golden = &golden("stats.json")["paired"];
        let found = test(Design::paired(&[numbers(&golden["a"])], &[numbers(&golden["b"])])).unwrap();
        assert_near(found.p_value.unwrap(), golden["t_test"]["p_value"].as_f64().unwrap(), 1e-9);
        let (interval, expected) = (found.interval.unwrap(), numbers(&golden["t_test"]["interval"]));
        assert_near(interval.low, expected[0], 1e-6);
        assert_near(interval.high, expected[1], 1e-6);
        assert_eq!((found.between_seeds, found.seeds_df), (0.0, 0.0));
    }

    #[test]
    fn what_does_not_vary_has_neither_p_nor_interval() {
        let arm = |value: f64| vec![vec![value; 5]; 3];
        let same = test(Design::paired(&arm(0.5), &arm(0.5))).unwrap();
        assert_eq!((same.difference, same.interval, same.p_value), (0.0, None, None));
        let ahead = test(Design::unpaired(&arm(0.7), &arm(0.5))).unwrap();
        assert_eq!((ahead.interval, ahead.p_value), (None, None));
        assert_eq!(test(Design::paired(&[vec![1.0]], &[vec![0.0]])), None);
    }

    proptest! {
        #[test]
        fn exchanging_the_arms_turns_the_difference_round(
            scores in prop::collection::vec(prop::collection::vec(0.0..1.0, 6), 4..7), paired in any::<bool>()
        ) {
            let (a, b) = scores.split_at(scores.len() / 2);
            let b = &b[..a.len()];
            let make = if paired { Design::paired } else { Design::unpaired };
            let (one, other) = (test(make(a, b)).unwrap(), test(make(b, a)).unwrap());
            prop_assert!((one.difference + other.difference).abs() < 1e-12);
            let (one, other) = (one.interval.unwrap(), other.interval.unwrap());
            // Unpaired groups change places, so their quantiles combine in another order.
            prop_assert!((one.low + other.high).abs() < 0.02 * (one.high - one.low));
        }
    }
}
