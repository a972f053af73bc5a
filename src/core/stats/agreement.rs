//! Agreement of raters beyond chance.

/// Computes Cohen's kappa of two raters' categories, item by item (J. Cohen, 1960).
///
/// 1 is full agreement and 0 is the agreement expected by chance. `None` without items, or when both raters use only
/// one and the same category.
///
/// # Panics
/// Panics if the raters do not rate the same number of items.
pub fn cohen_kappa(one: &[usize], other: &[usize]) -> Option<f64> {
    assert_eq!(one.len(), other.len(), "both raters rate every item");
    if one.is_empty() {
        return None;
    }
    let items = one.len() as f64;
    let observed = one.iter().zip(other).filter(|(a, b)| a == b).count() as f64 / items;
    let (of_one, of_other) = (shares(one), shares(other));
    let by_chance = of_one.iter().zip(&of_other).map(|(a, b)| a * b).sum();
    beyond_chance(observed, by_chance)
}

/// Computes the relative frequency of each category.
fn shares(ratings: &[usize]) -> Vec<f64> {
    let mut counts = vec![0.0; ratings.iter().max().map_or(0, |most| most + 1)];
    for &category in ratings {
        counts[category] += 1.0 / ratings.len() as f64;
    }
    counts
}

/// Computes Fleiss' kappa of any number of raters (J. L. Fleiss, 1971).
///
/// `counts[i][c]` is the number of raters that put item i into category c. `None` without items, with fewer than two
/// raters, or when only one category is used.
///
/// # Panics
/// Panics if the items do not all have the same number of raters and categories.
pub fn fleiss_kappa(counts: &[Vec<u32>]) -> Option<f64> {
    let first = counts.first()?;
    let raters: u32 = first.iter().sum();
    if raters < 2 {
        return None;
    }
    let mut totals = vec![0.0; first.len()];
    let mut agreeing_pairs = 0.0;
    for item in counts {
        assert_eq!(item.len(), first.len(), "every item has the same categories");
        assert_eq!(item.iter().sum::<u32>(), raters, "every item has as many raters");
        for (total, &count) in totals.iter_mut().zip(item) {
            *total += f64::from(count);
            agreeing_pairs += f64::from(count) * (f64::from(count) - 1.0);
        }
    }
    let items = counts.len() as f64;
    let observed = agreeing_pairs / (items * f64::from(raters) * f64::from(raters - 1));
    let by_chance = totals.iter().map(|total| (total / (items * f64::from(raters))).powi(2)).sum();
    beyond_chance(observed, by_chance)
}

/// Computes Cohen's kappa for two raters and Fleiss' kappa otherwise; returns its name and value.
///
/// `items[i][r]` is the category, below `categories`, that rater r put item i into.
pub fn kappa(items: &[Vec<usize>], raters: usize, categories: usize) -> (&'static str, Option<f64>) {
    if raters == 2 {
        let of = |rater: usize| items.iter().map(|item| item[rater]).collect::<Vec<_>>();
        return ("cohen_kappa", cohen_kappa(&of(0), &of(1)));
    }
    let counts = |item: &Vec<usize>| {
        let mut counts = vec![0; categories];
        for category in item {
            counts[*category] += 1;
        }
        counts
    };
    ("fleiss_kappa", fleiss_kappa(&items.iter().map(counts).collect::<Vec<_>>()))
}

/// Computes Krippendorff's alpha of any number of raters on an interval scale (K. Krippendorff, Content Analysis, 2004,
/// ch. 11).
///
/// Alpha is 1 minus the squared differences within items over those between any two ratings. `ratings[i]` are the
/// values of item i, of any number. An item with fewer than two values is left out. `None` when nothing can be
/// compared, or all values are equal.
pub fn krippendorff_alpha(ratings: &[Vec<f64>]) -> Option<f64> {
    let paired: Vec<&Vec<f64>> = ratings.iter().filter(|item| item.len() >= 2).collect();
    let all: Vec<f64> = paired.iter().flat_map(|item| item.iter().copied()).collect();
    if all.is_empty() {
        return None;
    }
    let count = all.len() as f64;
    let within: f64 =
        paired.iter().map(|item| squared_differences(item) / (item.len() as f64 - 1.0)).sum::<f64>() / count;
    let between = squared_differences(&all) / (count * (count - 1.0));
    (between > 1e-12).then(|| 1.0 - within / between)
}

/// Computes the sum of the squared differences of all ordered pairs of `values`.
fn squared_differences(values: &[f64]) -> f64 {
    let mean = values.iter().sum::<f64>() / values.len() as f64;
    2.0 * values.len() as f64 * values.iter().map(|value| (value - mean).powi(2)).sum::<f64>()
}

fn beyond_chance(observed: f64, by_chance: f64) -> Option<f64> {
    let room = 1.0 - by_chance;
    (room > 1e-12).then(|| (observed - by_chance) / room)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stats::testing::{assert_near, golden};

    #[test]
    fn kappas_equal_statsmodels() {
        let golden = &golden("stats.json")["kappas"];
        let ratings = |name: &str| -> Vec<usize> { serde_json::from_value(golden[name].clone()).unwrap() };
        assert_near(cohen_kappa(&ratings("one"), &ratings("other")).unwrap(), golden["cohen"].as_f64().unwrap(), 1e-12);
        let counts: Vec<Vec<u32>> = serde_json::from_value(golden["counts"].clone()).unwrap();
        assert_near(fleiss_kappa(&counts).unwrap(), golden["fleiss"].as_f64().unwrap(), 1e-12);
    }

    #[test]
    fn alphas_equal_the_krippendorff_package() {
        for case in golden("judges.json")["krippendorff"].as_array().unwrap() {
            let ratings: Vec<Vec<f64>> = serde_json::from_value(case["ratings"].clone()).unwrap();
            assert_near(krippendorff_alpha(&ratings).unwrap(), case["alpha"].as_f64().unwrap(), 1e-12);
        }
        assert_eq!(krippendorff_alpha(&[vec![0.5], vec![]]), None);
        assert_eq!(krippendorff_alpha(&[vec![0.5, 0.5], vec![0.5, 0.5]]), None);
    }

    #[test]
    fn full_agreement_is_1() {
        assert_eq!(krippendorff_alpha(&[vec![0.0, 0.0], vec![1.0, 1.0]]), Some(1.0));
        assert_eq!(cohen_kappa(&[0, 1, 2, 1], &[0, 1, 2, 1]), Some(1.0));
        assert_eq!(fleiss_kappa(&[vec![3, 0], vec![0, 3]]), Some(1.0));
    }

    #[test]
    fn agreement_that_chance_alone_explains_has_no_kappa() {
        assert_eq!(cohen_kappa(&[], &[]), None);
        assert_eq!(cohen_kappa(&[1, 1], &[1, 1]), None);
        assert_eq!(fleiss_kappa(&[]), None);
        assert_eq!(fleiss_kappa(&[vec![1, 0]]), None);
        assert_eq!(fleiss_kappa(&[vec![2, 0], vec![2, 0]]), None);
    }
}
