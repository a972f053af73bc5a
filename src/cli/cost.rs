//! `orchestrate cost RUN...`.

use super::context::Context;
use super::error::CliError;
use super::find::{find_runs, past_runs};
use super::output::Output;
use crate::history::gather_cost;
use crate::report::{cost_totals, stage_costs, variant_costs, width};
use crate::workspace::Workspace;
use clap::Args;
use serde_json::json;

/// Whose cost.
#[derive(Debug, Args)]
#[command(after_help = "\
Shows seconds, tokens, energy, judge calls and their cost at the recipe's prices, by stage and by variant. A
stage that variants share counts once in the sum, and fully in each variant: the variant's cost if it had run
alone. `own` is the part that no other variant shares. A cached stage cost these runs nothing; its original
cost is what the cache saved. `memory` is the peak that a stage held on its device, and `planned` is what
`plan` expected. What was not measured is left empty.

Examples:
  orchestrate cost latest
  orchestrate cost 01KAB3 7Q4XZ1 --json | jq 'select(.what == \"total\")'

--json prints {\"what\":\"stage\",\"stage\",\"kind\",\"key\",\"variants\":[..],\"spent\",\"hits\",\"made\",
\"memory\":{\"peak\":{\"resident_bytes\",\"gpu_bytes\"},\"planned_bytes\"}}, {\"what\":\"variant\",
\"variant\",\"stages\",\"shared\",\"made\",\"own\"} and {\"what\":\"total\",\"spent\",\"saved_by_cache\",\"saved_by_sharing\"}, one a line;
spent and the like are {\"seconds\",\"trained_tokens\",\"sampled_tokens\",\"energy_j\",\"judges\":{MODEL:{\"calls\",\"cache_hits\",
\"prompt_tokens\",\"completion_tokens\",\"cost_usd\"}}}, null where it was not measured.")]
pub(super) struct CostArgs {
    /// Ids of runs, their beginnings or ends, or `latest`.
    #[arg(value_name = "RUN", default_value = "latest")]
    runs: Vec<String>,
}

pub(super) fn cost(context: &Context, args: &CostArgs) -> Result<(), CliError> {
    let runs = past_runs(context)?;
    let chosen = find_runs(&runs, &args.runs)?;
    let cost = gather_cost(&Workspace::open(context.runs())?, &chosen, &runs)?;
    let mut out = Output::stdout();
    if context.json {
        for (what, lines) in [("stage", json!(cost.stages)), ("variant", json!(cost.variants))] {
            for line in lines.as_array().into_iter().flatten() {
                let mut line = line.clone();
                line["what"] = json!(what);
                out.json(&line)?;
            }
        }
        out.json(&json!({
            "what": "total", "spent": cost.spent, "saved_by_cache": cost.saved_by_cache,
            "saved_by_sharing": cost.saved_by_sharing,
        }))?;
        return out.finish();
    }
    for line in cost_totals(&cost) {
        out.line(line)?;
    }
    out.line(format!("\n{}", stage_costs(&cost).render(width())))?;
    if cost.variants.len() > 1 {
        out.line(format!("\n{}", variant_costs(&cost).render(width())))?;
    }
    out.finish()
}
