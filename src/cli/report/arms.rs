//! The differences between the arms of a report: rewards, other settings, and inputs.

use super::super::context::Context;
use super::super::error::CliError;
use crate::evidence::Evidence;
use crate::history::{CachedResults, LoggedPlan, LoggedVariant};
use crate::report::html::Arm;
use crate::workspace::Workspace;
use std::collections::{BTreeMap, BTreeSet};

/// Names of files with the first digits of their digests.
type Inputs = Vec<(String, String)>;

/// Returns the arms, and their input files with the first digits of their digests.
pub(super) fn arms(
    context: &Context,
    workspace: &Workspace,
    evidence: &Evidence,
    plans: &[LoggedPlan],
    baseline: Option<usize>,
) -> Result<(Vec<Arm>, Inputs), CliError> {
    let cached = CachedResults::load(workspace, context.project())?;
    let variants: Vec<Option<&LoggedVariant>> = evidence.arms.iter().map(|arm| variant(arm, plans)).collect();
    let reference = baseline.and_then(|place| variants[place]);
    let arm = |(place, arm): (usize, &crate::evidence::Arm)| {
        let seeds: BTreeSet<u64> = arm.trials.iter().map(|trial| trial.seed).collect();
        let differs = match (reference, variants[place]) {
            (Some(reference), Some(own)) if Some(place) != baseline => differences(&cached, reference, own),
            _ => Vec::new(),
        };
        Arm {
            name: arm.name.clone(),
            seeds: seeds.into_iter().map(|seed| seed.to_string()).collect(),
            is_baseline: Some(place) == baseline,
            trained_on: arm.trained_on.clone(),
            differs,
        }
    };
    let arms = evidence.arms.iter().enumerate().map(arm).collect();
    let mut inputs: BTreeMap<String, String> = BTreeMap::new();
    for key in variants.iter().flatten().flat_map(|variant| variant.stages.values()) {
        for (path, digest) in cached.inputs(key) {
            inputs.insert(path.display().to_string(), digest.short().to_owned());
        }
    }
    Ok((arms, inputs.into_iter().collect()))
}

/// Returns the variant of one of the arm's seeds.
fn variant<'a>(arm: &crate::evidence::Arm, plans: &'a [LoggedPlan]) -> Option<&'a LoggedVariant> {
    let label = &arm.trials.first()?.variant;
    plans.iter().flat_map(|plan| &plan.variants).find(|variant| variant.label == *label)
}

/// Returns how the stages of `own` differ from those of `reference`, except for rewards, which have their own table.
fn differences(cached: &CachedResults<'_>, reference: &LoggedVariant, own: &LoggedVariant) -> Vec<String> {
    let mut found = Vec::new();
    for (stage, key) in &own.stages {
        match reference.stages.get(stage) {
            Some(before) if before == key => {}
            Some(before) => {
                let changes = cached.changes_between(before, key).unwrap_or_default();
                let is_shown = |change: &&String| {
                    !["rewards", "seed ", "trained"].iter().any(|beginning| change.starts_with(beginning))
                };
                found.extend(changes.iter().filter(is_shown).map(|change| format!("{stage}: {change}")));
            }
            None => found.push(format!("has a stage {stage}")),
        }
    }
    let lacks = reference.stages.keys().filter(|stage| !own.stages.contains_key(*stage));
    found.extend(lacks.map(|stage| format!("has no stage {stage}")));
    found
}
