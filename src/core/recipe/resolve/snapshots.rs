//! Snapshots of training stages, and the evaluations of snapshots.
//!
//! `snapshots` of a training stage, `at` of an evaluation and `after = "NAME@STEP"` add stages to a variant: `grpo@50`
//! is the training of `grpo` up to step 50, and `eval@50` the evaluation of that. They are stages like others, with
//! keys of their own. The worker of the whole training writes the results of its snapshots on the way.
//!
//! An evaluation with `at = "best"` has several parents, the snapshots, and reads how each did on development rows:
//! `eval.dev@50`. `eval@200` then measures the last step, for comparison.

use crate::recipe::resolve::order;
use crate::recipe::resolve::stages::is_training;
use crate::recipe::spec::Split;
use crate::recipe::sweep::variant::Variant;
use crate::recipe::tables::stage::{Candidate, EvalTable, StageTable};
use crate::recipe::text::diagnostic::{Problem, Problems};
use crate::recipe::text::located::KeyPath;
use crate::stage::{on_development_rows, snapshot_of, written_name};
use std::collections::{BTreeMap, BTreeSet};
use toml::Value;

/// The value of `at` that selects every snapshot.
const ALL: &str = "all";
/// The value of `at` that selects the snapshot that is best on development rows.
const BEST: &str = "best";

/// The stages of a variant by name.
type Stages = BTreeMap<String, Option<StageTable>>;

/// Returns the key of the table in which the stage `name` is described.
pub(in crate::recipe) fn key(name: &str) -> KeyPath {
    KeyPath::dotted("stages").key(written_name(name))
}

/// Returns the stage that must end before the snapshot `name` is looked for: the next later snapshot of the same stage,
/// or the stage itself. Their workers write the snapshot.
pub(in crate::recipe) fn follows(name: &str, stages: &Stages) -> Option<String> {
    let (stage, step) = snapshot_of(name)?;
    stages.get(stage)?.as_ref().filter(|table| is_training(table))?;
    let steps = stages.keys().filter_map(|other| snapshot_of(other)).filter(|(other, _)| *other == stage);
    let later = steps.map(|(_, other)| other).filter(|other| *other > step).min();
    Some(later.map_or_else(|| stage.to_owned(), |later| format!("{stage}@{later}")))
}

/// Adds the snapshots, and the evaluations of snapshots, that the stages of a variant ask for.
pub(in crate::recipe) fn expand(variant: &Variant<'_>, stages: &mut Stages, problems: &mut Problems) {
    let mut wanted: BTreeMap<String, BTreeSet<u64>> = BTreeMap::new();
    for (name, table) in stages.iter() {
        let Some(table) = table else { continue };
        let key = KeyPath::dotted("stages").key(name).key("snapshots");
        if let Some(steps) = snapshots(variant, &key, table, problems) {
            wanted.entry(name.clone()).or_default().extend(steps);
        }
    }
    let mut evaluations: Vec<(String, String, u64)> = Vec::new();
    for (name, table) in stages.iter() {
        let Some(table) = table else { continue };
        let key = KeyPath::dotted("stages").key(name);
        for (after, index) in order::after(table) {
            let at = index.map_or_else(|| key.key("after"), |index| key.key("after").index(index));
            if let Some((stage, step)) = snapshot_of(after)
                && may_have(variant, &at, (stage, step), stages, problems)
            {
                wanted.entry(stage.to_owned()).or_default().insert(step);
            }
        }
        if let StageTable::Eval(eval) = table
            && let Some(at) = &eval.at
        {
            let key = key.key("at");
            for step in evaluated(variant, &key, at, eval.after.as_deref(), (stages, &wanted), problems) {
                let stage = eval.after.clone().unwrap_or_default();
                evaluations.push((name.clone(), stage, step));
            }
        }
    }
    for (_, stage, step) in &evaluations {
        wanted.entry(stage.clone()).or_default().insert(*step);
    }
    for (stage, steps) in wanted {
        let Some(Some(table)) = stages.get(&stage).cloned() else { continue };
        for step in steps {
            stages.insert(format!("{stage}@{step}"), Some(table.clone()));
        }
    }
    let mut choices: BTreeMap<String, (String, BTreeSet<u64>)> = BTreeMap::new();
    for (name, stage, step) in evaluations {
        let Some(Some(StageTable::Eval(mut eval))) = stages.get(&name).cloned() else { continue };
        if chooses(&eval) {
            choices.entry(name).or_insert_with(|| (stage, BTreeSet::new())).1.insert(step);
            continue;
        }
        eval.after = Some(format!("{stage}@{step}"));
        stages.insert(format!("{name}@{step}"), Some(StageTable::Eval(eval)));
    }
    for (name, (stage, steps)) in choices {
        let Some(Some(StageTable::Eval(eval))) = stages.get(&name).cloned() else { continue };
        choose(&name, eval, &stage, &steps, stages);
    }
}

/// Whether an evaluation measures the best of several snapshots.
pub(in crate::recipe) fn chooses(eval: &EvalTable) -> bool {
    eval.at.as_ref().and_then(Value::as_str) == Some(BEST)
}

/// Makes the evaluation `name` choose among the snapshots of `stage` after `steps`. Adds the evaluations by which it
/// chooses, and that of the last step.
fn choose(name: &str, eval: EvalTable, stage: &str, steps: &BTreeSet<u64>, stages: &mut Stages) {
    let plain = EvalTable { at: None, best_by: None, ..eval.clone() };
    let candidate = |step: &u64| Candidate {
        step: *step,
        checkpoint: format!("{stage}@{step}"),
        measured: on_development_rows(name, *step),
    };
    let candidates: Vec<Candidate> = steps.iter().map(candidate).collect();
    for Candidate { checkpoint, measured, .. } in &candidates {
        let (after, split) = (Some(checkpoint.clone()), Some(Split::Dev));
        let on_rows = EvalTable { after, split, text: None, text_split: None, probes: false, ..plain.clone() };
        stages.insert(measured.clone(), Some(StageTable::Eval(on_rows)));
    }
    if let Some(Candidate { step, checkpoint, .. }) = candidates.last() {
        let last = EvalTable { after: Some(checkpoint.clone()), ..plain };
        stages.insert(format!("{name}@{step}"), Some(StageTable::Eval(last)));
    }
    stages.insert(name.to_owned(), Some(StageTable::Eval(EvalTable { candidates, ..eval })));
}

/// Returns the number of steps of a training stage, if its table says it.
pub(in crate::recipe) fn steps_of(table: &StageTable) -> Option<u64> {
    match table {
        StageTable::Cpt(table) => table.steps,
        StageTable::Sft(table) => table.steps,
        StageTable::Grpo(table) => Some(table.steps),
        _ => None,
    }
}

/// Returns the steps that `snapshots` of a training stage lists.
fn snapshots(variant: &Variant<'_>, key: &KeyPath, table: &StageTable, problems: &mut Problems) -> Option<Vec<u64>> {
    let written = match table {
        StageTable::Cpt(table) => table.snapshots.as_ref(),
        StageTable::Sft(table) => table.snapshots.as_ref(),
        StageTable::Grpo(table) => table.snapshots.as_ref(),
        _ => None,
    }?;
    let Some(total) = steps_of(table) else {
        let message = format!("`{key}` needs a number of steps");
        let help = "set `steps` instead of `epochs`: the number of steps of an epoch is known only to the stage";
        problems.push(Problem::at(variant.value_place(key), message, "of how many?").help(help));
        return None;
    };
    let steps: Vec<u64> = match written {
        Value::Table(every) => {
            let every = every.get("every").and_then(Value::as_integer).and_then(|every| u64::try_from(every).ok())?;
            if every >= total {
                let message = format!("`{key}.every` is {every}, but the stage has {total} steps");
                let place = variant.value_place(&key.key("every"));
                problems.push(Problem::at(place, message, "no snapshot").help("choose a smaller number of steps"));
                return None;
            }
            (1..total.div_ceil(every)).map(|count| count * every).collect()
        }
        Value::Array(items) => {
            let mut steps = Vec::new();
            for (index, item) in items.iter().enumerate() {
                let Some(step) = item.as_integer().and_then(|step| u64::try_from(step).ok()) else { continue };
                check_step(variant, &key.index(index), step, table, problems)?;
                steps.push(step);
            }
            steps
        }
        _ => return None,
    };
    for step in &steps {
        check_step(variant, key, *step, table, problems)?;
    }
    Some(steps)
}

/// Returns `None` for a step at which there is no snapshot, which is reported at `key`.
fn check_step(
    variant: &Variant<'_>,
    key: &KeyPath,
    step: u64,
    table: &StageTable,
    problems: &mut Problems,
) -> Option<()> {
    let (message, help) = match (table, steps_of(table)) {
        (_, Some(total)) if step == 0 || step > total => (
            format!("`{key}` names step {step}, but the stage has {total} steps"),
            "a snapshot is taken after a step of the stage",
        ),
        (StageTable::Grpo(grpo), Some(total))
            if step < total && !step.is_multiple_of(grpo.updates_per_rollout.max(1)) =>
        {
            (
                format!("`{key}` names step {step}, which is within a rollout of {} updates", grpo.updates_per_rollout),
                "snapshots are taken between rollouts: name a multiple of `updates_per_rollout`",
            )
        }
        _ => return Some(()),
    };
    problems.push(Problem::at(variant.value_place(key), message, "no such snapshot").help(help));
    None
}

/// Whether `stage` may have a snapshot after `step`, which `at` names. A reason why not is reported, unless the stage
/// is unknown, which is reported with the order of the stages.
fn may_have(
    variant: &Variant<'_>,
    at: &KeyPath,
    (stage, step): (&str, u64),
    stages: &Stages,
    problems: &mut Problems,
) -> bool {
    let Some(Some(table)) = stages.get(stage) else { return false };
    if !is_training(table) {
        let message = format!("`{at}` names a snapshot of `{stage}`, which trains nothing");
        let problem = Problem::at(variant.value_place(at), message, "no snapshot");
        problems.push(problem.help("`cpt`, `sft` and `grpo` stages have snapshots"));
        return false;
    }
    if steps_of(table).is_none() {
        let message = format!("`{at}` names a snapshot of `{stage}`, which has no number of steps");
        let problem = Problem::at(variant.value_place(at), message, "of how many?");
        problems.push(problem.help(format!("set `steps` instead of `epochs` in `[stages.{stage}]`")));
        return false;
    }
    check_step(variant, at, step, table, problems).is_some()
}

/// Returns the steps at which an evaluation with this `at` measures the stage `after`.
fn evaluated(
    variant: &Variant<'_>,
    key: &KeyPath,
    at: &Value,
    after: Option<&str>,
    (stages, snapshots): (&Stages, &BTreeMap<String, BTreeSet<u64>>),
    problems: &mut Problems,
) -> Vec<u64> {
    let mut refuse = |message: String, label: &str, help: &str| {
        problems.push(Problem::at(variant.value_place(key), message, label).help(help));
        Vec::new()
    };
    let training =
        after.and_then(|stage| Some((stage, stages.get(stage)?.as_ref().filter(|table| is_training(table))?)));
    let Some((stage, table)) = training else {
        let known = after.is_none_or(|stage| stages.contains_key(stage));
        let help = "name a stage that trains in `after`";
        return if known {
            refuse(format!("`{key}` has no effect without a stage whose snapshots are measured"), "no snapshots", help)
        } else {
            Vec::new() // reported with the order of the stages
        };
    };
    match at {
        Value::String(word) if word == ALL || word == BEST => {
            let steps = snapshots.get(stage).filter(|steps| !steps.is_empty());
            let (Some(steps), Some(total)) = (steps, steps_of(table)) else {
                let help = format!("set `snapshots = {{ every = 50 }}` in `[stages.{stage}]`, or list steps");
                return refuse(format!("`{key}` is `{word}`, but `{stage}` has no snapshots"), "no snapshots", &help);
            };
            steps.iter().copied().chain([total]).collect()
        }
        Value::String(word) => {
            let help = "write `all`, `best`, or a list of steps";
            refuse(format!("`{key}` cannot be `{word}`"), "no such value", help)
        }
        Value::Array(items) => {
            let mut steps = Vec::new();
            for (index, item) in items.iter().enumerate() {
                let step = item.as_integer().and_then(|step| u64::try_from(step).ok());
                if let Some(step) = step
                    && may_have(variant, &key.index(index), (stage, step), stages, problems)
                {
                    steps.push(step);
                }
            }
            steps
        }
        _ => Vec::new(),
    }
}
