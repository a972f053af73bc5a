//! `orchestrate query`: SQL over the history.

use super::context::{Context, block_on};
use super::error::CliError;
use super::output::Output;
use crate::report::plain_table;
use crate::store::{Answer, Store};
use clap::Args;
use serde_json::{Map, Value};

/// Ask the history a question in SQL; nothing can be changed.
#[derive(Debug, Args)]
#[command(after_help = "\
Tables: runs, stages, metrics, results, completions, rewards (see migrations/).

  orchestrate query \"SELECT name, status, seconds FROM stages ORDER BY seconds DESC LIMIT 5\"
  orchestrate query \"SELECT step, value FROM metrics WHERE name = 'reward/mean'\" --json
  orchestrate query \"SELECT stop_reason, COUNT(*), AVG(reward) FROM completions GROUP BY stop_reason\"")]
pub(super) struct QueryArgs {
    /// A SELECT statement.
    sql: String,
}

pub(super) fn query(context: &Context, args: &QueryArgs) -> Result<(), CliError> {
    let path = context.runs().join("history.db");
    let answer = block_on(async { Ok(Store::open_read_only(&path).await?.query(&args.sql).await?) })?;
    let mut out = Output::stdout();
    if context.json {
        for row in &answer.rows {
            let fields = answer.columns.iter().cloned().zip(row.iter().cloned());
            out.json(&Value::Object(fields.collect::<Map<_, _>>()))?;
        }
    } else if !answer.rows.is_empty() {
        out.line(table(&answer))?;
    }
    out.finish()
}

fn table(answer: &Answer) -> String {
    let cell = |value: &Value| match value {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    let rows: Vec<Vec<String>> = answer.rows.iter().map(|row| row.iter().map(cell).collect()).collect();
    plain_table(&answer.columns, &rows)
}
