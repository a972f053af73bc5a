//! Prints rated texts, as a table or one after the other.

use super::super::context::Context;
use super::super::error::CliError;
use super::super::output::Output;
use super::{answers, parsed};
use crate::exec::ScoreRequest;
use crate::number::{number, signed};
use crate::printable::harmless;
use crate::report::{Column, Counter, ProgressMode, Table, indented, terminal_width, width};
use serde_json::Value;
use std::collections::BTreeMap;

/// The maximum number of characters of a completion in a table row.
const KEPT: usize = 200;

/// Prints a row for each text. The table is as wide as its widest row, so it is printed at the end.
pub(super) fn print_table(context: &Context, request: &ScoreRequest) -> Result<(), CliError> {
    let counter = Counter::new(context.progress_mode(), "texts");
    let mut table: Option<Table> = None;
    let mut missing: BTreeMap<String, usize> = BTreeMap::new();
    let mut rows = 0;
    let ended = answers(request, |line| {
        let text = parsed(line)?;
        let parts = parts(&text);
        let table = table.get_or_insert_with(|| {
            let mut columns = vec![Column::left("line").shortened().dropped(1), Column::right("total")];
            columns.extend(parts.iter().map(|(name, _)| Column::right(name.clone())));
            columns.push(Column::left("completion").shortened().dropped(0));
            Table::new(columns)
        });
        let mut row = vec![place(&text), value(&text["total"])];
        for (name, part) in &parts {
            row.push(value(&part["value"]));
            if let Some(reason) = part["reason"].as_str() {
                *missing.entry(format!("{name}: {reason}")).or_default() += 1;
            }
        }
        row.push(one_line(text["completion"].as_str().unwrap_or_default()));
        table.push(row);
        rows += 1;
        counter.at(rows, None);
        Ok(())
    });
    drop(counter);
    let mut out = Output::stdout();
    if let Some(table) = table {
        out.line(table.render(width()))?;
    }
    for (reason, count) in missing {
        out.line(format!("– missing in {count} of {rows}: {}", harmless(&reason)))?;
    }
    out.finish()?;
    ended
}

/// Prints each text as it arrives: as JSON, or with the value of each component.
pub(super) fn print_each(context: &Context, request: &ScoreRequest, explain: bool) -> Result<(), CliError> {
    // On one terminal, the counter and the texts would overwrite each other.
    let mode = if terminal_width().is_some() { ProgressMode::Quiet } else { context.progress_mode() };
    let counter = Counter::new(mode, "texts");
    let mut rows = 0;
    answers(request, |line| {
        let mut out = Output::stdout();
        if context.json {
            out.line(line)?; // unparsed, because a round trip may change the last digit of a number
        } else {
            print(&mut out, &parsed(line)?, explain)?;
        }
        rows += 1;
        counter.at(rows, None);
        out.finish()
    })
}

fn print(out: &mut Output, text: &Value, explain: bool) -> Result<(), CliError> {
    out.line(format!("── {}  total {}", place(text), value(&text["total"])))?;
    let completion = harmless(text["completion"].as_str().unwrap_or_default().trim_end());
    out.line(indented("completion", &completion, terminal_width()))?;
    for (name, part) in parts(text) {
        let weight = part["weight"].as_f64().unwrap_or_default();
        let mut said = match part["reason"].as_str() {
            Some(reason) => format!("missing: {reason}"),
            None if weight == 0.0 => format!("{}, held out", value(&part["value"])),
            None => format!("{} x {weight}", value(&part["value"])),
        };
        if let Some(explanation) = part["explanation"].as_str().filter(|_| explain) {
            said.push('\n');
            said.push_str(explanation);
        }
        let segments = part["credit"].as_array().into_iter().flatten();
        let earned = segments.clone().any(|segment| segment["credit"].as_f64() != Some(0.0));
        for segment in segments.filter(|_| earned) {
            let credit = signed(segment["credit"].as_f64().unwrap_or_default());
            said.extend(["\n", &credit, " ", segment["text"].as_str().unwrap_or_default()]);
        }
        out.line(indented(&name, &harmless(&said), terminal_width()))?;
    }
    out.line("")
}

fn parts(text: &Value) -> Vec<(String, Value)> {
    let parts = text["parts"].as_object().cloned().unwrap_or_default();
    parts.into_iter().collect()
}

fn place(text: &Value) -> String {
    harmless(text["location"].as_str().unwrap_or_default())
}

fn value(value: &Value) -> String {
    value.as_f64().map_or_else(|| "–".to_owned(), number)
}

fn one_line(text: &str) -> String {
    let line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    harmless(&line.chars().take(KEPT).collect::<String>())
}
