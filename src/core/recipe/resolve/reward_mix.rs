//! Resolves `[stages.NAME.rewards.NAME]`: scopes are parsed and files digested.

use crate::digest::Digest;
use crate::recipe::resolve::component_table::ComponentTable;
use crate::recipe::resolve::data_sets::TemplateNeed;
use crate::recipe::resolve::files::Files;
use crate::recipe::spec::{RewardSpec, Scope};
use crate::recipe::text::diagnostic::Problem;
use crate::recipe::text::located::KeyPath;
use crate::rewards::{CommonTable, Component, NoScope, RewardTable, TAG_RULE, gate_cycle};
use crate::suggestion::did_you_mean;
use std::collections::BTreeMap;
use std::path::PathBuf;

/// Returns the templates that the components at `key` need from the stage's data set.
pub(in crate::recipe) fn needs(key: &KeyPath, rewards: &BTreeMap<String, RewardTable>) -> Vec<TemplateNeed> {
    let need = |(name, reward): (&String, &RewardTable)| {
        let template = reward.own.needed()?;
        Some(TemplateNeed { template, by: format!("the reward `{name}`"), at: key.key(name) })
    };
    rewards.iter().filter_map(need).collect()
}

/// Returns the mix at `key`, for groups of this many completions, or `None` if a component cannot be resolved.
pub(in crate::recipe) fn resolve(
    files: &mut Files<'_>,
    key: &KeyPath,
    rewards: &BTreeMap<String, RewardTable>,
    found: &mut BTreeMap<Digest, PathBuf>,
) -> Option<BTreeMap<String, RewardSpec>> {
    let resolved: BTreeMap<String, RewardSpec> = rewards
        .iter()
        .filter_map(|(name, reward)| {
            let key = key.key(name);
            let CommonTable { weight, start_step, clip, exponent, scale, shuffle_references, on_error, .. } =
                reward.common;
            let scope = scope(files, &key.key("scope"), &reward.common.scope);
            let fits = clip_and_scale_fit(files, &key, clip, scale);
            let component = reward.own.resolve(&mut ComponentTable { files, key: &key, found });
            let clip = clip.map(|[low, high]| (low, high));
            let (scope, component) = (scope?, component?);
            let fits = can_be_shuffled(files, &key, shuffle_references, &component) && fits;
            let spec = RewardSpec {
                weight: weight.last(),
                ramp: weight.ramp(),
                start_step: start_step.unwrap_or(1),
                scope,
                clip,
                exponent,
                scale,
                requires: reward.common.requires.iter().cloned().collect(),
                shuffle_references,
                on_error,
                component,
            };
            let fits = scope_fits(files, &key, &spec) && fits;
            fits.then_some((name.clone(), spec))
        })
        .collect();
    let gates = gates_fit(files, key, rewards);
    (gates && resolved.len() == rewards.len()).then_some(resolved)
}

/// Whether the component can read a part of the completion, if `spec` has one. A problem is reported.
fn scope_fits(files: &mut Files<'_>, key: &KeyPath, spec: &RewardSpec) -> bool {
    if spec.scope == Scope::Completion || !spec.component.measure().reads_the_policy() {
        return true;
    }
    let key = key.key("scope");
    let message = format!("`{key}` is a part of the completion, but `{}` measures all of it", spec.component.kind());
    let problem = Problem::at(files.variant.value_place(&key), message, "a part");
    files.problems.push(problem.help("the tokens of the whole completion are measured: leave it out"));
    false
}

/// Checks that the components at `key` fit groups of this many completions.
pub(in crate::recipe) fn check_group(
    files: &mut Files<'_>,
    key: &KeyPath,
    rewards: &BTreeMap<String, RewardTable>,
    group_size: usize,
    found: &mut BTreeMap<Digest, PathBuf>,
) {
    for (name, reward) in rewards {
        reward.own.check_group(group_size, &mut ComponentTable { files, key: &key.key(name), found });
    }
}

/// Reports weights that change over steps, which an evaluation does not have.
pub(in crate::recipe) fn check_no_schedules(
    files: &mut Files<'_>,
    key: &KeyPath,
    rewards: &BTreeMap<String, RewardTable>,
) {
    for (name, reward) in rewards {
        let has_ramp = reward.common.weight.ramp().is_some();
        let key = match (has_ramp, reward.common.start_step) {
            (true, _) => key.key(name).key("weight"),
            (false, Some(_)) => key.key(name).key("start_step"),
            (false, None) => continue,
        };
        let message = format!("`{key}` has no effect: an evaluation has no steps");
        let problem = Problem::at(files.variant.value_place(&key), message, "no effect");
        files
            .problems
            .push(problem.help("an evaluation with `rewards = \"all\"` takes the weights at the end of training"));
    }
}

/// Whether the bounds leave room between them and the scale does not make every value 0. Problems are reported.
fn clip_and_scale_fit(files: &mut Files<'_>, key: &KeyPath, clip: Option<[f64; 2]>, scale: f64) -> bool {
    let before = files.problems.len();
    if let Some([low, high]) = clip.filter(|[low, high]| low >= high) {
        let key = key.key("clip");
        let message = format!("`{key}` is from {low} to {high}: no value is left but one");
        files.problems.push(
            Problem::at(files.variant.value_place(&key), message, "no range").help("the lower bound comes first"),
        );
    }
    if scale == 0.0 {
        let key = key.key("scale");
        let problem =
            Problem::at(files.variant.value_place(&key), format!("`{key}` makes every value 0"), "nothing left");
        files.problems.push(problem.help("`weight = 0` measures a component without rewarding it"));
    }
    files.problems.len() == before
}

/// Whether every required component exists and none requires itself, directly or through others. Problems are reported.
fn gates_fit(files: &mut Files<'_>, key: &KeyPath, rewards: &BTreeMap<String, RewardTable>) -> bool {
    let before = files.problems.len();
    let known: Vec<&str> = rewards.keys().map(String::as_str).collect();
    for (name, reward) in rewards {
        for (index, required) in reward.common.requires.iter().enumerate() {
            if !rewards.contains_key(required) {
                let at = key.key(name).key("requires").index(index);
                let message = format!("no reward component is called `{required}`");
                let problem = Problem::at(files.variant.value_place(&at), message, "no such component");
                files.problems.push(problem.help(did_you_mean(required, "components", &known)));
            }
        }
    }
    let requires = rewards
        .iter()
        .map(|(name, reward)| (name.as_str(), reward.common.requires.iter().map(String::as_str).collect()))
        .collect();
    let cycle = gate_cycle(&requires);
    if let Some(first) = cycle.first() {
        let at = key.key(first).key("requires");
        let path = cycle.iter().chain([first]).map(|name| format!("`{name}`")).collect::<Vec<_>>().join(" -> ");
        let message = format!("rewards require each other in a circle: {path}");
        let problem = Problem::at(files.variant.value_place(&at), message, "leads back here");
        files.problems.push(problem.help("remove one of these names: a gate needs a value that does not depend on it"));
    }
    files.problems.len() == before
}

/// Whether the component reads the row, if its references are shuffled. A problem is reported.
fn can_be_shuffled(files: &mut Files<'_>, key: &KeyPath, shuffle_references: bool, component: &Component) -> bool {
    let is_fine = !shuffle_references || component.measure().reads_the_row();
    if !is_fine {
        let (key, kind) = (key.key("shuffle_references"), component.kind());
        let message = format!("`{key}` has no effect: `{kind}` does not compare with the row");
        let problem = Problem::at(files.variant.value_place(&key), message, "nothing to shuffle");
        files.problems.push(problem.help("a component of the kind `random` is the control of any reward"));
    }
    is_fine
}

pub(in crate::recipe) fn scope(files: &mut Files<'_>, key: &KeyPath, written: &str) -> Option<Scope> {
    let problem = match Scope::read(written) {
        Ok(scope) => return Some(scope),
        Err(NoScope::Word) => {
            let place = files.variant.value_place(key);
            let problem = Problem::at(place, format!("unknown scope `{written}`"), "no such scope");
            problem.help(did_you_mean(written, "scopes", Scope::WORDS))
        }
        Err(NoScope::Tag(tag)) => {
            let place = files.variant.value_place(key);
            Problem::at(place, format!("`{tag}` is not a valid tag name"), "not a tag's name").help(TAG_RULE)
        }
    };
    files.problems.push(problem);
    None
}
