//! `orchestrate explain RECIPE... STAGE`.

use super::args::RecipeArgs;
use super::context::Context;
use super::error::CliError;
use super::output::Output;
use super::planning;
use crate::digest::Digest;
use crate::history::{CachedResults, Explanation, ParentChange};
use crate::recipe::Overrides;
use crate::run::{stages_named, titles};
use crate::workspace::Workspace;
use clap::Args;
use serde_json::{Value, json};

/// What to explain.
#[derive(Debug, Args)]
#[command(after_help = "\
Compares the settings behind the stage's cache key with those of the nearest result in the cache, key by
key. A setting is shown with both values, a data file with the number of rows that were added and removed.
The stages that it starts from are compared in the same way.

Examples:
  orchestrate explain recipes/demo.toml grpo
  orchestrate explain recipes/grid.toml sft --variant 'rouge,seed=1'
  orchestrate explain recipes/demo.toml grpo --set stages.grpo.lr=2e-5     what would change

--json prints {\"stage\",\"kind\",\"variant\":[..],\"key\",\"status\":\"cached\"|\"pending\",\"reasons\":[..],\"compared\"}, one a
line, where compared is {\"nearest\",\"changes\":[..],\"parents\":[{\"stage\",\"compared\"}]}, or null without a result of
its kind.")]
pub(super) struct ExplainArgs {
    #[command(flatten)]
    recipes: RecipeArgs,
    /// The stage; all of this name, if variants differ in it.
    #[arg(value_name = "STAGE")]
    stage: String,
}

pub(super) fn explain(context: &Context, args: &ExplainArgs) -> Result<(), CliError> {
    let overrides = Overrides::with_process_environment(args.recipes.set.clone());
    let planned = planning::planned(context, &args.recipes.recipes, &overrides, &args.recipes.variants)?;
    let wanted = std::slice::from_ref(&args.stage);
    let plan = planning::only(planned.plan, wanted)?;
    let workspace = Workspace::open(context.runs())?;
    let statuses = planning::statuses(context, &plan, &workspace)?;
    let cached = CachedResults::load(&workspace, context.project())?;
    let mut out = Output::stdout();
    let titles = titles(&plan);
    for stage in stages_named(&plan, wanted) {
        let (planned, status) = (&plan.stages[stage], &statuses[stage]);
        let compared = if status.hit { None } else { cached.explain(&plan, stage) };
        if context.json {
            out.json(&json!({
                "stage": planned.name, "kind": planned.spec.work.kind(), "variant": planned.variants,
                "key": planned.key, "status": status.status(), "reasons": status.reasons,
                "compared": compared.as_ref().map(to_json),
            }))?;
            continue;
        }
        let name = &titles[stage];
        if status.hit {
            out.line(format!("{name}: cached as {}", shown(context, &planned.key)))?;
            continue;
        }
        out.line(format!("{name}: will run: {}", status.reasons.join("; ")))?;
        match &compared {
            Some(compared) => {
                out.line(format!("  nearest result: {}", shown(context, &compared.nearest)))?;
                write(&mut out, compared, "  ")?;
            }
            None => out.line(format!("  no {} stage is in the cache to compare it with", planned.spec.work.kind()))?,
        }
    }
    out.finish()
}

/// Writes one line for each change, with those of the parents below.
fn write(out: &mut Output, compared: &Explanation, indent: &str) -> Result<(), CliError> {
    for change in &compared.changes {
        out.line(format!("{indent}{change}"))?;
    }
    for ParentChange { stage: parent, because } in &compared.parents {
        match (parent, because) {
            (Some(parent), Some(because)) => {
                out.line(format!("{indent}because `{parent}` changed:"))?;
                write(out, because, &format!("{indent}  "))?;
            }
            (Some(parent), None) => {
                out.line(format!("{indent}because it starts from another result, or another `{parent}` that is gone"))?;
            }
            (None, _) => out.line(format!("{indent}because it starts from the model itself now"))?,
        }
    }
    if compared.changes.is_empty() && compared.parents.is_empty() {
        out.line(format!("{indent}nothing differs: its result was removed"))?;
    }
    Ok(())
}

fn shown<'k>(context: &Context, key: &'k Digest) -> &'k str {
    if context.verbose { key.as_str() } else { key.short() }
}

fn to_json(compared: &Explanation) -> Value {
    let parents = compared
        .parents
        .iter()
        .map(|parent| json!({ "stage": parent.stage, "compared": parent.because.as_ref().map(to_json) }));
    json!({ "nearest": compared.nearest, "changes": compared.changes, "parents": parents.collect::<Vec<_>>() })
}
