//! How a run went: what its evaluations measured on stdout; failures and what to type next on stderr.

use super::context::Context;
use super::error::{CliError, Kind};
use super::output::Output;
use super::plan::count;
use crate::cache::Cache;
use crate::orchestrate::{FailedStage, RunRequest, RunSummary, StageEnd, arena_result, results, titles};
use crate::plan::{Plan, PlannedVariant};
use crate::printable::{harmless, harmless_log};
use crate::recipe::spec::Work;
use crate::recipe::{Training, training_of};
use crate::report::{Comparison, ComparisonRow, arena_table, width};
use serde_json::json;
use std::collections::BTreeMap;
use std::io::{self, Write as _};

/// Prints `summary` and ends as the run ended.
pub(super) fn print(
    context: &Context,
    request: &RunRequest,
    cache: &Cache,
    summary: &RunSummary,
) -> Result<(), CliError> {
    let plan = &request.plan;
    if summary.failed().next().is_some() {
        let titles = titles(plan);
        for (stage, failed) in summary.failed() {
            // With stderr gone the exit code still tells.
            let _ = print_failure(context, &titles[stage], &plan.stages[stage].variants, failed);
        }
    }
    let comparison = comparison(plan, cache, summary)?;
    let mut out = Output::stdout();
    if context.json {
        for (stage, end) in plan.stages.iter().zip(&summary.ends) {
            let mut line = json!({
                "run": summary.run, "stage": stage.name, "kind": stage.spec.work.kind(), "variant": stage.variants,
                "key": stage.key, "status": status_word(end),
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
    } else {
        if !comparison.rows.is_empty() {
            out.line(format!("\n{}", comparison.render(width())))?;
        }
        for (stage, end) in plan.stages.iter().zip(&summary.ends) {
            let has_result = matches!(end, StageEnd::Hit | StageEnd::Done { .. });
            if let Some(result) = arena_result(cache, &stage.key)?.filter(|_| has_result) {
                out.line(format!("\n{}", arena_table(&stage.name, &result, width())))?;
            }
        }
    }
    out.finish()?;
    ending(context, plan, summary)
}

fn ending(context: &Context, plan: &Plan, summary: &RunSummary) -> Result<(), CliError> {
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
            .hint("mend the cause, then `orchestrate resume` runs what is missing")
            .hint("`orchestrate logs latest` prints what the workers wrote"));
    }
    if !context.quiet && !context.json {
        let _ = next_steps(plan, summary);
    }
    Ok(())
}

/// The names of the stages that were skipped, each with how many are called so: ` (`grpo` 2, `eval` 2)`.
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

/// What to type next.
fn next_steps(plan: &Plan, summary: &RunSummary) -> io::Result<()> {
    let mut err = io::stderr().lock();
    let hits = summary.ends.iter().filter(|end| matches!(end, StageEnd::Hit)).count();
    writeln!(err, "\nrun {}: {}, {hits} cached", summary.run, count(plan.stages.len(), "stage"))?;
    writeln!(err, "next:")?;
    writeln!(err, "  orchestrate show latest       the stages of this run and their results")?;
    writeln!(err, "  orchestrate metrics latest    loss and reward over the steps")?;
    writeln!(err, "  orchestrate samples latest    completions and how they were rated")
}

/// Prints why a stage failed, and of which variants it is a part when its title does not name them all.
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

/// The word for an end in `--json`.
fn status_word(end: &StageEnd) -> &'static str {
    match end {
        StageEnd::Hit => "hit",
        StageEnd::Done { .. } => "ok",
        StageEnd::Failed(_) => "failed",
        StageEnd::Stopped => "interrupted",
        StageEnd::Skipped => "skipped",
    }
}

/// Every evaluation that has a result.
fn comparison(plan: &Plan, cache: &Cache, summary: &RunSummary) -> Result<Comparison, CliError> {
    let mut rows = Vec::new();
    for variant in &plan.variants {
        for (name, stage) in &variant.stages {
            let planned = &plan.stages[*stage];
            let has_result = matches!(summary.ends[*stage], StageEnd::Hit | StageEnd::Done { .. });
            let measures = match planned.spec.work {
                Work::Eval(_) => true,
                Work::Command(_) => summary.measured.contains(stage),
                // an arena compares variants: it has a table of its own
                Work::Cpt(_) | Work::Sft(_) | Work::Grpo(_) | Work::Arena(_) => false,
            };
            if has_result && measures {
                let (seconds, hits) = effort(variant, summary);
                let row = ComparisonRow {
                    variant: variant.label.clone(),
                    stage: name.clone(),
                    measurements: results(cache, &planned.key)?,
                    seconds,
                    hits: (hits, variant.stages.len()),
                    ..ComparisonRow::default()
                };
                rows.push(match &planned.spec.work {
                    Work::Eval(eval) => row.marked(eval),
                    _ => row,
                });
            }
        }
    }
    Ok(Comparison { rows })
}

/// Seconds this run spent on a variant's stages, and how many it found in the cache.
fn effort(variant: &PlannedVariant, summary: &RunSummary) -> (f64, usize) {
    variant.stages.iter().fold((0.0, 0), |(seconds, hits), (_, stage)| match &summary.ends[*stage] {
        StageEnd::Done { seconds: more } => (seconds + more, hits),
        StageEnd::Hit => (seconds, hits + 1),
        _ => (seconds, hits),
    })
}
