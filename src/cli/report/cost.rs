//! Costs of the runs, by kind of stage and by arm.

use crate::evidence::{Cost as Spent, Spending};
use crate::report::html::{Cost, CostRow};
use crate::stage::StageKind;
use std::collections::BTreeMap;

/// Returns the costs of a report. `arm_of` maps a variant's label to its arm; `arms` are all arms in order.
pub(super) fn cost(found: &Spent, arm_of: &BTreeMap<String, String>, arms: &[&str]) -> Cost {
    let mut kinds: Vec<(StageKind, usize, Spending, Spending)> = Vec::new();
    for stage in &found.stages {
        let position = kinds.iter().position(|(kind, ..)| *kind == stage.kind).unwrap_or_else(|| {
            kinds.push((stage.kind, 0, Spending::default(), Spending::default()));
            kinds.len() - 1
        });
        let (_, stages, spent, saved) = &mut kinds[position];
        *stages += 1;
        *spent += &stage.spent;
        *saved += &stage.made.times(stage.hits);
    }
    let of_arm = |arm: &&str| {
        let (mut stages, mut made) = (0, Spending::default());
        for variant in &found.variants {
            if arm_of.get(&variant.variant).is_some_and(|of| of == arm) {
                stages += variant.stages;
                made += &variant.made;
            }
        }
        row(arm, stages, &made, None)
    };
    Cost {
        kinds: kinds
            .iter()
            .map(|(kind, stages, spent, saved)| row(kind.name(), *stages, spent, saved.seconds))
            .collect(),
        arms: arms.iter().map(of_arm).collect(),
        total: row("all", found.stages.len(), &found.spent, found.saved_by_cache.seconds),
        saved_by_sharing: found.saved_by_sharing.seconds,
    }
}

fn row(name: &str, stages: usize, spent: &Spending, saved_seconds: Option<f64>) -> CostRow {
    CostRow {
        name: name.to_owned(),
        stages,
        seconds: spent.seconds,
        saved_seconds,
        trained_tokens: spent.trained_tokens.map(|tokens| tokens as f64),
        sampled_tokens: spent.sampled_tokens.map(|tokens| tokens as f64),
        energy_wh: spent.energy_j.map(|joules| joules / 3600.0),
        judge_calls: spent.judge_calls().map(|calls| calls as f64),
        money_usd: spent.cost_usd(),
    }
}
