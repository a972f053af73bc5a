//! `orchestrate metrics RUN [STAGE]`.

use super::args::RunStagesArgs;
use super::context::Context;
use super::error::CliError;
use super::find::{find_run, find_stages, past_runs, stage_title};
use super::output::Output;
use super::run_rows;
use crate::history::{LoggedPlan, Series};
use crate::metric::{Direction, METRICS};
use crate::number::number;
use crate::report::{Column, Table, sparkline, width};
use clap::Args;
use serde_json::json;

/// The width of a curve in columns.
const CURVE: usize = 32;

/// Whose metrics.
#[derive(Debug, Args)]
#[command(after_help = "\
Each line is one metric over the steps of a stage: its first, lowest, highest and last value and its curve.

Examples:
  orchestrate metrics latest
  orchestrate metrics latest grpo --name reward/mean --name grpo/kl
  orchestrate metrics latest grpo --json | jq -s 'map(select(.name == \"reward/mean\"))'
  orchestrate metrics --list                  every metric: unit, direction, meaning

--json prints {\"run\",\"stage\",\"variant\":[..],\"key\",\"step\",\"name\",\"value\"}, one a line; with --list
{\"metric\",\"unit\",\"better\",\"over_batches\",\"meaning\"}.")]
pub(super) struct MetricsArgs {
    #[command(flatten)]
    of: RunStagesArgs,
    /// Only metrics with this name or, ending in `/`, this beginning; can be repeated.
    #[arg(long, value_name = "NAME")]
    name: Vec<String>,
    /// List every metric that the program makes, with its unit, direction and meaning.
    #[arg(long, conflicts_with = "name")]
    list: bool,
}

/// Lists all metrics of the program.
fn list(context: &Context) -> Result<(), CliError> {
    let mut out = Output::stdout();
    let headings = ["metric", "unit", "better", "over batches"].map(Column::left);
    let mut table = Table::new(headings.into_iter().chain([Column::left("meaning").wrapped()]).collect());
    for metric in METRICS {
        let better = metric.direction.map(Direction::word);
        if context.json {
            out.json(&json!({
                "metric": metric.name, "unit": metric.unit.word(), "better": better,
                "over_batches": metric.over_batches.word(), "meaning": metric.meaning,
            }))?;
        } else {
            let cells = [metric.name, metric.unit.word(), better.unwrap_or_default(), metric.over_batches.word()];
            table.push(cells.into_iter().chain([metric.meaning]).map(str::to_owned).collect());
        }
    }
    if !context.json {
        out.line(table.render(width()))?;
        out.line("\nA word in braces is a name from the recipe.")?;
    }
    out.finish()
}

pub(super) fn metrics(context: &Context, args: &MetricsArgs) -> Result<(), CliError> {
    if args.list {
        return list(context);
    }
    let runs = past_runs(context)?;
    let past = find_run(&runs, &args.of.run)?;
    let plan = LoggedPlan::load(&past.log_dir)?;
    let mut out = Output::stdout();
    let mut found = false;
    for stage in find_stages(&plan, args.of.stage.as_deref(), &args.of.variants)? {
        let mut metrics = run_rows::stage_metrics(context, &stage.key)?;
        metrics.retain(|name, _| args.name.is_empty() || args.name.iter().any(|wanted| matches(wanted, name)));
        if metrics.is_empty() {
            continue;
        }
        if context.json {
            for (name, series) in &metrics {
                for (step, value) in series {
                    out.json(&json!({
                        "run": past.run, "stage": stage.stage, "variant": stage.variants, "key": stage.key,
                        "step": step, "name": name, "value": value,
                    }))?;
                }
            }
        } else {
            let gap = if found { "\n" } else { "" };
            out.line(format!("{gap}{}\n{}", stage_title(&plan, stage), table(&metrics).render(width())))?;
        }
        found = true;
    }
    out.finish()?;
    if found {
        return Ok(());
    }
    Err(CliError::nothing("no metric matches")
        .hint("`orchestrate metrics latest` shows all names; steps come with training"))
}

fn matches(wanted: &str, name: &str) -> bool {
    name == wanted || (wanted.ends_with('/') && name.starts_with(wanted))
}

fn table(metrics: &std::collections::BTreeMap<String, Series>) -> Table {
    let mut table = Table::new(vec![
        Column::left("metric").shortened(),
        Column::right("steps").dropped(1),
        Column::right("first"),
        Column::right("min").dropped(2),
        Column::right("max").dropped(2),
        Column::right("last"),
        Column::left("curve").dropped(3),
    ]);
    for (name, series) in metrics {
        let values: Vec<f64> = series.iter().map(|(_, value)| *value).collect();
        let low = values.iter().copied().fold(f64::INFINITY, f64::min);
        let high = values.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let (Some(first), Some(last)) = (values.first(), values.last()) else { continue };
        table.push(vec![
            name.clone(),
            values.len().to_string(),
            number(*first),
            number(low),
            number(high),
            number(*last),
            sparkline(&values, CURVE),
        ]);
    }
    table
}
