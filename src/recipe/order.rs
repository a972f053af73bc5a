//! The order of a recipe's stages: parents first, no circles.

use super::diagnostic::{Problem, Problems, did_you_mean};
use super::located::KeyPath;
use super::stage_file::StageTable;
use super::sweep::Cell;
use std::collections::BTreeMap;

/// A stage and the one it starts from.
pub(super) struct StageOrder {
    pub(super) name: String,
    pub(super) after: Option<String>,
}

fn after(stage: &StageTable) -> Option<&str> {
    match stage {
        StageTable::Cpt(table) => table.after.as_deref(),
        StageTable::Sft(table) => table.after.as_deref(),
        StageTable::Grpo(table) => table.after.as_deref(),
        StageTable::Eval(table) => table.after.as_deref(),
    }
}

/// Stages with every parent before its children, otherwise by name; those whose parents are unknown or go round in a
/// circle are reported and left out.
pub(super) fn parents_first(
    cell: &Cell<'_>,
    stages: &BTreeMap<String, Option<StageTable>>,
    problems: &mut Problems,
) -> Vec<StageOrder> {
    let mut waiting: Vec<StageOrder> = Vec::new();
    for (name, stage) in stages {
        let Some(stage) = stage else { continue };
        let after = after(stage).map(str::to_owned);
        if let Some(parent) = &after {
            check_parent(cell, (name, parent), stages, problems);
        }
        waiting.push(StageOrder { name: name.clone(), after });
    }
    let mut ordered: Vec<StageOrder> = Vec::new();
    loop {
        let is_ready = |stage: &StageOrder| match &stage.after {
            Some(parent) => ordered.iter().any(|done| done.name == *parent) || is_broken(parent, stages),
            None => true,
        };
        let Some(next) = waiting.iter().position(is_ready) else { break };
        ordered.push(waiting.remove(next));
    }
    report_circles(cell, &waiting, problems);
    ordered
}

/// A stage that is not there, or not whole: reported already, so its children are checked as if it were done.
fn is_broken(name: &str, stages: &BTreeMap<String, Option<StageTable>>) -> bool {
    !matches!(stages.get(name), Some(Some(_)))
}

fn check_parent(
    cell: &Cell<'_>,
    (name, parent): (&str, &str),
    stages: &BTreeMap<String, Option<StageTable>>,
    problems: &mut Problems,
) {
    let place = cell.value_place(&KeyPath::dotted("stages").key(name).key("after"));
    match stages.get(parent) {
        None if cell.refused.contains(&KeyPath::dotted("stages").key(parent)) => {}
        None => {
            let known: Vec<&str> = stages.keys().map(String::as_str).filter(|known| *known != name).collect();
            let problem = Problem::at(place, format!("unknown stage `{parent}`"), "no such `[stages.NAME]`");
            problems.push(problem.help(did_you_mean(parent, "stages", &known)));
        }
        Some(Some(StageTable::Eval(_))) => {
            let problem = Problem::at(place, format!("`{name}` cannot start from `{parent}`"), "an `eval` stage");
            problems.push(problem.help("an `eval` stage trains nothing; name the stage that it measures"));
        }
        _ => {}
    }
}

fn report_circles(cell: &Cell<'_>, waiting: &[StageOrder], problems: &mut Problems) {
    let mut reported: Vec<&str> = Vec::new();
    for start in waiting {
        let mut chain: Vec<&str> = Vec::new();
        let mut at = Some(start);
        while let Some(stage) = at.filter(|stage| !chain.contains(&stage.name.as_str())) {
            chain.push(&stage.name);
            at = stage.after.as_ref().and_then(|parent| waiting.iter().find(|other| other.name == *parent));
        }
        // A stage that merely hangs on a circle is no part of it.
        if at.is_none_or(|stage| stage.name != start.name) || reported.contains(&start.name.as_str()) {
            continue;
        }
        reported.extend(&chain);
        chain.push(&start.name);
        let place = cell.value_place(&KeyPath::dotted("stages").key(&start.name).key("after"));
        let round = chain.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(" after ");
        let problem = Problem::at(place, format!("the stages go round in a circle: {round}"), "part of the circle");
        problems.push(problem.help("remove one `after` of the circle"));
    }
}
