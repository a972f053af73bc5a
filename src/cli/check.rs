//! `orchestrate check RECIPE...`.

use super::args::RecipeArgs;
use super::context::Context;
use super::error::CliError;
use super::output::Output;
use super::overlap::{self, Wanted};
use super::plan::count;
use super::planning;
use super::show_data::{refuse_data, show_data, warn_not_inspected};
use crate::exec::WorkerBinary;
use crate::recipe::Overrides;
use clap::Args;
use serde_json::json;
use std::collections::BTreeSet;

/// What to check.
#[derive(Debug, Args)]
#[command(after_help = "\
Reads the recipes as `run` does, and reports all problems at once, each with its line: unknown keys, wrong
types, values out of range, unknown names, missing files, cycles, and stages that cannot fit into memory.
Then the worker checks each stage's model and reads its data as the stage will: it renders the templates of
every row and counts its tokens. Whatever a stage would refuse is an error.

Training data is compared with the questions and references of evaluations and arenas: what they have in
common, eight words in a row, is shown with the worst examples. It is an error above a data set's
`max_overlap`. With --verbose, pairs without anything in common are shown too.

Stages that read more than 64 MiB are left out, except with --show-data. Data that passed is not read again
until it changes. No stage is run. `run` starts with the same checks.

--show-data shows what each stage would read: rows, tokens, the share of tokens that carry loss, lengths,
duplicates, and a row with its loss mask. It also says whether the end of a turn is trained.

Example:
  orchestrate check recipes/*.toml
  orchestrate check --show-data recipes/demo.toml
  orchestrate check --show-data --json recipes/demo.toml | jq '.data[] | {files, rows, trained_tokens}'

--json prints {\"recipe\",\"path\",\"variants\",\"stages\",\"overlaps\":[{\"trained\",\"evaluated\",\"dropped\",\"max_overlap\",
\"rows\",\"overlapping_rows\",\"questions\",\"overlapping_questions\",\"fraction\",\"short_questions\",\"common_runs\",
\"worst\":[{\"question\",\"row\",\"shared\",\"of\",\"passage\"}]}]}, one a line; with --show-data
{\"stage\",\"kind\",\"data\":[{\"files\",\"weight\",\"rows\",\"packed_rows\",\"tokens\",\"trained_tokens\",\"eos_trained\",
\"cut_rows\",\"decontaminated_rows\",\"duplicate_rows\",\"tokens_p50\",\"tokens_p95\",\"tokens_max\",\"example\"}],\"failure\"}.")]
pub(super) struct CheckArgs {
    #[command(flatten)]
    recipes: RecipeArgs,
    /// Read the data too, and show what each stage would train on.
    #[arg(long)]
    show_data: bool,
}

pub(super) fn check(context: &Context, args: &CheckArgs) -> Result<(), CliError> {
    let overrides = Overrides::with_process_environment(args.recipes.set.clone());
    let planned = planning::planned(context, &args.recipes.recipes, &overrides, &args.recipes.variants)?;
    // what another process holds now may be free when the recipe runs
    planning::refuse_too_large(planned.plan.stages.iter().filter(|stage| !stage.memory.fits_when_idle()))?;
    planning::warn_busy_gpus(planned.plan.stages.iter());
    let mut out = Output::stdout();
    if args.show_data {
        let shown = show_data(context, &planned.plan, &mut out);
        out.finish()?;
        return shown;
    }
    if planned.plan.stages.iter().any(|stage| stage.program.is_none()) {
        match WorkerBinary::find() {
            Ok(worker) => refuse_data(context, &worker, &planned.plan, planned.plan.stages.iter())?,
            Err(error) => warn_not_inspected(&error),
        }
    }
    let overlaps = overlap::compared(context, &planned.plan, Wanted::All)?;
    overlaps.refuse(context)?;
    for recipe in &planned.recipes {
        // Counted as in `plan` and `run`: a stage that variants share counts once.
        let variants = planned.plan.variants.iter().filter(|variant| variant.recipe == recipe.name);
        let stages: BTreeSet<usize> =
            variants.flat_map(|variant| variant.stages.iter().map(|(_, stage)| *stage)).collect();
        let stages = stages.len();
        if context.json {
            out.json(&json!({
                "recipe": recipe.name, "path": recipe.path, "variants": recipe.variants.len(), "stages": stages,
                "overlaps": overlaps.json(context, |variants, _| overlap::is_of_recipe(variants, &recipe.name)),
            }))?;
        } else {
            let variants = count(recipe.variants.len(), "variant");
            out.line(format!("{}: ok, {variants}, {}", recipe.path.display(), count(stages, "stage")))?;
        }
    }
    if !context.json {
        overlaps.print(context, &mut out, (context.verbose, true))?;
    }
    out.finish()
}
