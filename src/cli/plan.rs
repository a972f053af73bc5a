//! `orchestrate plan RECIPE...`.

use super::args::RecipeArgs;
use super::context::Context;
use super::error::CliError;
use super::output::Output;
use super::overlap::{self, Pairs, Wanted};
use super::planning;
use crate::plan::{Plan, planned};
use crate::recipe::Overrides;
use crate::report::{PlannedStatus, plan_tree, width};
use crate::workspace::Workspace;
use clap::Args;
use serde_json::json;
use std::collections::BTreeSet;

/// What to plan.
#[derive(Debug, Args)]
#[command(after_help = "\
Every stage is shown once, below the stage it starts from, however many variants share it.

Examples:
  orchestrate plan recipes/demo.toml
  orchestrate plan recipes/*.toml --set stages.grpo.steps=20
  orchestrate plan recipes/demo.toml --variant rouge,seed=1
  orchestrate plan recipes/demo.toml --json | jq 'select(.status == \"pending\") | .stage'

--json prints {\"stage\",\"kind\",\"variant\":[..],\"key\",\"parents\":[KEY..],\"status\":\"cached\"|\"pending\",\"reasons\":[..],
\"memory_bytes\",\"judge_calls\":{JUDGE:N},\"overlaps\":[..]}, one a line; memory is the estimated peak, and judges are asked N times at most,
retries and kept answers aside. `overlaps` are those of `check --json`, of data that a stage trains on.")]
pub(super) struct PlanArgs {
    #[command(flatten)]
    recipes: RecipeArgs,
    /// Only this stage and what it needs; can be repeated.
    #[arg(long, value_name = "STAGE")]
    only: Vec<String>,
}

pub(super) fn plan(context: &Context, args: &PlanArgs) -> Result<(), CliError> {
    let overrides = Overrides::with_process_environment(args.recipes.set.clone());
    let planned = planning::planned(context, &args.recipes.recipes, &overrides, &args.recipes.variants)?;
    let plan = planning::only(planned.plan, &args.only)?;
    let workspace = Workspace::open(context.runs())?;
    let overlaps = overlap::compared(context, &plan, Wanted::Quick)?;
    overlaps.refuse(context)?;
    show(context, &plan, &planning::statuses(context, &plan, &workspace)?, &overlaps)
}

/// Prints `plan`, for this command and for `run --dry-run`.
pub(super) fn show(
    context: &Context,
    plan: &Plan,
    statuses: &[PlannedStatus],
    overlaps: &Pairs<'_>,
) -> Result<(), CliError> {
    let missing = plan.stages.iter().zip(statuses).filter(|(_, status)| !status.hit);
    planning::warn_busy_gpus(missing.map(|(stage, _)| stage));
    let mut out = Output::stdout();
    if context.json {
        for (stage, status) in plan.stages.iter().zip(statuses) {
            let parents: Vec<_> = stage.parents.iter().map(|&parent| &plan.stages[parent].key).collect();
            let trains = |variants: &BTreeSet<&str>, stages: &BTreeSet<&str>| {
                stages.contains(stage.name.as_str())
                    && stage.variants.iter().any(|label| variants.contains(label.as_str()))
            };
            out.json(&json!({
                "stage": stage.name, "kind": stage.spec.work.kind(), "variant": stage.variants, "key": stage.key,
                "parents": parents, "status": status.status(), "reasons": status.reasons,
                "memory_bytes": stage.memory.estimate.map(|estimate| estimate.total()),
                "judge_calls": planned(&stage.spec.work).judge_calls(), "overlaps": overlaps.json(context, trains),
            }))?;
        }
        return out.finish();
    }
    out.line(plan_tree(plan, statuses, width(), context.verbose))?;
    let hits = statuses.iter().filter(|status| status.hit).count();
    let (stages, variants) = (count(plan.stages.len(), "stage"), count(plan.variants.len(), "variant"));
    out.line(format!("\n{stages} of {variants}: {hits} cached, {} to run", plan.stages.len() - hits))?;
    for (stage, status) in plan.stages.iter().zip(statuses) {
        for (judge, calls) in planned(&stage.spec.work).judge_calls().into_iter().filter(|_| !status.hit) {
            let limit = stage.runtime.judges.get(&judge).and_then(|server| server.max_calls);
            let budget = match limit {
                Some(limit) if limit < calls => format!(", more than its `max_calls` of {limit}"),
                _ => String::new(),
            };
            let name = &stage.name;
            out.line(format!("`{name}` asks the judge `{judge}` up to {}{budget}", count_u64(calls, "time")))?;
        }
    }
    overlaps.print(context, &mut out, (false, false))?;
    out.finish()
}

fn count_u64(n: u64, noun: &str) -> String {
    count(usize::try_from(n).unwrap_or(usize::MAX), noun)
}

/// Formats a count: `1 stage`, `3 stages`.
pub(super) fn count(n: usize, noun: &str) -> String {
    if n == 1 { format!("1 {noun}") } else { format!("{n} {noun}s") }
}
