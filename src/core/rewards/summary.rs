//! The metrics of a step's rewards: the total, every component, and each component's fraction of the spread.

use super::RewardScore;
use crate::stats::{mean, standard_deviation};
use std::collections::BTreeMap;

/// The standard deviation within a group below which values count as equal, so that they provide no training signal.
const FLAT: f64 = 1e-8;

/// Computes the metrics of a step by name. `scores` holds consecutive groups of `group_size`.
///
/// Missing values are left out of means and deviations, and are counted.
///
/// | metric | meaning over the step's completions |
/// | --- | --- |
/// | `reward/mean`, `reward/std` | mean and standard deviation of the total |
/// | `reward/missing` | completions without a total, if any |
/// | `reward/NAME`, `reward/NAME_std` | mean and standard deviation of the component, without its weight |
/// | `reward/NAME_missing` | completions without a value of the component, if any |
/// | `reward/NAME_zero_std_groups` | groups in which all values of the component are equal |
/// | `reward/NAME_share` | the component's fraction of the spread within groups, see [`spread_shares`] |
/// | `reward/NAME~OTHER_correlation` | the correlation of two components within groups, see [`component_correlations`] |
pub fn reward_metrics(scores: &[RewardScore], group_size: usize) -> BTreeMap<String, f64> {
    let mut metrics = BTreeMap::new();
    let names = scores.first().map(|score| score.parts.keys()).into_iter().flatten();
    for name in names {
        let values: Vec<Option<f64>> = scores.iter().map(|score| score.parts.get(name)?.value).collect();
        metrics.extend(described(&values, &format!("reward/{name}"), &format!("reward/{name}_")));
        metrics.insert(format!("reward/{name}_zero_std_groups"), flat_groups(&values, group_size) as f64);
    }
    for (name, share) in spread_shares(scores, group_size) {
        metrics.insert(format!("reward/{name}_share"), share);
    }
    for ((one, other), correlation) in component_correlations(scores, group_size) {
        metrics.insert(format!("reward/{one}~{other}_correlation"), correlation);
    }
    let totals: Vec<Option<f64>> = scores.iter().map(|score| score.total).collect();
    metrics.extend(described(&totals, "reward/mean", "reward/"));
    metrics
}

/// Returns the mean, standard deviation and missing count, named `mean_name`, `PREFIXstd` and `PREFIXmissing`.
fn described(values: &[Option<f64>], mean_name: &str, prefix: &str) -> Vec<(String, f64)> {
    let present: Vec<f64> = values.iter().copied().flatten().collect();
    let mut metrics = Vec::new();
    if let Some(mean) = mean(&present) {
        metrics.push((mean_name.to_owned(), mean));
        metrics.push((format!("{prefix}std"), standard_deviation(&present)));
    }
    if present.len() < values.len() {
        metrics.push((format!("{prefix}missing"), (values.len() - present.len()) as f64));
    }
    metrics
}

/// Returns the number of groups of `group_size` whose present values are all equal, so that their advantages are 0.
pub fn flat_groups(values: &[Option<f64>], group_size: usize) -> usize {
    let flat =
        |group: &&[Option<f64>]| standard_deviation(&group.iter().copied().flatten().collect::<Vec<f64>>()) < FLAT;
    values.chunks(group_size).filter(flat).count()
}

/// Returns each component's fraction of the spread within groups, by name.
///
/// In a group it is `|w| std / sum of |w| std`, with the standard deviations within the group. The result is the mean
/// over the groups in which any component varies. A component with a fraction near 1 dominates, whatever the weights:
/// binary correctness (std 0.5) drowns a cosine (std 0.03).
///
/// Completions without a total and held-out components (weight 0) are left out. The result is empty where no group
/// varies.
pub fn spread_shares(scores: &[RewardScore], group_size: usize) -> BTreeMap<String, f64> {
    let mut sums: BTreeMap<String, f64> = BTreeMap::new();
    let mut groups = 0;
    for group in scores.chunks(group_size) {
        let rated: Vec<&RewardScore> = group.iter().filter(|score| score.total.is_some()).collect();
        let mut spreads: BTreeMap<&str, (f64, Vec<f64>)> = BTreeMap::new();
        for (name, part) in rated.iter().flat_map(|score| &score.parts) {
            if let Some(value) = part.value.filter(|_| part.weight != 0.0) {
                spreads.entry(name).or_insert((part.weight, Vec::new())).1.push(value);
            }
        }
        let spread = |(weight, values): &(f64, Vec<f64>)| weight.abs() * standard_deviation(values);
        let whole: f64 = spreads.values().map(spread).sum();
        if whole < FLAT {
            continue;
        }
        groups += 1;
        for (name, values) in &spreads {
            *sums.entry((*name).to_owned()).or_default() += spread(values) / whole;
        }
    }
    sums.into_iter().map(|(name, sum)| (name, sum / f64::from(groups))).collect()
}

/// Returns the Pearson correlation of each pair of components within groups, by their names in alphabetical order.
///
/// Values are taken as deviations from the mean of their group, and the correlation is over all of them. A completion
/// that lacks either component is left out. A pair of which either does not vary within groups has no correlation.
/// Held-out components are included.
pub fn component_correlations(scores: &[RewardScore], group_size: usize) -> BTreeMap<(String, String), f64> {
    let names: Vec<&String> = scores.first().map(|score| score.parts.keys().collect()).unwrap_or_default();
    let value = |score: &RewardScore, name: &String| score.parts.get(name).and_then(|part| part.value);
    let mut found = BTreeMap::new();
    for (place, one) in names.iter().enumerate() {
        for other in &names[place + 1..] {
            let (mut squares, mut other_squares, mut products) = (0.0, 0.0, 0.0);
            for group in scores.chunks(group_size) {
                let pairs: Vec<(f64, f64)> =
                    group.iter().filter_map(|score| Some((value(score, one)?, value(score, other)?))).collect();
                let count = pairs.len().max(1) as f64;
                let means = pairs.iter().fold((0.0, 0.0), |(x, y), pair| (x + pair.0 / count, y + pair.1 / count));
                for (x, y) in pairs {
                    let (x, y) = (x - means.0, y - means.1);
                    (squares, other_squares, products) = (squares + x * x, other_squares + y * y, products + x * y);
                }
            }
            if squares.min(other_squares) > FLAT * FLAT {
                let correlation = products / (squares * other_squares).sqrt();
                found.insert(((*one).clone(), (*other).clone()), correlation.clamp(-1.0, 1.0));
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::ComponentScore;

    fn score(total: Option<f64>, parts: &[(&str, Option<f64>, f64)]) -> RewardScore {
        let part = |&(name, value, weight): &(&str, Option<f64>, f64)| {
            let missing = value.is_none().then(|| "no reference".to_owned());
            (name.to_owned(), ComponentScore { value, weight, missing })
        };
        RewardScore { total, parts: parts.iter().map(part).collect() }
    }

    /// Two groups of two: in the first both components differ, in the second only `format` does.
    fn scores() -> Vec<RewardScore> {
        let row = |format: f64, cosine: f64| {
            let parts = [("cosine", Some(cosine), 2.0), ("format", Some(format), 1.0), ("rouge", Some(cosine), 0.0)];
            score(Some(format + 2.0 * cosine), &parts)
        };
        vec![row(0.0, 0.25), row(1.0, 0.5), row(0.0, 0.5), row(1.0, 0.5)]
    }

    #[track_caller]
    fn assert_near(found: f64, expected: f64) {
        assert!((found - expected).abs() < 1e-12, "{found} is not {expected}");
    }

    #[test]
    fn a_share_is_the_weighted_spread_within_groups() {
        let shares = spread_shares(&scores(), 2);
        // first group: 2 x 0.25 / sqrt 2 against 1 / sqrt 2; second group: 0 against 1 / sqrt 2
        assert_near(shares["cosine"], f64::midpoint(1.0 / 3.0, 0.0));
        assert_near(shares["format"], f64::midpoint(2.0 / 3.0, 1.0));
        assert!(!shares.contains_key("rouge"), "a held-out component has no share");
        assert_near(shares.values().sum(), 1.0);
    }

    #[test]
    fn a_negative_weight_counts_by_its_size() {
        let row = |a: f64, b: f64| score(Some(a - b), &[("a", Some(a), 1.0), ("b", Some(b), -1.0)]);
        let shares = spread_shares(&[row(0.0, 3.0), row(1.0, 0.0)], 2);
        assert_near(shares["a"], 0.25);
        assert_near(shares["b"], 0.75);
    }

    #[test]
    fn groups_without_a_difference_have_no_shares() {
        let row = || score(Some(1.0), &[("format", Some(1.0), 1.0)]);
        assert!(spread_shares(&[row(), row()], 2).is_empty());
        assert!(spread_shares(&[], 2).is_empty());
    }

    #[test]
    fn what_has_no_total_takes_no_part_in_shares_but_in_its_components() {
        let mut scores = scores();
        scores.push(score(None, &[("cosine", None, 2.0), ("format", Some(1.0), 1.0), ("rouge", None, 0.0)]));
        scores.push(score(None, &[("cosine", None, 2.0), ("format", Some(0.0), 1.0), ("rouge", None, 0.0)]));
        assert_eq!(spread_shares(&scores, 2), spread_shares(&scores[..4], 2));
        let metrics = reward_metrics(&scores, 2);
        assert_near(metrics["reward/missing"], 2.0);
        assert_near(metrics["reward/cosine_missing"], 2.0);
        assert_near(metrics["reward/format"], 0.5);
        assert!(!metrics.contains_key("reward/format_missing"));
    }

    #[test]
    fn metrics_describe_the_total_and_every_component() {
        let metrics = reward_metrics(&scores(), 2);
        let expected = [
            ("reward/cosine", 0.4375),
            ("reward/cosine_share", 1.0 / 6.0),
            ("reward/cosine_std", 0.125), // 0.25 and three times 0.5: squares sum to 0.046875, over 3
            ("reward/cosine_zero_std_groups", 1.0),
            // within groups: format is -0.5, 0.5 in both, the cosine -0.125, 0.125 in the first alone
            ("reward/cosine~format_correlation", 0.125 / (0.03125_f64 * 1.0).sqrt()),
            ("reward/cosine~rouge_correlation", 1.0),
            ("reward/format", 0.5),
            ("reward/format_share", 5.0 / 6.0),
            ("reward/format_std", (1.0f64 / 3.0).sqrt()),
            ("reward/format_zero_std_groups", 0.0),
            ("reward/format~rouge_correlation", 0.125 / (0.03125_f64 * 1.0).sqrt()),
            ("reward/mean", 1.375), // totals 0.5, 2, 1, 2
            ("reward/rouge", 0.4375),
            ("reward/rouge_std", 0.125),
            ("reward/rouge_zero_std_groups", 1.0),
            ("reward/std", (1.6875f64 / 3.0).sqrt()),
        ];
        assert_eq!(metrics.keys().collect::<Vec<_>>(), expected.map(|(name, _)| name).iter().collect::<Vec<_>>());
        for (name, value) in expected {
            assert_near(metrics[name], value);
        }
    }

    #[test]
    fn a_correlation_is_within_groups_alone() {
        // both rise from group to group, and go opposite ways within each
        let row = |a: f64, b: Option<f64>| score(Some(a), &[("a", Some(a), 1.0), ("b", b, 1.0), ("c", Some(1.0), 1.0)]);
        let scores = [row(0.0, Some(1.0)), row(1.0, Some(0.0)), row(10.0, Some(11.0)), row(11.0, Some(10.0))];
        let found = component_correlations(&scores, 2);
        let pair = ("a".to_owned(), "b".to_owned());
        assert_eq!(found.keys().collect::<Vec<_>>(), [&pair], "what does not vary has no correlation");
        assert_near(found[&pair], -1.0);
        let with_gap = [scores.as_slice(), &[row(3.0, None), row(9.0, Some(2.0))]].concat();
        assert_eq!(component_correlations(&with_gap, 2), found);
        assert!(component_correlations(&[], 2).is_empty());
    }

    #[test]
    fn a_group_of_one_value_is_flat() {
        assert_eq!(flat_groups(&[Some(1.0), None, Some(1.0), Some(2.0), Some(3.0), Some(3.0)], 2), 2);
    }
}
