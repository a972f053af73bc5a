//! The summary of a run: measurements on stdout; failures and suggested commands on stderr.

use super::context::Context;
use super::error::{CliError, Kind};
use super::output::Output;
use super::plan::count;
use crate::evidence::{ComparisonRequest, Evidence, Trial, compare};
use crate::history::{PastRun, arena_result, gather_answers};
use crate::metric::TOTAL;
use crate::plan::{Plan, PlannedVariant};
use crate::printable::{harmless, harmless_log};
use crate::recipe::spec::Work;
use crate::recipe::{Training, training_of};
use crate::report::html::estimates;
use crate::report::{Comparison, ComparisonRow, arena_table, verdict_line, width};
use crate::run::{FailedStage, RunRequest, RunSummary, StageEnd, titles};
use crate::stage::StageKind;
use crate::workspace::Workspace;
use serde_json::json;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::io::{self, Write as _};

/// Prints `summary`. Fails if the run failed or was interrupted.
pub(super) fn print(
    context: &Context,
    request: &RunRequest,
    workspace: &Workspace,
    summary: &RunSummary,
) -> Result<(), CliError> {
    let plan = &request.plan;
    // The rounds of a search print their own comparison.
    let is_round = request.invocation.seed_search.is_some();
    if summary.failed().next().is_some() {
        let titles = titles(plan);
        for (stage, failed) in summary.failed() {
            // If stderr is closed, the exit code still reports the failure.
            let _ = print_failure(context, &titles[stage], &plan.stages[stage].variants, failed);
        }
    }
    let evidence = evidence(context, workspace, &summary.run)?;
    let mut out = Output::stdout();
    if context.json {
        for (stage, end) in plan.stages.iter().zip(&summary.ends) {
            let mut line = json!({
                "run": summary.run, "stage": stage.name, "kind": stage.spec.work.kind(), "variant": stage.variants,
                "key": stage.key, "status": end.status(),
                "seconds": if let StageEnd::Done { seconds } = end { Some(*seconds) } else { None },
            });
            if let Work::Eval(eval) = &stage.spec.work {
                line["data_set"] = json!(eval.data_set);
                line["out_of_domain"] = json!(eval.out_of_domain);
                let components =
                    eval.rewards.keys().map(|name| (name, training_of(eval, &format!("eval/reward/{name}"))));
                let words = components.map(|(name, training)| (name, training.map(Training::word)));
                line["components"] = json!(words.collect::<BTreeMap<_, _>>());
            }
            out.json(&line)?;
        }
    } else if !is_round {
        let comparison = comparison(plan, &evidence, summary);
        if !comparison.rows.is_empty() {
            out.line(format!("\n{}", comparison.render(width())))?;
        }
        for line in verdict(&evidence) {
            out.line(format!("\n{line}"))?;
        }
        for (stage, end) in plan.stages.iter().zip(&summary.ends) {
            let has_result = matches!(end, StageEnd::Hit | StageEnd::Done { .. });
            if stage.spec.work.kind() != StageKind::Arena || !has_result {
                continue;
            }
            if let Some(result) = arena_result(workspace, &stage.key)? {
                out.line(format!("\n{}", arena_table(&stage.name, &result, width())))?;
            }
        }
    }
    out.finish()?;
    ending(context, plan, summary, (!is_round).then_some(evidence.arms.len()))
}

/// Fails if the run failed or was interrupted. Otherwise suggests commands, given the number of arms.
fn ending(context: &Context, plan: &Plan, summary: &RunSummary, arms: Option<usize>) -> Result<(), CliError> {
    if let Some(problem) = &summary.unrecorded {
        let _ = writeln!(io::stderr(), "warning: the database could not record this run: {problem}");
        let log = context.log_dir(&summary.run);
        let log = context.shown(&log);
        let _ = writeln!(io::stderr(), "hint: its results are in the cache and its log is in {log}");
    }
    let failed = summary.failed().count();
    let left = summary.ends.iter().filter(|end| matches!(end, StageEnd::Stopped | StageEnd::Skipped)).count();
    if summary.interrupted {
        return Err(CliError::new(
            Kind::Interrupted,
            format!("interrupted with {left} of {} stages left", plan.stages.len()),
        )
        .hint("`orchestrate resume` goes on from here"));
    }
    if failed > 0 {
        let skipped = skipped_names(plan, summary);
        let message = format!("{failed} of {} stages failed, {left} skipped{skipped}", plan.stages.len());
        return Err(CliError::new(Kind::StageFailed, message)
            .hint("fix the cause, then run `orchestrate resume`, which runs what is missing")
            .hint("if the cause is in the recipe, use `orchestrate run`: `resume` continues with the recipe as it was")
            .hint("`orchestrate logs latest` prints what the workers wrote"));
    }
    if let Some(arms) = arms.filter(|_| !context.quiet && !context.json) {
        let _ = next_steps(plan, summary, arms);
    }
    Ok(())
}

/// Formats the names of the skipped stages with their numbers: ` (`grpo` 2, `eval` 2)`.
fn skipped_names(plan: &Plan, summary: &RunSummary) -> String {
    let mut names: Vec<(&str, usize)> = Vec::new();
    let skipped = plan.stages.iter().zip(&summary.ends).filter(|(_, end)| matches!(end, StageEnd::Skipped));
    for (stage, _) in skipped {
        match names.iter_mut().find(|(name, _)| *name == stage.name) {
            Some((_, count)) => *count += 1,
            None => names.push((&stage.name, 1)),
        }
    }
    let names: Vec<String> = names.iter().map(|(name, count)| format!("`{name}` {count}")).collect();
    if names.is_empty() { String::new() } else { format!(" ({})", names.join(", ")) }
}

/// Prints suggested commands.
fn next_steps(plan: &Plan, summary: &RunSummary, arms: usize) -> io::Result<()> {
    let mut err = io::stderr().lock();
    let hits = summary.ends.iter().filter(|end| matches!(end, StageEnd::Hit)).count();
    writeln!(err, "\nrun {}: {}, {hits} cached", summary.run, count(plan.stages.len(), "stage"))?;
    writeln!(err, "next:")?;
    if arms > 1 {
        writeln!(err, "  orchestrate compare           which arm is better, or how many more seeds are needed")?;
        writeln!(err, "  orchestrate report            everything in one page")?;
    }
    writeln!(err, "  orchestrate show latest       the stages of this run and their results")?;
    writeln!(err, "  orchestrate metrics latest    loss and reward over the steps")?;
    writeln!(err, "  orchestrate samples latest    completions and how they were rated")
}

/// Prints why a stage failed, and the variants that it belongs to if its title does not name them all.
pub(super) fn print_failure(
    context: &Context,
    title: &str,
    variants: &[String],
    failed: &FailedStage,
) -> io::Result<()> {
    let mut err = io::stderr().lock();
    let tries = if failed.tries > 1 { format!(" {} times", failed.tries) } else { String::new() };
    writeln!(err, "\nerror: stage `{title}` failed{tries}: {}", harmless(&failed.failure.message))?;
    if variants.len() > 1 {
        writeln!(err, "variants: {}", variants.join(", "))?;
    }
    if let Some(hint) = &failed.failure.hint {
        writeln!(err, "hint: {}", harmless(hint))?;
    }
    if !failed.log_tail.is_empty() {
        writeln!(err, "the end of {}:", context.shown(&failed.log))?;
        for line in &failed.log_tail {
            writeln!(err, "  | {}", harmless_log(line))?;
        }
    }
    Ok(())
}

/// Gathers the run's measurements, arm by arm.
fn evidence(context: &Context, workspace: &Workspace, run: &str) -> Result<Evidence, CliError> {
    let past = PastRun::named(context.runs(), run)?;
    Ok(gather_answers(workspace, &past.iter().collect::<Vec<_>>())?)
}

/// Returns the verdicts of the primary metric, one line for each evaluation; empty with a single arm.
fn verdict(evidence: &Evidence) -> Vec<String> {
    let (Some(baseline), Some(primary)) = (evidence.default_baseline(), evidence.primary_metric()) else {
        return Vec::new();
    };
    let request =
        ComparisonRequest { baseline: baseline.to_owned(), metrics: vec![(primary, None)], ..Default::default() };
    let found = compare(evidence, &request);
    let several = evidence.evaluations().len() > 1;
    found.metrics.iter().map(|metric| verdict_line(metric, &found.baseline, several)).collect()
}

/// Returns the table of every evaluation that has a result, with the seeds of an arm in one row.
fn comparison(plan: &Plan, evidence: &Evidence, summary: &RunSummary) -> Comparison {
    let estimates = estimates(evidence);
    let evaluations: Vec<(&str, bool)> =
        evidence.evaluations().into_iter().map(|name| (name, evidence.has_one_mix(name))).collect();
    let variants: HashMap<&String, &PlannedVariant> =
        plan.variants.iter().map(|variant| (&variant.label, variant)).collect();
    let mut rows = Vec::new();
    for (place, arm) in evidence.arms.iter().enumerate() {
        for &(evaluation, has_one_mix) in &evaluations {
            let trials: Vec<&Trial> = arm.trials.iter().filter(|trial| trial.evaluation == evaluation).collect();
            let Some(first) = trials.first() else { continue };
            let gaps = arm.missing.iter().filter(|gap| gap.stage == first.stage).count();
            let measurements = estimates
                .range((place, evaluation.to_owned(), String::new())..)
                .take_while(|((of, from, _), _)| *of == place && from == evaluation)
                .filter(|((_, _, metric), _)| metric != TOTAL || has_one_mix)
                .map(|((_, _, metric), measured)| (metric.clone(), *measured));
            let labels: BTreeSet<&String> = trials.iter().map(|trial| &trial.variant).collect();
            let variants: Vec<&PlannedVariant> =
                labels.into_iter().filter_map(|label| variants.get(label).copied()).collect();
            let spent = variants.iter().map(|variant| effort(variant, summary));
            let (seconds, hits) = spent.fold((0.0, 0), |(seconds, hits), (more, found)| (seconds + more, hits + found));
            let planned = trials.len() + gaps;
            let row = ComparisonRow {
                variant: arm.name.clone(),
                seeds: (planned > 1).then_some((trials.len(), planned)),
                stage: first.stage.clone(),
                measurements: measurements.collect(),
                seconds,
                hits: (hits, variants.iter().map(|variant| variant.stages.len()).sum()),
                ..ComparisonRow::default()
            };
            let stage = variants.iter().flat_map(|variant| &variant.stages).find(|(name, _)| *name == first.stage);
            rows.push(match stage.map(|(_, stage)| &plan.stages[*stage].spec.work) {
                Some(Work::Eval(eval)) => row.marked(eval),
                _ => row,
            });
        }
    }
    Comparison { rows }
}

/// Returns the seconds that this run spent on a variant's stages, and the number of its cached stages.
fn effort(variant: &PlannedVariant, summary: &RunSummary) -> (f64, usize) {
    variant.stages.iter().fold((0.0, 0), |(seconds, hits), (_, stage)| match &summary.ends[*stage] {
        StageEnd::Done { seconds: more } => (seconds + more, hits),
        StageEnd::Hit => (seconds, hits + 1),
        _ => (seconds, hits),
    })
}
