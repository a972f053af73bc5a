//! Agreement between the judges of an arena.

use super::comparison::{Better, Comparison, ComparisonVerdict};
use super::result::JudgeAgreement;
use crate::stats::{kappa, krippendorff_alpha};

/// Returns the agreement of the `judges` on the comparisons that they judged themselves; `None` with fewer than two
/// judges.
pub(super) fn agreement(comparisons: &[Comparison], judges: usize) -> Option<JudgeAgreement> {
    if judges < 2 {
        return None;
    }
    let judged: Vec<Vec<Option<[Better; 2]>>> = comparisons
        .iter()
        .map(|comparison| {
            let orders = |verdict: &ComparisonVerdict| verdict.orders().filter(|_| verdict.is_judged());
            comparison.verdicts.iter().map(orders).collect::<Vec<_>>()
        })
        .filter(|verdicts| verdicts.iter().any(Option::is_some))
        .collect();
    let whole: Vec<Vec<[Better; 2]>> =
        judged.iter().filter_map(|verdicts| verdicts.iter().copied().collect::<Option<Vec<_>>>()).collect();
    let (measure, value, items) = if whole.len() < judged.len() {
        let win = |[first, last]: [Better; 2]| f64::midpoint(first.win(), last.win());
        let ratings: Vec<Vec<f64>> =
            judged.iter().map(|verdicts| verdicts.iter().flatten().copied().map(win).collect()).collect();
        let compared = ratings.iter().filter(|values| values.len() > 1).count();
        ("krippendorff_alpha", krippendorff_alpha(&ratings), compared)
    } else {
        // a verdict in one order is one item
        let category = |better: Better| match better {
            Better::A => 0,
            Better::B => 1,
            Better::Tie => 2,
        };
        let items: Vec<Vec<usize>> = whole
            .iter()
            .flat_map(|verdicts| [0, 1].map(|order| verdicts.iter().map(|v| category(v[order])).collect()))
            .collect();
        let (measure, value) = kappa(&items, judges, 3);
        (measure, value, items.len())
    };
    Some(JudgeAgreement { measure: measure.to_owned(), value, items })
}
