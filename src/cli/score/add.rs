//! `orchestrate score RUN STAGE --add NAME`: measures one more component on the kept answers of a past run.
//!
//! The run's recipes are planned again with the component in `more_rewards` of the stage, and a new run does what is
//! missing. Its evaluations find the answers and the values of all other components in `runs/eval-answers/`.

use crate::cli::context::Context;
use crate::cli::error::{CliError, Kind};
use crate::cli::find::{find_run, past_runs};
use crate::cli::output::Output;
use crate::cli::plan::count;
use crate::cli::run::{commit, dispatched};
use crate::cli::{planning, summary};
use crate::event::Measurement;
use crate::evidence::{ComparisonRequest, Evidence, compare};
use crate::history::{Invocation, LoggedPlan, PastRun, gather_answers};
use crate::number::number;
use crate::plan::{Plan, PlannedStage};
use crate::recipe::spec::Work;
use crate::report::html::estimates;
use crate::report::{Column, Table, verdict_heading, verdict_table, width};
use crate::run::{RunRequest, titles};
use crate::stage::{RunStatus, StageKind};
use crate::workspace::{Workspace, loaded_no_model};
use serde_json::json;
use std::collections::{BTreeMap, BTreeSet};
use std::io::Write as _;
use std::path::PathBuf;

/// Adds the components that `additions` name to the evaluations `stage` of the run `wanted`, and prints their values by
/// arm.
pub(super) fn add(context: &Context, wanted: &str, stage: &str, additions: &[String]) -> Result<(), CliError> {
    let runs = past_runs(context)?;
    let past = find_run(&runs, wanted)?;
    let names: BTreeSet<String> = additions.iter().map(|text| addition(text, stage).0).collect();
    let mut sets: Vec<String> = names.iter().map(|name| format!("stages.{stage}.more_rewards.{name}={{}}")).collect();
    sets.extend(additions.iter().filter_map(|text| addition(text, stage).1));
    let request = request(context, past, stage, sets)?;
    let workspace = Workspace::open(context.runs())?;
    check_parents(&request.plan, past, stage, &workspace)?;
    let missing: Vec<&PlannedStage> =
        request.plan.stages.iter().filter(|stage| !workspace.contains(&stage.key)).collect();
    let earlier = if missing.is_empty() { with_this_plan(&runs, &request.plan)? } else { None };
    let run = if let Some(run) = earlier {
        run
    } else {
        let done = dispatched(context, &request)?;
        if done.interrupted || done.failed().next().is_some() {
            return summary::print(context, &request, &workspace, &done);
        }
        done.run
    };
    let keys: Vec<_> = missing.iter().map(|stage| &stage.key).collect();
    let answered = keys.iter().filter(|key| !loaded_no_model(&workspace.checkpoint_dir(key))).count();
    let past = PastRun::named(context.runs(), &run)?;
    let evidence = gather_answers(&workspace, &past.iter().collect::<Vec<_>>())?;
    print(context, &run, &evidence, &names)?;
    if !context.quiet {
        let (made, all) = (keys.len() - answered, count(keys.len(), "evaluation"));
        let what = match (keys.len(), answered) {
            (0, _) => "every value was measured before".to_owned(),
            (_, 0) => format!("{all} computed from kept answers; no model was loaded"),
            _ => format!("{made} of {all} computed from kept answers; the other models answered again"),
        };
        let _ = writeln!(std::io::stderr(), "\n{what}\nrun {run}: `orchestrate compare {run} --all`");
    }
    Ok(())
}

/// Returns the name of the component in an argument of `--add`, and the setting in it as an argument of `--set`.
/// Arguments are `NAME`, `NAME={ KEY = VALUE }` and `NAME.KEY=VALUE`, each possibly after `rewards.`.
fn addition(text: &str, stage: &str) -> (String, Option<String>) {
    let text = text.trim();
    let text = text.strip_prefix("rewards.").unwrap_or(text);
    let key = text.split('=').next().unwrap_or_default().trim();
    let name = key.split('.').next().unwrap_or_default().to_owned();
    let value = text.split_once('=').map(|(_, value)| value.trim());
    (name, value.map(|value| format!("stages.{stage}.more_rewards.{key}={value}")))
}

/// Plans the recipes of `past` again with the additional `sets`.
fn request(context: &Context, past: &PastRun, stage: &str, sets: Vec<String>) -> Result<RunRequest, CliError> {
    let logged = LoggedPlan::load(&past.log_dir)?;
    match logged.stages_named(stage).first() {
        Some(found) if found.kind == StageKind::Eval => {}
        Some(found) => {
            let message = format!("`{stage}` is a stage of the kind `{}`", found.kind);
            return Err(CliError::new(Kind::Usage, message).hint("components are added to stages of the kind `eval`"));
        }
        None => {
            let evals = logged.stages.iter().filter(|stage| stage.kind == StageKind::Eval);
            let names: BTreeSet<String> = evals.map(|stage| format!("`{}`", stage.stage)).collect();
            let names: Vec<String> = names.into_iter().collect();
            return Err(CliError::nothing(format!("the run {} has no stage `{stage}`", past.run))
                .hint(format!("its evaluations are {}", names.join(", "))));
        }
    }
    let invocation = &past.invocation;
    let stored: Vec<PathBuf> = invocation.recipes.iter().map(|path| past.log_dir.join("recipes").join(path)).collect();
    let mut overrides = invocation.overrides();
    overrides.set.extend(sets);
    let set = overrides.set.clone();
    let planned = planning::planned(context, &stored, &overrides, &invocation.variants)?;
    let only = vec![stage.to_owned()];
    let recipe_jobs = planned.recipes.iter().filter_map(|recipe| recipe.runtime.jobs).max();
    Ok(RunRequest {
        plan: planning::only(planned.plan, &only)?,
        invocation: Invocation {
            recipes: stored,
            sources: invocation.sources_by_copy(&past.log_dir),
            set,
            only,
            commit: commit(context.project()),
            resumes: None,
            forced: Vec::new(),
            seed_search: None,
            ..invocation.clone()
        },
        files: planned.recipes.into_iter().flat_map(|recipe| recipe.files).collect(),
        jobs: invocation.jobs.map(usize::from).or(recipe_jobs),
        fail_fast: false,
        forced: BTreeSet::new(),
    })
}

/// Fails if a stage above the evaluations would have to run: nothing is trained for a measurement.
fn check_parents(plan: &Plan, past: &PastRun, stage: &str, workspace: &Workspace) -> Result<(), CliError> {
    let logged = LoggedPlan::load(&past.log_dir)?;
    let is_measured = |planned: &PlannedStage| {
        matches!(planned.spec.work, Work::Eval(_))
            && plan.variants.iter().any(|variant| {
                variant.stages.iter().any(|(name, index)| name == stage && plan.stages[*index].key == planned.key)
            })
    };
    for (index, planned) in plan.stages.iter().enumerate() {
        if is_measured(planned) || workspace.contains(&planned.key) {
            continue;
        }
        let title = titles(plan).swap_remove(index);
        let error = CliError::nothing(format!("the result of `{title}` is not in the cache"));
        return Err(if logged.stages.iter().any(|logged| logged.key == planned.key) {
            error.hint(format!("`orchestrate resume {}` makes it; then add the component", past.run))
        } else {
            error.hint("a model or data file has changed since the run: restore the file, or run the recipe again")
        });
    }
    Ok(())
}

/// Returns the newest complete run with the stages of `plan`.
fn with_this_plan(runs: &[PastRun], plan: &Plan) -> Result<Option<String>, CliError> {
    let wanted: BTreeSet<_> = plan.stages.iter().map(|stage| &stage.key).collect();
    for past in runs.iter().filter(|past| past.status == RunStatus::Ok) {
        let logged = LoggedPlan::load(&past.log_dir)?;
        if logged.stages.iter().map(|stage| &stage.key).collect::<BTreeSet<_>>() == wanted {
            return Ok(Some(past.run.clone()));
        }
    }
    Ok(None)
}

/// Prints the values of the components `names` by arm, and their comparison with the baseline.
fn print(context: &Context, run: &str, evidence: &Evidence, names: &BTreeSet<String>) -> Result<(), CliError> {
    let metrics: Vec<String> = names.iter().map(|name| format!("eval/reward/{name}")).collect();
    let estimates = estimates(evidence);
    let found: BTreeMap<(usize, &str, &str), &Measurement> = estimates
        .iter()
        .filter(|((_, _, metric), _)| metrics.contains(metric))
        .map(|((arm, evaluation, metric), measured)| ((*arm, evaluation.as_str(), metric.as_str()), measured))
        .collect();
    let mut out = Output::stdout();
    let mut columns = vec![Column::left("arm"), Column::right("seeds")];
    columns.extend(names.iter().map(|name| Column::left(name.clone())));
    let mut table = Table::new(columns);
    for (place, arm) in evidence.arms.iter().enumerate() {
        for evaluation in evidence.evaluations() {
            let trials = arm.trials.iter().filter(|trial| trial.evaluation == evaluation);
            let seeds: BTreeSet<u64> = trials.map(|trial| trial.seed).collect();
            if seeds.is_empty() {
                continue;
            }
            let mut row = vec![arm.name.clone(), seeds.len().to_string()];
            for (name, metric) in names.iter().zip(&metrics) {
                let measured = found.get(&(place, evaluation, metric.as_str()));
                if context.json {
                    out.json(&json!({
                        "what": "value", "run": run, "evaluation": evaluation, "arm": arm.name, "component": name,
                        "seeds": seeds, "value": measured.map(|measured| measured.value),
                        "interval": measured.and_then(|measured| measured.interval),
                        "count": measured.and_then(|measured| measured.count),
                    }))?;
                }
                row.push(measured.map_or_else(|| "–".to_owned(), |measured| shown(measured)));
            }
            table.push(row);
        }
    }
    let baseline = evidence.default_baseline().filter(|_| evidence.arms.len() > 1);
    let compared = baseline.map(|baseline| {
        let metrics = metrics.iter().map(|metric| (metric.clone(), None)).collect();
        compare(evidence, &ComparisonRequest { baseline: baseline.to_owned(), metrics, primary: None, by: Vec::new() })
    });
    if !context.json {
        out.line(table.render(width()))?;
        for metric in compared.iter().flat_map(|compared| &compared.metrics) {
            let baseline = &compared.as_ref().expect("it has metrics").baseline;
            out.line(format!(
                "\n{}\n{}",
                verdict_heading(metric, false),
                verdict_table(metric, baseline).render(width())
            ))?;
        }
    }
    out.finish()
}

fn shown(measured: &Measurement) -> String {
    let value = number(measured.value);
    match measured.interval {
        Some((low, high)) => format!("{value} [{}, {}]", number(low), number(high)),
        None => value,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_argument_is_a_name_a_table_or_one_setting() {
        let set = |text: &str| addition(text, "eval");
        assert_eq!(set("rouge"), ("rouge".to_owned(), None));
        assert_eq!(set("rewards.rouge"), ("rouge".to_owned(), None));
        let table = "semantic@bge = { encoder = \"models/bge\" }";
        let expected = "stages.eval.more_rewards.semantic@bge={ encoder = \"models/bge\" }";
        assert_eq!(set(table), ("semantic@bge".to_owned(), Some(expected.to_owned())));
        let one = "rewards.rouge.variant=rouge2";
        assert_eq!(set(one), ("rouge".to_owned(), Some("stages.eval.more_rewards.rouge.variant=rouge2".to_owned())));
    }
}
