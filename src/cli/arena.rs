//! `orchestrate arena RUN`.

use super::context::Context;
use super::error::CliError;
use super::find::{find_run, past_runs};
use super::output::Output;
use crate::history::{LoggedPlan, arena_result};
use crate::report::{arena_details, arena_table, width};
use crate::workspace::Workspace;
use clap::Args;
use serde_json::Value;

/// Which arenas.
#[derive(Debug, Args)]
#[command(after_help = "\
Where the data set has `by`, a table has the ratings of each slice, from the comparisons on its questions alone. A
slice with a game on fewer than 5 questions, or with fewer than 10 games of some player, has no ratings.

Examples:
  orchestrate arena latest
  orchestrate arena latest --json | jq '.pooled.standings[] | {player, elo, interval}'

--json prints {\"run\",\"stage\",\"key\"} and the content of the result's `arena.json`, one arena a line. Beside that file,
`comparisons.jsonl` has every verdict, and `completions.parquet` every answer.")]
pub(super) struct ArenaArgs {
    /// A run's id, the beginning or end of one, or `latest`.
    #[arg(value_name = "RUN", default_value = "latest")]
    run: String,
    /// Only this arena.
    #[arg(value_name = "STAGE")]
    stage: Option<String>,
}

pub(super) fn arena(context: &Context, args: &ArenaArgs) -> Result<(), CliError> {
    let runs = past_runs(context)?;
    let past = find_run(&runs, &args.run)?;
    let plan = LoggedPlan::load(&past.log_dir)?;
    let workspace = Workspace::open(context.runs())?;
    let mut out = Output::stdout();
    let mut gap = "";
    for stage in super::find::find_stages(&plan, args.stage.as_deref(), &[])? {
        let Some(result) = arena_result(&workspace, &stage.key)? else { continue };
        if context.json {
            let mut line = serde_json::json!({ "run": past.run, "stage": stage.stage, "key": stage.key });
            let whole = serde_json::to_value(&result).expect("ratings are JSON");
            if let (Some(line), Value::Object(whole)) = (line.as_object_mut(), whole) {
                line.extend(whole);
            }
            out.json(&line)?;
        } else {
            out.line(format!("{gap}{}", arena_table(&stage.stage, &result, width())))?;
            out.line(format!("\n{}", arena_details(&result, width())))?;
        }
        gap = "\n";
    }
    out.finish()?;
    if gap.is_empty() {
        return Err(CliError::nothing("the run has no arena with a result")
            .hint("ratings come from stages of the kind `arena`, which run once all their players are trained"));
    }
    Ok(())
}
