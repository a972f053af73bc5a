//! The stages of runs as a graph. Stages that differ only in their seed are one node.

use super::super::run_rows::StageRow;
use crate::digest::Digest;
use crate::history::LoggedPlan;
use crate::report::chart::{GraphNode, NodeStatus};
use crate::stage::StageStatus;
use std::collections::{BTreeMap, BTreeSet};

/// Returns the nodes, parents first. `rows` are the stages of the runs, oldest run first. `arm_of` maps a variant's
/// label to its arm. `arms` is the number of arms.
pub(super) fn nodes(
    plans: &[LoggedPlan],
    rows: &[StageRow],
    arm_of: &BTreeMap<String, String>,
    arms: usize,
) -> Vec<GraphNode> {
    let statuses = statuses(rows);
    let mut groups: Vec<Group> = Vec::new();
    let mut group_of: BTreeMap<&Digest, usize> = BTreeMap::new();
    for stage in plans.iter().flat_map(|plan| &plan.stages) {
        let of = stage.variants.iter().map(|label| arm_of.get(label).unwrap_or(label).clone());
        let of: BTreeSet<String> = of.collect();
        let position = *group_of.entry(&stage.key).or_insert_with(|| {
            let same = groups.iter().position(|group| group.name == stage.stage && group.arms == of);
            same.unwrap_or_else(|| {
                groups.push(Group { name: stage.stage.clone(), arms: of, ..Group::default() });
                groups.len() - 1
            })
        });
        groups[position].keys.insert(stage.key.clone());
        let parents = stage.parents.iter().filter_map(|parent| group_of.get(parent).copied());
        let parents: BTreeSet<usize> = parents.filter(|&parent| parent != position).collect();
        groups[position].parents.extend(parents);
    }
    let order = parents_first(&groups);
    let node = |&place: &usize| {
        let group = &groups[place];
        let of_keys: Vec<StageStatus> =
            group.keys.iter().map(|key| statuses.get(key).copied().unwrap_or(StageStatus::NotRun)).collect();
        let parents = group.parents.iter().filter_map(|parent| order.iter().position(|other| other == parent));
        let here = order.iter().position(|other| *other == place).unwrap_or(0);
        GraphNode {
            name: group.name.clone(),
            note: format!("{} · {}", whose(&group.arms, arms), ended(&of_keys)),
            status: status(&of_keys),
            parents: parents.filter(|&parent| parent < here).collect(),
        }
    };
    order.iter().map(node).collect()
}

#[derive(Default)]
struct Group {
    name: String,
    arms: BTreeSet<String>,
    keys: BTreeSet<Digest>,
    parents: BTreeSet<usize>,
}

/// Returns the status of each key over all runs. A key that one run computed counts as computed, even if it was cached
/// later.
fn statuses(rows: &[StageRow]) -> BTreeMap<&Digest, StageStatus> {
    let mut found: BTreeMap<&Digest, StageStatus> = BTreeMap::new();
    for row in rows {
        let known = found.entry(&row.key).or_insert(row.status);
        if *known != StageStatus::Ok && row.status != StageStatus::NotRun {
            *known = row.status;
        }
    }
    found
}

/// Sorts `groups` so that each comes after its parents. Runs of different recipes may form a cycle, which is broken at
/// the first group.
fn parents_first(groups: &[Group]) -> Vec<usize> {
    let mut order: Vec<usize> = Vec::new();
    while order.len() < groups.len() {
        let open = || (0..groups.len()).filter(|place| !order.contains(place));
        let ready = open().find(|&place| groups[place].parents.iter().all(|parent| order.contains(parent)));
        let Some(next) = ready.or_else(|| open().next()) else { break };
        order.push(next);
    }
    order
}

fn whose(of: &BTreeSet<String>, arms: usize) -> String {
    match of.iter().collect::<Vec<_>>().as_slice() {
        all if all.len() == arms && arms > 1 => "all arms".to_owned(),
        [one] => (*one).clone(),
        [one, other] => format!("{one}, {other}"),
        several => format!("{} arms", several.len()),
    }
}

/// Formats the outcome: `2 cached, 1 ran`.
fn ended(statuses: &[StageStatus]) -> String {
    let count = |wanted: StageStatus| statuses.iter().filter(|status| **status == wanted).count();
    let (cached, ran, failed) = (count(StageStatus::Cached), count(StageStatus::Ok), count(StageStatus::Failed));
    let rest = statuses.len() - cached - ran - failed;
    let parts = [(cached, "cached"), (ran, "ran"), (failed, "failed"), (rest, "not ended")];
    let phrases: Vec<String> = parts.iter().filter(|(n, _)| *n > 0).map(|(n, word)| format!("{n} {word}")).collect();
    phrases.join(", ")
}

fn status(statuses: &[StageStatus]) -> NodeStatus {
    if statuses.contains(&StageStatus::Failed) {
        NodeStatus::Failed
    } else if !statuses.iter().all(|status| status.has_result()) {
        NodeStatus::Open
    } else if statuses.contains(&StageStatus::Ok) {
        NodeStatus::Ran
    } else {
        NodeStatus::Cached
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::history::LoggedStage;
    use crate::stage::StageKind;
    use StageStatus::{Cached, Failed, Ok, Skipped};

    fn stage(name: &str, content: &str, parents: &[&str], variants: &[&str]) -> LoggedStage {
        LoggedStage {
            stage: name.into(),
            kind: StageKind::Sft,
            key: Digest::of(content.as_bytes()),
            parents: parents.iter().map(|parent| Digest::of(parent.as_bytes())).collect(),
            variants: variants.iter().map(|label| (*label).to_owned()).collect(),
        }
    }

    fn row(content: &str, status: StageStatus) -> StageRow {
        StageRow {
            run: String::new(),
            recipe: String::new(),
            variant: String::new(),
            stage: String::new(),
            kind: StageKind::Sft,
            key: Digest::of(content.as_bytes()),
            status,
            started_at: None,
            seconds: None,
            metrics: BTreeMap::new(),
            message: None,
            tries: 0,
            memory: None,
        }
    }

    #[test]
    fn seeds_are_one_node_and_say_how_they_ended() {
        let plan = LoggedPlan {
            stages: vec![
                stage("sft", "s1", &[], &["r/a,seed=1", "r/b,seed=1"]),
                stage("sft", "s2", &[], &["r/a,seed=2", "r/b,seed=2"]),
                stage("eval", "a1", &["s1"], &["r/a,seed=1"]),
                stage("eval", "a2", &["s2"], &["r/a,seed=2"]),
                stage("eval", "b1", &["s1"], &["r/b,seed=1"]),
            ],
            ..LoggedPlan::default()
        };
        let arm_of =
            ["a", "b"].iter().flat_map(|arm| [1, 2].map(|seed| (format!("r/{arm},seed={seed}"), (*arm).to_owned())));
        let rows = [row("s1", Cached), row("s2", Ok), row("s2", Cached), row("a1", Failed), row("b1", Skipped)];
        let found = nodes(&[plan], &rows, &arm_of.collect(), 2);
        let told: Vec<String> = found.iter().map(|n| format!("{} {} {:?}", n.name, n.note, n.parents)).collect();
        assert_eq!(
            told,
            ["sft all arms · 1 cached, 1 ran []", "eval a · 1 failed, 1 not ended [0]", "eval b · 1 not ended [0]"]
        );
        assert_eq!(found[0].status, NodeStatus::Ran);
    }

    #[test]
    fn runs_whose_stages_stand_in_different_orders_make_no_circle() {
        let one = LoggedPlan {
            stages: vec![stage("a", "1", &[], &["r/x"]), stage("b", "2", &["1"], &["r/x"])],
            ..LoggedPlan::default()
        };
        let other = LoggedPlan {
            stages: vec![stage("b", "3", &[], &["r/x"]), stage("a", "4", &["3"], &["r/x"])],
            ..LoggedPlan::default()
        };
        let found = nodes(&[one, other], &[], &BTreeMap::new(), 1);
        assert_eq!(found.len(), 2);
        assert!(found.iter().enumerate().all(|(place, node)| node.parents.iter().all(|&parent| parent < place)));
    }
}
