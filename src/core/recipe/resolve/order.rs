//! The order of a recipe's stages: parents first, without cycles.

use crate::recipe::resolve::{snapshots, stage_data};
use crate::recipe::sweep::variant::Variant;
use crate::recipe::tables::recipe::DataTable;
use crate::recipe::tables::stage::StageTable;
use crate::recipe::text::diagnostic::{Problem, Problems};
use crate::recipe::text::located::KeyPath;
use crate::suggestion::did_you_mean;
use std::collections::{BTreeMap, BTreeSet};
use toml::Value;

/// A stage with the names of its parents, in the order of its `after`, and of the stages whose results it reads.
pub(in crate::recipe) struct StageOrder {
    pub(in crate::recipe) name: String,
    pub(in crate::recipe) after: Vec<String>,
    pub(in crate::recipe) sources: Vec<String>,
    pub(in crate::recipe) follows: Option<String>,
}

impl StageOrder {
    fn before(&self) -> impl Iterator<Item = &String> {
        self.after.iter().chain(&self.sources).chain(&self.follows)
    }
}

/// Returns the stages in the `after` of `stage`, each with its index there.
pub(in crate::recipe) fn after(stage: &StageTable) -> Vec<(&str, Option<usize>)> {
    let named = match stage {
        StageTable::Cpt(table) => &table.after,
        StageTable::Sft(table) => &table.after,
        StageTable::Grpo(table) => &table.after,
        StageTable::Eval(table) if !table.candidates.is_empty() => {
            return table.candidates.iter().map(|candidate| (candidate.checkpoint.as_str(), None)).collect();
        }
        StageTable::Eval(table) => &table.after,
        StageTable::Generate(table) => &table.after,
        StageTable::Command(table) => return table.after.as_ref().map_or_else(Vec::new, several),
        StageTable::Arena(table) => return several(&table.after),
    };
    named.iter().map(|name| (name.as_str(), None)).collect()
}

/// Returns the names in `after`, which is a name or a list of names.
fn several(after: &Value) -> Vec<(&str, Option<usize>)> {
    match after {
        Value::Array(names) => {
            names.iter().enumerate().filter_map(|(index, name)| Some((name.as_str()?, Some(index)))).collect()
        }
        single => single.as_str().map(|name| (name, None)).into_iter().collect(),
    }
}

/// Returns stages with every parent before its children, otherwise by name. Stages with unknown parents or on a
/// dependency cycle are reported and left out.
pub(in crate::recipe) fn parents_first(
    variant: &Variant<'_>,
    stages: &BTreeMap<String, Option<StageTable>>,
    data: &BTreeMap<String, Option<DataTable>>,
    problems: &mut Problems,
) -> Vec<StageOrder> {
    let mut waiting: Vec<StageOrder> = Vec::new();
    for (name, stage) in stages {
        let Some(stage) = stage else { continue };
        let mut after = after(stage);
        if matches!(stage, StageTable::Arena(_)) {
            // A variant without such a stage has no player from it.
            let unset = |name: &str| variant.sweep_reaches(&KeyPath::dotted("stages").key(name));
            after.retain(|(parent, _)| stages.contains_key(*parent) || !unset(parent));
        }
        let key = snapshots::key(name).key("after");
        for (position, (parent, index)) in after.iter().enumerate() {
            let at = index.map_or_else(|| key.clone(), |index| key.index(index));
            check_parent(variant, (name, stage), (parent, &at), stages, problems);
            if after[..position].iter().any(|(other, _)| other == parent) {
                let problem = Problem::at(variant.value_place(&at), format!("`{key}` names `{parent}` twice"), "again");
                problems.push(problem.help("remove one"));
            }
        }
        let after = after.into_iter().map(|(parent, _)| parent.to_owned()).collect();
        let sources = sources(variant, stage, stages, data, problems);
        let follows = snapshots::follows(name, stages);
        waiting.push(StageOrder { name: name.clone(), after, sources, follows });
    }
    let mut missing: Vec<usize> = Vec::with_capacity(waiting.len());
    let mut children: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
    for (index, stage) in waiting.iter().enumerate() {
        let parents: BTreeSet<&str> = stage.before().map(String::as_str).collect();
        let parents: Vec<&str> = parents.into_iter().filter(|parent| !is_broken(parent, stages)).collect();
        missing.push(parents.len());
        for parent in parents {
            children.entry(parent).or_default().push(index);
        }
    }
    let mut ready: BTreeSet<usize> = (0..waiting.len()).filter(|index| missing[*index] == 0).collect();
    let mut order: Vec<usize> = Vec::with_capacity(waiting.len());
    while let Some(next) = ready.pop_first() {
        order.push(next);
        for &child in children.get(waiting[next].name.as_str()).into_iter().flatten() {
            missing[child] -= 1;
            if missing[child] == 0 {
                ready.insert(child);
            }
        }
    }
    let mut waiting: Vec<Option<StageOrder>> = waiting.into_iter().map(Some).collect();
    let ordered = order.into_iter().filter_map(|index| waiting[index].take()).collect();
    let waiting: Vec<StageOrder> = waiting.into_iter().flatten().collect();
    report_circles(variant, &waiting, problems);
    ordered
}

/// Returns the stages whose results `stage` reads as data. Unknown ones are reported and left out.
fn sources(
    variant: &Variant<'_>,
    stage: &StageTable,
    stages: &BTreeMap<String, Option<StageTable>>,
    data: &BTreeMap<String, Option<DataTable>>,
    problems: &mut Problems,
) -> Vec<String> {
    let mut found = BTreeSet::new();
    if let StageTable::Eval(eval) = stage {
        found.extend(eval.candidates.iter().map(|candidate| candidate.measured.clone()));
    }
    for name in stage_data::data_sets_of(stage) {
        let Some(Some(table)) = data.get(name) else { continue };
        for (reference, key) in stage_data::references(name, table) {
            let source = reference.stage;
            if stages.contains_key(&source) {
                found.insert(source);
            } else if !variant.refused.contains(&KeyPath::dotted("stages").key(&source)) {
                let known: Vec<&str> = stages.keys().map(String::as_str).collect();
                unknown_stage(variant, &source, &key, &known, problems);
            }
        }
    }
    found.into_iter().collect()
}

fn unknown_stage(variant: &Variant<'_>, stage: &str, at: &KeyPath, known: &[&str], problems: &mut Problems) {
    let problem = Problem::at(variant.value_place(at), format!("unknown stage `{stage}`"), "no such `[stages.NAME]`");
    problems.push(problem.help(did_you_mean(stage, "stages", known)));
}

/// Whether a stage is missing or invalid. This has been reported, so its children are checked as if the stage were
/// valid.
fn is_broken(name: &str, stages: &BTreeMap<String, Option<StageTable>>) -> bool {
    !matches!(stages.get(name), Some(Some(_)))
}

fn check_parent(
    variant: &Variant<'_>,
    (name, stage): (&str, &StageTable),
    (parent, at): (&str, &KeyPath),
    stages: &BTreeMap<String, Option<StageTable>>,
    problems: &mut Problems,
) {
    let place = || variant.value_place(at);
    let is_command = matches!(stage, StageTable::Command(_));
    match stages.get(parent) {
        None if variant.refused.contains(&KeyPath::dotted("stages").key(parent)) => {}
        None => {
            let known: Vec<&str> = stages.keys().map(String::as_str).filter(|known| *known != name).collect();
            unknown_stage(variant, parent, at, &known, problems);
        }
        Some(Some(StageTable::Arena(_))) => {
            let problem = Problem::at(place(), format!("`{name}` cannot start from `{parent}`"), "an `arena` stage");
            problems.push(problem.help("an `arena` belongs to all variants and trains nothing: nothing goes after it"));
        }
        Some(Some(StageTable::Command(_))) if !is_command => {
            let problem = Problem::at(place(), format!("`{name}` cannot start from `{parent}`"), "a `command` stage");
            problems
                .push(problem.help("the output of a program is not a checkpoint that a training stage can start from"));
        }
        Some(Some(StageTable::Generate(_))) if !is_command => {
            let problem = Problem::at(place(), format!("`{name}` cannot start from `{parent}`"), "a `generate` stage");
            let help = "a `generate` stage trains nothing; name the stage whose model answers, and read the answers \
                        with `path = \"stage:NAME\"` of a data set";
            problems.push(problem.help(help));
        }
        Some(Some(StageTable::Eval(_))) if !is_command => {
            let problem = Problem::at(place(), format!("`{name}` cannot start from `{parent}`"), "an `eval` stage");
            problems.push(problem.help("an `eval` stage trains nothing; name the stage that it measures"));
        }
        _ => {}
    }
}

fn report_circles(variant: &Variant<'_>, waiting: &[StageOrder], problems: &mut Problems) {
    let mut reported: Vec<&str> = Vec::new();
    for start in waiting {
        let mut chain: Vec<&str> = Vec::new();
        let mut at = Some(start);
        while let Some(stage) = at.filter(|stage| !chain.contains(&stage.name.as_str())) {
            chain.push(&stage.name);
            // With several parents, the search follows one that also waits.
            at = waiting.iter().find(|other| stage.before().any(|name| *name == other.name));
        }
        // A stage that only depends on a cycle is not part of it.
        if at.is_none_or(|stage| stage.name != start.name) || reported.contains(&start.name.as_str()) {
            continue;
        }
        reported.extend(&chain);
        chain.push(&start.name);
        let key = KeyPath::dotted("stages").key(&start.name);
        let key = if start.after.is_empty() { key.key("data") } else { key.key("after") };
        let place = variant.value_place(&key);
        let round = chain.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(" after ");
        let problem = Problem::at(place, format!("the stages form a cycle: {round}"), "part of the cycle");
        problems.push(problem.help("remove one `after` of the cycle"));
    }
}
