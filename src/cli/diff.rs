//! `orchestrate diff A B`.

use super::context::Context;
use super::error::{CliError, Kind};
use super::find::{find_run, past_runs};
use super::output::Output;
use crate::event::Measurement;
use crate::history::{
    CachedResults, LoggedPlan, PastRun, StageChange, StagePair, environment, results, stage_change, stage_pairs,
};
use crate::number::{measurement, number};
use crate::report::{Column, Table, width};
use crate::workspace::Workspace;
use clap::Args;
use serde_json::json;
use std::collections::BTreeSet;

/// Which runs.
#[derive(Debug, Args)]
#[command(after_help = "\
Shows how B differs from A: the settings of each stage as resolved (defaults, --set and variants written
out), the environment, and the results. Stages with the same key have the same result, so they are not
shown. Intervals that do not overlap are marked. `orchestrate compare` is more sensitive, because it pairs
the answers by question.

Examples:
  orchestrate diff 01KAB3 latest
  orchestrate diff 01KAB3 7Q4XZ1 --json | jq 'select(.what == \"result\" and .apart)'

--json prints {\"what\":\"stage\",\"stage\",\"variant\":[..],\"change\":\"lost\"|\"new\"|\"changed\"|\"unknown\",\"changes\":[..]},
{\"what\":\"environment\",\"name\",\"a\":[..],\"b\":[..]} and {\"what\":\"result\",\"stage\",\"variant\":[..],\"metric\",\"a\",\"b\",\"difference\",
\"apart\"}, one a line; a and b of a result are {\"value\",\"interval\",\"count\"}.")]
pub(super) struct DiffArgs {
    /// A run's id, the beginning or end of one, or `latest`.
    #[arg(value_name = "A")]
    before: String,
    /// The run it is compared with [default: the newest; where A is that one, A is compared with the one before it]
    #[arg(value_name = "B")]
    after: Option<String>,
}

/// A metric of one stage in both runs.
struct Outcome<'a> {
    pair: &'a StagePair,
    metric: String,
    before: Measurement,
    after: Measurement,
}

impl Outcome<'_> {
    fn difference(&self) -> f64 {
        self.after.value - self.before.value
    }

    /// Whether the intervals are disjoint; `None` without intervals.
    fn apart(&self) -> Option<bool> {
        let ((low, high), (other_low, other_high)) = self.before.interval.zip(self.after.interval)?;
        Some(high < other_low || other_high < low)
    }
}

/// Returns the run before the newest.
fn before_newest(runs: &[PastRun]) -> Result<&PastRun, CliError> {
    runs.get(1).ok_or_else(|| CliError::nothing("there is only one run; a comparison needs two"))
}

pub(super) fn diff(context: &Context, args: &DiffArgs) -> Result<(), CliError> {
    let runs = past_runs(context)?;
    let named = find_run(&runs, &args.before)?;
    let (before, after) = match &args.after {
        Some(after) => (named, find_run(&runs, after)?),
        None if named.run != runs[0].run => (named, &runs[0]),
        None => (before_newest(&runs)?, named),
    };
    if before.run == after.run {
        return Err(CliError::new(Kind::Usage, format!("A and B are both run {}", before.run))
            .hint("`orchestrate history` lists the runs"));
    }
    let workspace = Workspace::open(context.runs())?;
    let cached = CachedResults::load(&workspace, context.project())?;
    let pairs = stage_pairs(&LoggedPlan::load(&before.log_dir)?, &LoggedPlan::load(&after.log_dir)?);
    let changes: Vec<StageChange> = pairs.iter().map(|pair| stage_change(pair, &cached)).collect();
    let (was, is) = (environment(before, &workspace)?, environment(after, &workspace)?);
    let names: BTreeSet<&str> =
        was.keys().chain(is.keys()).copied().filter(|name| was.get(name) != is.get(name)).collect();
    let list = |of: &std::collections::BTreeMap<&'static str, BTreeSet<String>>, name: &str| -> Vec<String> {
        of.get(name).into_iter().flatten().cloned().collect()
    };
    let outcomes = outcomes(&pairs, &workspace)?;
    let mut out = Output::stdout();
    if context.json {
        for (pair, change) in pairs.iter().zip(&changes) {
            let (word, words) = words(change);
            out.json(&json!({
                "what": "stage", "stage": pair.stage, "variant": pair.variants, "change": word, "changes": words,
            }))?;
        }
        for name in names {
            out.json(&json!({ "what": "environment", "name": name, "a": list(&was, name), "b": list(&is, name) }))?;
        }
        for outcome in &outcomes {
            out.json(&json!({
                "what": "result", "stage": outcome.pair.stage, "variant": outcome.pair.variants,
                "metric": outcome.metric, "a": outcome.before, "b": outcome.after,
                "difference": outcome.difference(), "apart": outcome.apart(),
            }))?;
        }
        return out.finish();
    }
    for (side, run) in [("A", before), ("B", after)] {
        out.line(format!("{side}  {}  {}", run.run, run.status))?;
    }
    if pairs.is_empty() {
        out.line("\nBoth runs are of the same stages: their keys are equal.")?;
    } else {
        out.line(format!("\n{}", stage_table(&pairs, &changes).render(width())))?;
    }
    let mut table =
        Table::new(vec![Column::left("environment"), Column::left("A").shortened(), Column::left("B").shortened()]);
    for name in names {
        table.push(vec![name.to_owned(), list(&was, name).join(" "), list(&is, name).join(" ")]);
    }
    if !table.is_empty() {
        out.line(format!("\n{}", table.render(width())))?;
    }
    if !outcomes.is_empty() {
        out.line(format!("\n{}", outcome_table(&outcomes).render(width())))?;
    }
    out.finish()
}

/// Returns the measurements that both runs have in stages that differ.
fn outcomes<'a>(pairs: &'a [StagePair], workspace: &Workspace) -> Result<Vec<Outcome<'a>>, CliError> {
    let mut found = Vec::new();
    for pair in pairs {
        let (Some(before), Some(after)) = &pair.keys else { continue };
        let measured = |key| match workspace.lookup(key)? {
            crate::workspace::Lookup::Hit(_) => results(workspace, key),
            _ => Ok([].into()),
        };
        let (before, after) = (measured(before)?, measured(after)?);
        for (metric, before) in before {
            if let Some(after) = after.get(&metric) {
                found.push(Outcome { pair, metric, before, after: *after });
            }
        }
    }
    Ok(found)
}

fn words(change: &StageChange) -> (&'static str, &[String]) {
    match change {
        StageChange::Lost => ("lost", &[]),
        StageChange::New => ("new", &[]),
        StageChange::Unknown => ("unknown", &[]),
        StageChange::Changed(changes) => ("changed", changes),
    }
}

fn stage_table(pairs: &[StagePair], changes: &[StageChange]) -> Table {
    let mut table =
        Table::new(vec![Column::left("stage"), Column::left("from A to B"), Column::left("variants").shortened()]);
    for (pair, change) in pairs.iter().zip(changes) {
        let lines = match change {
            StageChange::Lost => vec!["only in A".to_owned()],
            StageChange::New => vec!["only in B".to_owned()],
            StageChange::Unknown => vec!["differs; its settings are gone, or it was never reached".to_owned()],
            StageChange::Changed(changes) if changes.is_empty() => vec!["starts from another result".to_owned()],
            StageChange::Changed(changes) => changes.clone(),
        };
        let mut name = (pair.stage.clone(), pair.variants.join(" "));
        for line in lines {
            table.push(vec![std::mem::take(&mut name.0), line, std::mem::take(&mut name.1)]);
        }
    }
    table
}

fn outcome_table(outcomes: &[Outcome<'_>]) -> Table {
    let mut table = Table::new(vec![
        Column::left("stage"),
        Column::left("metric"),
        Column::left("A"),
        Column::left("B"),
        Column::right("difference"),
        Column::left("apart"),
        Column::left("variants").shortened(),
    ]);
    for outcome in outcomes {
        let apart = match outcome.apart() {
            Some(true) => "yes",
            Some(false) => "no",
            None => "",
        };
        table.push(vec![
            outcome.pair.stage.clone(),
            outcome.metric.clone(),
            measurement(&outcome.before),
            measurement(&outcome.after),
            format!("{}{}", if outcome.difference() > 0.0 { "+" } else { "" }, number(outcome.difference())),
            apart.to_owned(),
            outcome.pair.variants.join(" "),
        ]);
    }
    table
}
