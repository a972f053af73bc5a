//! `orchestrate history`.

use super::context::Context;
use super::error::CliError;
use super::output::Output;
use super::records::{self, StageRow};
use crate::report::{Column, Table, duration, measurement, number, width};
use clap::Args;
use std::io::Write as _;

/// Which part of the past.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  orchestrate history
  orchestrate history --recipe demo --limit 0
  orchestrate history --json | jq 'select(.kind == \"eval\") | [.variant, .metrics.\"eval/accuracy\"]'

--json prints {\"run\",\"recipe\",\"variant\",\"stage\",\"kind\",\"key\",\"status\",\"started_at\",\"seconds\",
\"metrics\":{..},\"message\",\"tries\"}, one a line.")]
pub(super) struct HistoryArgs {
    /// Only stages of this recipe.
    #[arg(long, value_name = "NAME")]
    recipe: Option<String>,
    /// Rows at most, the newest first; 0: all.
    #[arg(long, value_name = "N", default_value_t = 40)]
    limit: usize,
}

pub(super) fn history(context: &Context, args: &HistoryArgs) -> Result<(), CliError> {
    let mut rows = records::stage_rows(context, None)?;
    if let Some(recipe) = &args.recipe {
        rows.retain(|row| row.recipe.split(' ').any(|name| name == recipe));
    }
    if rows.is_empty() && !context.quiet {
        // No data is no error: a script that asks an empty project gets an empty answer.
        let _ =
            writeln!(std::io::stderr(), "nothing has been run here yet\nhint: `orchestrate run RECIPE` runs a recipe");
    }
    let all = rows.len();
    if args.limit > 0 && !context.json {
        rows.truncate(args.limit);
    }
    print(context, &rows)?;
    if rows.len() < all && !context.quiet {
        let _ = writeln!(std::io::stderr(), "{} of {all} stages; `--limit 0` shows all", rows.len());
    }
    Ok(())
}

/// Prints stages of runs, for this command and `show`.
pub(super) fn print(context: &Context, rows: &[StageRow]) -> Result<(), CliError> {
    let mut out = Output::stdout();
    if context.json {
        for row in rows {
            out.json(&row.to_json())?;
        }
        return out.finish();
    }
    if rows.is_empty() {
        return out.finish();
    }
    let mut table = Table::new(vec![
        Column::left("run"),
        Column::left("started").dropped(2),
        Column::left("stage"),
        Column::left("variant").shortened().dropped(3),
        Column::left("key").dropped(1),
        Column::left("status"),
        Column::right("time"),
        Column::left("result").shortened(),
    ]);
    for row in rows {
        table.push(vec![
            if context.verbose { row.run.clone() } else { short_run(&row.run).to_owned() },
            row.started_at
                .map(|at| at.with_timezone(&chrono::Local).format("%m-%d %H:%M").to_string())
                .unwrap_or_default(),
            row.stage.clone(),
            row.variant.clone(),
            row.key.short().to_owned(),
            row.status.clone(),
            row.seconds.map(duration).unwrap_or_default(),
            result(row),
        ]);
    }
    out.line(table.render(width()))?;
    out.finish()
}

/// The end of a run's id: the beginning is the time, which runs of one hour share.
pub(super) fn short_run(run: &str) -> &str {
    &run[run.len().saturating_sub(6)..]
}

/// The numbers a stage is known by, or why it failed.
fn result(row: &StageRow) -> String {
    const MAIN: [(&str, &str); 5] = [
        ("eval/accuracy", "accuracy"),
        ("eval/reward/total", "reward"),
        ("eval/perplexity", "perplexity"),
        ("train/loss", "loss"),
        ("reward/mean", "reward"),
    ];
    if let Some(message) = &row.message {
        return message.clone();
    }
    let found = MAIN.iter().filter_map(|(name, word)| {
        let measured = row.metrics.get(*name)?;
        let shown = if measured.interval.is_some() { measurement(measured) } else { number(measured.value) };
        Some(format!("{word} {shown}"))
    });
    found.collect::<Vec<_>>().join("  ")
}
