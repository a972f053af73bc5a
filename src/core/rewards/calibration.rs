//! Calibration: how well a reward mix separates good texts from bad ones, measured before training.
//!
//! Every row is rated three times: with its true completion, with another row's (`shuffled`), and with an empty one. A
//! component that gives all three the same value provides no training signal.

use super::{RewardScore, spread_shares};
use crate::rewards::RewardSpec;
use crate::stats::{auc, mean, standard_deviation};
use serde::Serialize;
use std::collections::BTreeMap;

/// The number of completions per row: the true one, another row's and an empty one.
pub const PER_ROW: usize = 3;
/// The AUC of true against shuffled completions below which a component that compares with the row is warned about.
const LEAST_AUC: f64 = 0.6;
/// The fraction of the spread above which a component dominates the mix.
const MOST_SHARE: f64 = 0.9;
/// The fraction of missing values above which a component is warned about.
const MOST_MISSING: f64 = 0.1;
/// The standard deviation below which values count as equal.
const FLAT: f64 = 1e-8;

/// The calibration of a reward mix.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Calibration {
    /// The number of rated rows, with three completions each.
    pub rows: usize,
    /// The calibration of the weighted sum.
    pub total: ComponentCalibration,
    /// The calibrations of all components, by name.
    pub components: BTreeMap<String, ComponentCalibration>,
    /// Warnings to consider before training.
    pub warnings: Vec<String>,
}

/// The calibration of one component.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ComponentCalibration {
    /// The weight in the total; absent for the total itself.
    pub weight: Option<f64>,
    /// The values of the true completions.
    #[serde(rename = "true")]
    pub truth: Spread,
    /// The values of other rows' completions.
    pub shuffled: Spread,
    /// The values of empty completions.
    pub empty: Spread,
    /// The probability that a true completion is rated higher than a shuffled one, with ties counted half.
    pub auc_shuffled: Option<f64>,
    /// The probability that a true completion is rated higher than an empty one, with ties counted half.
    pub auc_empty: Option<f64>,
    /// The fraction of the spread within rows (see [`spread_shares`]); absent for held-out components and the total.
    pub share: Option<f64>,
    /// The number of missing values, out of three per row.
    pub missing: usize,
}

/// The mean and standard deviation of some values.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Spread {
    /// The mean; absent without values.
    pub mean: Option<f64>,
    /// The unbiased standard deviation.
    pub std: f64,
    /// The number of values.
    pub count: usize,
}

/// Computes the calibration of the mix `spec` from `scores`, three per row in the order true, shuffled, empty.
///
/// # Panics
/// Panics if the number of scores is not a multiple of three.
pub fn calibrate(scores: &[RewardScore], spec: &BTreeMap<String, RewardSpec>) -> Calibration {
    assert!(scores.len().is_multiple_of(PER_ROW), "each row is rated three times");
    let shares = spread_shares(scores, PER_ROW);
    let mut warnings = Vec::new();
    let mut components = BTreeMap::new();
    for (name, reward) in spec {
        let values: Vec<Option<f64>> =
            scores.iter().map(|score| score.parts.get(name).and_then(|part| part.value)).collect();
        let found = ComponentCalibration {
            weight: Some(reward.weight),
            share: (reward.weight != 0.0).then(|| shares.get(name).copied()).flatten(),
            ..described(&values)
        };
        warnings.extend(found.warnings(name, reward, spec, scores));
        components.insert(name.clone(), found);
    }
    let totals: Vec<Option<f64>> = scores.iter().map(|score| score.total).collect();
    Calibration { rows: scores.len() / PER_ROW, total: described(&totals), components, warnings }
}

fn described(values: &[Option<f64>]) -> ComponentCalibration {
    let [truth, shuffled, empty] =
        [0, 1, 2].map(|kind| values.iter().skip(kind).step_by(PER_ROW).copied().flatten().collect::<Vec<f64>>());
    let spread = |values: &[f64]| Spread { mean: mean(values), std: standard_deviation(values), count: values.len() };
    ComponentCalibration {
        weight: None,
        truth: spread(&truth),
        shuffled: spread(&shuffled),
        empty: spread(&empty),
        auc_shuffled: auc(&truth, &shuffled),
        auc_empty: auc(&truth, &empty),
        share: None,
        missing: values.iter().filter(|value| value.is_none()).count(),
    }
}

impl ComponentCalibration {
    fn warnings(
        &self,
        name: &str,
        reward: &RewardSpec,
        spec: &BTreeMap<String, RewardSpec>,
        scores: &[RewardScore],
    ) -> Vec<String> {
        let mut warnings = Vec::new();
        let values: Vec<f64> = scores.iter().filter_map(|score| score.parts.get(name)?.value).collect();
        let flat = values.first().filter(|_| standard_deviation(&values) < FLAT);
        if self.missing as f64 > MOST_MISSING * scores.len() as f64 {
            let why = most_frequent_reason(name, scores);
            warnings.push(format!(
                "`{name}` is missing for {} of {} texts, mostly because {why}",
                self.missing,
                scores.len()
            ));
        }
        if let Some(value) = flat {
            warnings.push(format!("`{name}` is {value} for every text, so it teaches nothing"));
        } else if let Some(auc) = self.auc_shuffled.filter(|auc| {
            *auc < LEAST_AUC && reward.component.measure().compares_with_the_row() && !reward.is_control()
        }) {
            warnings.push(format!(
                "`{name}` does not distinguish a row's own completion from another row's: AUC {auc:.2}, where chance \
                 is 0.5"
            ));
        }
        let others = spec.iter().filter(|(other, reward)| *other != name && reward.weight != 0.0).count();
        if let Some(share) = self.share.filter(|share| *share > MOST_SHARE && others > 0) {
            warnings.push(format!(
                "`{name}` accounts for {:.0}% of the spread within rows and dominates the other components: lower its \
                 `weight`",
                100.0 * share
            ));
        }
        warnings
    }
}

fn most_frequent_reason<'a>(name: &str, scores: &'a [RewardScore]) -> &'a str {
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    for reason in scores.iter().filter_map(|score| score.parts.get(name)?.missing.as_deref()) {
        *counts.entry(reason).or_default() += 1;
    }
    counts.into_iter().max_by_key(|(_, count)| *count).map_or("of no reason given", |(reason, _)| reason)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::digest::Digest;
    use crate::dtype::Dtype;
    use crate::event::ComponentScore;
    use crate::rewards::{Component, FormatSpec, Grading, Scope, SemanticSpec};

    fn mix(weights: [f64; 2]) -> BTreeMap<String, RewardSpec> {
        let semantic = Component::Semantic(SemanticSpec {
            encoder: Digest::of(b"e"),
            dtype: Dtype::Float32,
            baseline: None,
            prompt: None,
            references: None,
            window_sentences: None,
        });
        let format = Component::Format(FormatSpec::Tags {
            tags: vec!["think".to_owned()],
            grading: Grading::Binary,
            answers: Vec::new(),
        });
        [("format", weights[0], format), ("semantic", weights[1], semantic)]
            .map(|(name, weight, component)| (name.to_owned(), RewardSpec::plain(weight, Scope::Think, component)))
            .into()
    }

    /// Rows of (format, semantic) for the true, the shuffled and the empty completion.
    fn scores(rows: &[[(f64, Option<f64>); 3]], weights: [f64; 2]) -> Vec<RewardScore> {
        let score = |&(format, semantic): &(f64, Option<f64>)| {
            let missing = semantic.is_none().then(|| "the row has no reference".to_owned());
            RewardScore {
                total: semantic.map(|semantic| weights[0] * format + weights[1] * semantic),
                parts: BTreeMap::from([
                    ("format".to_owned(), ComponentScore { value: Some(format), weight: weights[0], missing: None }),
                    ("semantic".to_owned(), ComponentScore { value: semantic, weight: weights[1], missing }),
                ]),
            }
        };
        rows.iter().flatten().map(score).collect()
    }

    #[test]
    fn true_shuffled_and_empty_completions_are_described_apart() {
        let rows = [
            [(1.0, Some(0.8)), (1.0, Some(0.4)), (0.0, Some(0.0))],
            [(1.0, Some(0.6)), (1.0, Some(0.7)), (0.0, Some(0.0))],
        ];
        let found = calibrate(&scores(&rows, [1.0, 2.0]), &mix([1.0, 2.0]));
        let semantic = &found.components["semantic"];
        assert_eq!(found.rows, 2);
        assert!((semantic.truth.mean.unwrap() - 0.7).abs() < 1e-12);
        assert!((semantic.truth.std - 0.02_f64.sqrt()).abs() < 1e-12);
        assert_eq!((semantic.empty.mean, semantic.empty.std, semantic.empty.count), (Some(0.0), 0.0, 2));
        assert_eq!(semantic.auc_shuffled, Some(0.75), "0.8 wins twice, 0.6 once");
        assert_eq!(semantic.auc_empty, Some(1.0));
        assert_eq!(found.components["format"].auc_shuffled, Some(0.5));
        assert_eq!(found.total.auc_shuffled, Some(0.75));
        let shares: f64 = found.components.values().map(|component| component.share.unwrap()).sum();
        assert!((shares - 1.0).abs() < 1e-12);
        assert_eq!(found.warnings, [] as [&str; 0], "format is not asked to tell rows apart");
    }

    #[test]
    fn what_cannot_teach_or_drowns_the_rest_is_warned_of() {
        let same = [[(1.0, Some(0.5)), (1.0, Some(0.6)), (1.0, Some(0.0))]; 3];
        let found = calibrate(&scores(&same, [1.0, 1.0]), &mix([1.0, 1.0]));
        assert_eq!(
            found.warnings,
            [
                "`format` is 1 for every text, so it teaches nothing",
                "`semantic` does not distinguish a row's own completion from another row's: AUC 0.00, where chance is 0.5",
                "`semantic` accounts for 100% of the spread within rows and dominates the other components: lower its `weight`",
            ]
        );
    }

    #[test]
    fn missing_values_are_counted_and_warned_of_with_the_reason() {
        let mut rows = [[(1.0, Some(0.9)), (1.0, Some(0.2)), (0.0, Some(0.0))]; 4];
        rows[1] = [(1.0, None), (1.0, None), (0.0, None)];
        let found = calibrate(&scores(&rows, [1.0, 1.0]), &mix([1.0, 1.0]));
        assert_eq!(found.components["semantic"].missing, 3);
        assert_eq!(found.components["semantic"].truth.count, 3);
        assert_eq!(found.total.missing, 3);
        assert_eq!(
            found.warnings,
            ["`semantic` is missing for 3 of 12 texts, mostly because the row has no reference"]
        );
        let held_out = calibrate(&scores(&rows, [1.0, 0.0]), &mix([1.0, 0.0]));
        assert_eq!(held_out.components["semantic"].share, None);
    }

    #[test]
    fn without_rows_nothing_is_claimed() {
        let found = calibrate(&[], &mix([1.0, 1.0]));
        assert_eq!((found.rows, found.total.auc_shuffled, found.warnings.len()), (0, None, 0));
    }
}
