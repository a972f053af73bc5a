//! `orchestrate query`: SQL over the history.

use super::context::{Context, block_on};
use super::error::{CliError, Kind};
use super::open_history;
use super::output::Output;
use crate::export::csv_line;
use crate::history::Scope;
use crate::report::{Column, Table, plain_table, width};
use crate::store::{VIEWS, check_question};
use clap::{Args, ValueEnum};
use serde_json::{Map, Value, json};
use std::time::Duration;
use tokio::time::timeout;

/// Query the history in SQL; nothing can be changed.
#[derive(Debug, Args)]
#[command(after_help = "\
Views: runs, stages, metrics, results, completions, rewards, cache. Their columns are stable, and --schema
explains them. `stages` has a row for each stage of a run; metrics, results, completions and rewards
belong to its cache `key`, since one result may serve many runs. The dialect is SQLite's.

Examples:
  orchestrate query --schema
  orchestrate query \"SELECT stage, status, seconds FROM stages ORDER BY seconds DESC LIMIT 5\"
  orchestrate query \"SELECT s.variant, r.value, r.low, r.high FROM stages s JOIN results r USING (key)
                     WHERE r.name = 'eval/accuracy' AND s.status IN ('ok', 'cached')\" --format csv
  orchestrate query \"SELECT step, value FROM metrics WHERE name = 'reward/mean'\" --json
  orchestrate query \"SELECT component, AVG(value), COUNT(missing) FROM rewards GROUP BY component\"
  orchestrate query \"SELECT COUNT(*) FROM completions\" --timeout 10
  orchestrate query \"SELECT stage, SUM(bytes) / 1e9 AS gigabytes FROM cache GROUP BY stage\"

--json prints one object a row, named by the columns; with --schema {\"view\",\"column\",\"type\",\"about\"}.")]
pub(super) struct QueryArgs {
    /// A SELECT statement.
    #[arg(required_unless_present = "schema")]
    sql: Option<String>,
    /// List the views with their columns.
    #[arg(long, conflicts_with = "sql")]
    schema: bool,
    /// How rows are printed [default: table]
    #[arg(long, value_name = "FORMAT", conflicts_with = "json")]
    format: Option<Format>,
    /// Time limit in seconds
    #[arg(long, value_name = "SECONDS", value_parser = parse_seconds)]
    timeout: Option<Duration>,
}

fn parse_seconds(text: &str) -> Result<Duration, String> {
    let seconds = text.parse().map_err(|_| "expected a number of seconds".to_owned());
    seconds.and_then(|seconds| Duration::try_from_secs_f64(seconds).map_err(|error| error.to_string()))
}

/// How rows are printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Format {
    /// Aligned columns.
    Table,
    /// Comma-separated values with a heading (RFC 4180).
    Csv,
    /// One object a line, as --json.
    Json,
}

pub(super) fn query(context: &Context, args: &QueryArgs) -> Result<(), CliError> {
    let format = args.format.unwrap_or(if context.json { Format::Json } else { Format::Table });
    let Some(sql) = &args.sql else { return print_schema(format) };
    check_question(sql).map_err(|error| {
        CliError::from_error(Kind::Usage, &error).hint("a query begins with SELECT, WITH, VALUES or EXPLAIN")
    })?;
    let answer = print_answer(context, sql, format);
    let Some(limit) = args.timeout else { return block_on(answer) };
    block_on(async {
        timeout(limit, answer).await.unwrap_or_else(|_| {
            let message = format!("the query did not finish within {} s (`--timeout`)", limit.as_secs_f64());
            Err(CliError::new(Kind::Interrupted, message))
        })
    })
}

async fn print_answer(context: &Context, sql: &str, format: Format) -> Result<(), CliError> {
    let store = open_history::open(context, Scope::Everything).await?;
    let mut out = Output::stdout();
    match format {
        Format::Table => {
            let columns = store.columns(sql).await?;
            let mut page = Vec::new();
            store
                .for_each_row(sql, &[], |row| {
                    page.push(row.iter().map(cell).collect());
                    if page.len() < PAGE_ROWS { Ok(()) } else { print_page(&mut out, &columns, &mut page) }
                })
                .await?;
            print_page(&mut out, &columns, &mut page)?;
        }
        Format::Csv => {
            let columns = store.columns(sql).await?;
            out.bytes(csv_line(columns.iter().cloned().map(Value::from)).as_bytes())?;
            store.for_each_row(sql, &[], |row| out.bytes(csv_line(row).as_bytes())).await?;
        }
        Format::Json => {
            let columns = store.columns(sql).await?;
            let object = |row| Value::Object(columns.iter().cloned().zip(row).collect::<Map<_, _>>());
            store.for_each_row(sql, &[], |row: Vec<Value>| out.json(&object(row))).await?;
        }
    }
    out.finish()
}

/// The number of rows per page. Larger results are laid out and printed page by page.
const PAGE_ROWS: usize = 1000;

/// Prints the rows of `page`, if there are any, and empties it.
fn print_page(out: &mut Output, columns: &[String], page: &mut Vec<Vec<String>>) -> Result<(), CliError> {
    if page.is_empty() {
        return Ok(());
    }
    out.line(plain_table(columns, &std::mem::take(page)))
}

fn cell(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

fn print_schema(format: Format) -> Result<(), CliError> {
    let mut out = Output::stdout();
    if format == Format::Csv {
        out.bytes(csv_line(["view", "column", "type", "about"].map(Value::from)).as_bytes())?;
    }
    for view in VIEWS {
        if format == Format::Table {
            let mut table =
                Table::new(vec![Column::left(view.name), Column::left("type"), Column::left("").shortened()]);
            for column in view.columns {
                table.push(vec![column.name.to_owned(), column.kind.word().to_owned(), column.about.to_owned()]);
            }
            out.line(format!("{}: {}\n\n{}\n", view.name, view.about, table.render(width())))?;
            continue;
        }
        for column in view.columns {
            let fields = [view.name, column.name, column.kind.word(), column.about];
            if format == Format::Csv {
                out.bytes(csv_line(fields.map(Value::from)).as_bytes())?;
            } else {
                let [view, column, kind, about] = fields;
                out.json(&json!({"view": view, "column": column, "type": kind, "about": about}))?;
            }
        }
    }
    out.finish()
}
