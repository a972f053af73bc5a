//! Differences between two past runs: stages at the same place in both, and their environments.

use super::explain::CachedResults;
use crate::digest::Digest;
use crate::history::past_runs::PastRun;
use crate::history::run_log::{LoggedPlan, LoggedVariant};
use crate::run_event::RunEventKind;
use crate::workspace::{EventLog, Workspace};
use std::collections::{BTreeMap, BTreeSet};
use std::io;

/// A stage of one variant, in two runs.
#[derive(Clone, Debug, PartialEq)]
pub struct StagePair {
    /// The stage's name in the recipe.
    pub stage: String,
    /// The variants that have it with these keys, as the second run names them. A removed stage has the first run's
    /// names.
    pub variants: Vec<String>,
    /// The stage's keys in the first and the second run; absent where the run has no such stage.
    pub keys: (Option<Digest>, Option<Digest>),
}

/// How a stage changed between two runs.
#[derive(Clone, Debug, PartialEq)]
pub enum StageChange {
    /// Only the first run has the stage.
    Lost,
    /// Only the second run has the stage.
    New,
    /// The stage's settings differ, as described. The list is empty if only its parents differ.
    Changed(Vec<String>),
    /// The `key.json` of one key is missing: it was removed, or the stage never started.
    Unknown,
}

/// Returns the stages that differ in their keys or are missing in one run, in the order of the plans.
///
/// Variants are matched by label, then by name. If each run has a single variant, the two are compared whatever their
/// names.
pub fn stage_pairs(before: &LoggedPlan, after: &LoggedPlan) -> Vec<StagePair> {
    let mut pairs: Vec<StagePair> = Vec::new();
    let mut add = |stage: &str, variant: &str, keys: (Option<&Digest>, Option<&Digest>)| {
        let keys = (keys.0.cloned(), keys.1.cloned());
        if keys.0 == keys.1 {
            return;
        }
        match pairs.iter_mut().find(|pair| pair.stage == stage && pair.keys == keys) {
            Some(pair) => pair.variants.push(variant.to_owned()),
            None => pairs.push(StagePair { stage: stage.to_owned(), variants: vec![variant.to_owned()], keys }),
        }
    };
    let mut matched: BTreeSet<&str> = BTreeSet::new();
    for variant in &after.variants {
        let other = counterpart(variant, before, after);
        matched.extend(other.map(|other| other.label.as_str()));
        for (name, key) in in_order(variant, after) {
            add(name, &variant.label, (other.and_then(|other| other.stages.get(name)), Some(key)));
        }
        for (name, key) in other.into_iter().flat_map(|other| in_order(other, before)) {
            if !variant.stages.contains_key(name) {
                add(name, &variant.label, (Some(key), None));
            }
        }
    }
    for lost in before.variants.iter().filter(|variant| !matched.contains(variant.label.as_str())) {
        for (name, key) in in_order(lost, before) {
            add(name, &lost.label, (Some(key), None));
        }
    }
    pairs
}

/// Returns the variant of `before` that `variant` of `after` is compared with.
fn counterpart<'a>(variant: &LoggedVariant, before: &'a LoggedPlan, after: &LoggedPlan) -> Option<&'a LoggedVariant> {
    let by_label = before.variants.iter().find(|other| other.label == variant.label);
    let by_name = || before.variants.iter().find(|other| other.name == variant.name);
    match (before.variants.as_slice(), after.variants.as_slice()) {
        ([only], [_]) => Some(only),
        _ => by_label.or_else(by_name),
    }
}

/// Returns the stages of `variant` by name, parents first.
fn in_order<'a>(variant: &'a LoggedVariant, plan: &LoggedPlan) -> Vec<(&'a str, &'a Digest)> {
    let place = |key: &Digest| plan.stages.iter().position(|stage| stage.key == *key);
    let mut stages: Vec<(&str, &Digest)> = variant.stages.iter().map(|(name, key)| (name.as_str(), key)).collect();
    stages.sort_by_key(|(_, key)| place(key));
    stages
}

/// Compares the two stages of `pair`.
pub fn stage_change(pair: &StagePair, cached: &CachedResults<'_>) -> StageChange {
    match &pair.keys {
        (None, _) => StageChange::New,
        (_, None) => StageChange::Lost,
        (Some(before), Some(after)) => match cached.changes_between(before, after) {
            Some(changes) => StageChange::Changed(changes),
            None => StageChange::Unknown,
        },
    }
}

/// Returns the environment and arguments of a run by category, over all its stages.
pub fn environment(past: &PastRun, workspace: &Workspace) -> io::Result<BTreeMap<&'static str, BTreeSet<String>>> {
    let mut found: BTreeMap<&'static str, BTreeSet<String>> = BTreeMap::new();
    let mut add = |what, value: String| found.entry(what).or_default().insert(value);
    for argument in &past.invocation.set {
        add("--set", argument.clone());
    }
    for pattern in &past.invocation.variants {
        add("--variant", pattern.clone());
    }
    for (name, value) in &past.invocation.env {
        add("variables", format!("{name}={value}"));
    }
    if let Some(commit) = &past.invocation.commit {
        add("commit", commit.clone());
    }
    for event in past.events()? {
        if let RunEventKind::RunStarted { version, .. } = event.kind {
            add("orchestrate", version);
        }
    }
    for stage in LoggedPlan::load(&past.log_dir)?.stages {
        // A stage that never began has no environment.
        let Ok(log) = EventLog::open(&super::events_dir(workspace, &stage.key)) else { continue };
        for start in log.starts() {
            add("host", start.host.clone());
            add("device", start.device.clone());
            add("libtorch", start.libtorch.clone());
            add("threads", start.threads.to_string());
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::super::run_log::LoggedStage;
    use super::*;
    use crate::stage::StageKind;

    /// Builds a plan of variants, each `(label, [(stage, content)])`.
    fn plan(variants: &[(&str, &[(&str, &str)])]) -> LoggedPlan {
        let key = |content: &str| Digest::of(content.as_bytes());
        let mut stages: Vec<LoggedStage> = Vec::new();
        let mut logged = Vec::new();
        for (label, own) in variants {
            let (recipe, name) = label.split_once('/').unwrap();
            for (stage, content) in *own {
                stages.push(LoggedStage {
                    stage: (*stage).into(),
                    kind: StageKind::Sft,
                    key: key(content),
                    parents: Vec::new(),
                    variants: vec![(*label).into()],
                });
            }
            logged.push(LoggedVariant {
                recipe: recipe.into(),
                name: name.into(),
                label: (*label).into(),
                stages: own.iter().map(|(stage, content)| ((*stage).into(), key(content))).collect(),
            });
        }
        LoggedPlan { stages, variants: logged, ..LoggedPlan::default() }
    }

    fn shown(pairs: &[StagePair]) -> Vec<String> {
        let mark = |key: &Option<Digest>| if key.is_some() { "+" } else { "-" };
        let show = |pair: &StagePair| {
            format!("{}{}{} {}", mark(&pair.keys.0), mark(&pair.keys.1), pair.stage, pair.variants.join(" "))
        };
        pairs.iter().map(show).collect()
    }

    #[test]
    fn stages_are_paired_by_variant_and_name_and_told_once() {
        let before =
            plan(&[("r/a", &[("sft", "1"), ("eval", "2")]), ("r/b", &[("sft", "1")]), ("r/c", &[("sft", "9")])]);
        let after =
            plan(&[("r/a", &[("sft", "3"), ("grpo", "4")]), ("r/b", &[("sft", "3")]), ("r/d", &[("sft", "3")])]);
        assert_eq!(
            shown(&stage_pairs(&before, &after)),
            ["++sft r/a r/b", "-+grpo r/a", "+-eval r/a", "-+sft r/d", "+-sft r/c"]
        );
        assert!(stage_pairs(&before, &before).is_empty());
    }

    #[test]
    fn renamed_recipes_are_compared_by_their_variants() {
        let before = plan(&[("old/a", &[("sft", "1")]), ("old/b", &[("sft", "2")])]);
        let after = plan(&[("new/a", &[("sft", "1")]), ("new/b", &[("sft", "3")])]);
        assert_eq!(shown(&stage_pairs(&before, &after)), ["++sft new/b"]);
        let single = |label: &str, content: &str| plan(&[(label, &[("sft", content)])]);
        assert_eq!(shown(&stage_pairs(&single("x/x", "1"), &single("y/y", "2"))), ["++sft y/y"]);
    }
}
