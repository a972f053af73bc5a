//! The reward mix of each arm within groups: each component's share of the spread, and correlations of components.

use super::data::{MixRow, MixView};
use crate::evidence::{Curves, Evidence};
use crate::stats::mean;
use std::collections::BTreeSet;

/// The fraction of a stage's steps, at its end, over which values are averaged.
const LAST: usize = 10;

/// Returns the mixes of all arms, stage by stage. Values are means over the last tenth of training and over seeds.
pub fn mixes(evidence: &Evidence) -> Vec<MixView> {
    let mut views = Vec::new();
    for (arm, name) in evidence.arms.iter().map(|arm| &arm.name).enumerate() {
        let own: Vec<&Curves> = evidence.training.iter().filter(|curves| curves.arms.contains(name)).collect();
        let stages: BTreeSet<&str> = own.iter().map(|curves| curves.stage.as_str()).collect();
        for stage in stages {
            let seeds: Vec<&Curves> = own.iter().copied().filter(|curves| curves.stage == stage).collect();
            views.extend(mix(arm, stage, &seeds));
        }
    }
    views
}

/// Returns the mix of one stage; `None` for fewer than two components.
fn mix(arm: usize, stage: &str, seeds: &[&Curves]) -> Option<MixView> {
    let names = seeds.iter().flat_map(|curves| curves.series.keys());
    let pairs: BTreeSet<(&str, &str)> =
        names.filter_map(|name| name.strip_prefix("reward/")?.strip_suffix("_correlation")?.split_once('~')).collect();
    let components: BTreeSet<&str> = pairs.iter().flat_map(|(one, other)| [*one, *other]).collect();
    let components: Vec<&str> = components.into_iter().collect();
    let last = |metric: &str| mean(&seeds.iter().filter_map(|curves| at_the_end(curves, metric)).collect::<Vec<_>>());
    let row = |one: &&str| MixRow {
        name: (*one).to_owned(),
        share: last(&format!("reward/{one}_share")),
        correlations: components
            .iter()
            .map(|other| {
                let (first, second) = if one < other { (one, other) } else { (other, one) };
                last(&format!("reward/{first}~{second}_correlation"))
            })
            .collect(),
    };
    let rows: Vec<MixRow> = components.iter().map(row).collect();
    (!rows.is_empty()).then(|| MixView { arm, stage: stage.to_owned(), rows })
}

fn at_the_end(curves: &Curves, metric: &str) -> Option<f64> {
    let points = curves.series.get(metric)?;
    let count = points.len().div_ceil(LAST);
    mean(&points[points.len() - count..].iter().map(|(_, value)| *value).collect::<Vec<_>>())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::evidence::Arm;
    use crate::stage::StageKind;

    /// The name, share and correlations of a component.
    type Row<'a> = (&'a str, Option<f64>, &'a [Option<f64>]);

    #[test]
    fn a_mix_is_averaged_over_the_end_of_training_and_over_seeds() {
        let curves = |seed: u64, last: f64| {
            let series = |last: f64| (1..=10).map(|step| (step, if step == 10 { last } else { 9.0 })).collect();
            Curves {
                arms: vec!["both".to_owned()],
                seed,
                stage: "grpo".to_owned(),
                kind: StageKind::Grpo,
                key: crate::digest::Digest::of(&seed.to_le_bytes()),
                series: [
                    ("reward/a~b_correlation".to_owned(), series(last)),
                    ("reward/a_share".to_owned(), series(0.25)),
                    ("reward/b_share".to_owned(), series(0.75)),
                    ("reward/mean".to_owned(), series(1.0)),
                ]
                .into(),
            }
        };
        let arm = |name: &str| Arm { name: name.to_owned(), ..Arm::default() };
        let training = vec![curves(1, 0.5), curves(2, 0.75)];
        let evidence = Evidence { arms: vec![arm("sft"), arm("both")], training, ..Evidence::default() };
        let found = mixes(&evidence);
        assert_eq!(found.len(), 1, "an arm without a mix has no table");
        assert_eq!((found[0].arm, found[0].stage.as_str()), (1, "grpo"));
        let rows: Vec<Row<'_>> =
            found[0].rows.iter().map(|row| (row.name.as_str(), row.share, row.correlations.as_slice())).collect();
        let expected: [Row<'_>; 2] = [("a", Some(0.25), &[None, Some(0.625)]), ("b", Some(0.75), &[Some(0.625), None])];
        assert_eq!(rows, expected);
    }
}
