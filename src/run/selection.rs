//! `--only STAGE`: the part of a plan that leads to some stages.

use crate::plan::{Plan, PlannedStage, PlannedVariant};
use std::collections::{BTreeSet, HashMap};

/// Returns the names in `only` that no stage of `plan` has.
pub fn unknown_stages<'a>(plan: &Plan, only: &'a [String]) -> Vec<&'a str> {
    let known = stage_names(plan);
    only.iter().map(String::as_str).filter(|name| !known.contains(name)).collect()
}

/// Returns the names of all stages, as their recipes call them.
pub fn stage_names(plan: &Plan) -> BTreeSet<&str> {
    plan.variants.iter().flat_map(|variant| &variant.stages).map(|(name, _)| name.as_str()).collect()
}

/// Returns the indices of the stages that some recipe calls one of `names`.
pub fn stages_named(plan: &Plan, names: &[String]) -> BTreeSet<usize> {
    let all = plan.variants.iter().flat_map(|variant| &variant.stages);
    all.filter(|(name, _)| names.contains(name)).map(|(_, stage)| *stage).collect()
}

/// Returns the plan of the stages in `wanted` and their ancestors.
pub fn limited(plan: &Plan, wanted: &BTreeSet<usize>) -> Plan {
    let mut kept = wanted.clone();
    for stage in (0..plan.stages.len()).rev() {
        if kept.contains(&stage) {
            kept.extend(&plan.stages[stage].parents);
        }
    }
    let position = |stage: usize| kept.iter().position(|&other| other == stage);
    let stages = kept.iter().map(|&stage| {
        let mut planned = plan.stages[stage].clone();
        planned.parents = planned.parents.iter().filter_map(|&parent| position(parent)).collect();
        planned.follows = planned.follows.and_then(position);
        planned
    });
    let variants = plan.variants.iter().map(|variant| PlannedVariant {
        stages: variant.stages.iter().filter_map(|(name, stage)| Some((name.clone(), position(*stage)?))).collect(),
        ..variant.clone()
    });
    let variants = variants.filter(|variant| !variant.stages.is_empty()).collect();
    Plan { stages: stages.collect(), variants, compare: plan.compare.clone() }
}

/// Returns the stages' names, each followed by its variants unless it belongs to all.
pub fn titles(plan: &Plan) -> Vec<String> {
    let one_recipe = plan.variants.windows(2).all(|pair| pair[0].recipe == pair[1].recipe);
    let shown = |variant: &PlannedVariant| if one_recipe { variant.name.clone() } else { variant.label.clone() };
    let names: HashMap<&str, String> = plan.variants.iter().map(|v| (v.label.as_str(), shown(v))).collect();
    let title = |stage: &PlannedStage| {
        if stage.variants.len() >= plan.variants.len() {
            return stage.name.clone();
        }
        let mut names: Vec<&str> =
            stage.variants.iter().filter_map(|l| Some(names.get(l.as_str())?.as_str())).collect();
        let more = names.len().saturating_sub(2);
        names.truncate(2);
        let others = if more > 0 { format!(" +{more}") } else { String::new() };
        format!("{} [{}{others}]", stage.name, names.join(" "))
    };
    plan.stages.iter().map(title).collect()
}
