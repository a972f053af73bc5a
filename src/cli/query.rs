//! `orchestrate query`: SQL over the history.

use super::context::{Context, block_on};
use super::error::CliError;
use super::output::Output;
use super::past;
use crate::export::csv_line;
use crate::orchestrate::Scope;
use crate::report::{Column, Table, plain_table, width};
use crate::store::{Answer, VIEWS};
use clap::{Args, ValueEnum};
use serde_json::{Map, Value, json};

/// Ask the history a question in SQL; nothing can be changed.
#[derive(Debug, Args)]
#[command(after_help = "\
Views: runs, stages, metrics, results, completions, rewards, cache. Their columns are stable, and --schema
explains them. `stages` has a row for each stage of a run; metrics, results, completions and rewards
belong to its cache `key`, since one result may serve many runs. The dialect is SQLite's.

Examples:
  orchestrate query --schema
  orchestrate query \"SELECT stage, status, seconds FROM stages ORDER BY seconds DESC LIMIT 5\"
  orchestrate query \"SELECT s.variant, r.value, r.low, r.high FROM stages s JOIN results r USING (key)
                     WHERE r.name = 'eval/accuracy' AND s.status IN ('ok', 'hit')\" --format csv
  orchestrate query \"SELECT step, value FROM metrics WHERE name = 'reward/mean'\" --json
  orchestrate query \"SELECT component, AVG(value), COUNT(missing) FROM rewards GROUP BY component\"
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
    block_on(async {
        let store = past::open(context, Scope::Everything).await?;
        let mut out = Output::stdout();
        match format {
            Format::Table => {
                let answer = store.query(sql).await?;
                if !answer.rows.is_empty() {
                    out.line(table(&answer))?;
                }
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
    })
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

fn table(answer: &Answer) -> String {
    let cell = |value: &Value| match value {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    let rows: Vec<Vec<String>> = answer.rows.iter().map(|row| row.iter().map(cell).collect()).collect();
    plain_table(&answer.columns, &rows)
}
