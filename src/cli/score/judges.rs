//! Prints the reliability of judges.

use super::super::context::Context;
use super::super::error::CliError;
use super::super::output::Output;
use super::super::plan::count;
use super::result;
use crate::exec::ScoreRequest;
use crate::number::number;
use crate::printable::harmless;
use crate::report::{Column, Table, width};
use serde_json::Value;

pub(super) fn print(context: &Context, request: &ScoreRequest) -> Result<(), CliError> {
    let Some((line, reports)) = result(context, request, "questions")? else { return Ok(()) };
    let mut out = Output::stdout();
    if context.json {
        out.line(line)?;
        return out.finish();
    }
    for (name, report) in reports["components"].as_object().into_iter().flatten() {
        let mode = report["mode"].as_str().unwrap_or_default();
        let is_rubric = mode == "rubric";
        let items = count(size(&report["items"]), if is_rubric { "text" } else { "pair" });
        let repeats = count(size(&report["repeats"]), "time");
        out.line(format!("── {name} ({mode}): {items}, judged {repeats}"))?;
        out.line(table(report, is_rubric).render_wrapped(width()))?;
        if let Some(agreement) = agreement(&report["agreement"]) {
            out.line(agreement)?;
        }
        for (judge, measured) in report["judges"].as_object().into_iter().flatten() {
            for (reason, number) in measured["missing"].as_object().into_iter().flatten() {
                out.line(format!("– `{judge}` is missing {}: {}", count(size(number), "time"), harmless(reason)))?;
            }
        }
        out.line("")?;
    }
    out.line("value: mean ± deviation; again: deviation of the same question's repeats (share that changes);")?;
    out.line("position: share of pairs whose verdict keeps its position when the texts are swapped [95% interval]")?;
    out.finish()
}

fn table(report: &Value, is_rubric: bool) -> Table {
    let mut columns = vec![Column::left("judge"), Column::right("value"), Column::right("again")];
    if !is_rubric {
        columns.push(Column::right("position"));
    }
    let of_expenses = ["missing", "calls", "cached", "tokens in", "tokens out", "cost"];
    columns.extend(of_expenses.map(Column::right));
    let mut table = Table::new(columns);
    for (judge, measured) in report["judges"].as_object().into_iter().flatten() {
        let mut row = vec![harmless(judge), value(measured), again(&measured["repeat"])];
        if !is_rubric {
            row.push(position(&measured["position"]));
        }
        let missing: usize = measured["missing"].as_object().into_iter().flatten().map(|(_, count)| size(count)).sum();
        row.push(if missing == 0 { String::new() } else { missing.to_string() });
        row.extend(["calls", "cache_hits", "prompt_tokens", "completion_tokens"].map(|key| measured[key].to_string()));
        row.push(measured["cost_usd"].as_f64().map_or_else(|| "–".to_owned(), |cost| format!("${cost:.4}")));
        table.push(row);
    }
    table
}

fn value(measured: &Value) -> String {
    match (measured["mean"].as_f64(), measured["std"].as_f64()) {
        (Some(mean), Some(std)) => format!("{} ± {}", number(mean), number(std)),
        _ => "–".to_owned(),
    }
}

fn again(repeat: &Value) -> String {
    match (repeat["std"].as_f64(), repeat["changed"].as_f64()) {
        (Some(std), Some(changed)) => format!("{} ({:.0}%)", number(std), 100.0 * changed),
        _ => "–".to_owned(),
    }
}

fn position(bias: &Value) -> String {
    match (bias["share"].as_f64(), bias["low"].as_f64(), bias["high"].as_f64()) {
        (Some(share), Some(low), Some(high)) => {
            format!("{:.0}% [{:.0}, {:.0}]", 100.0 * share, 100.0 * low, 100.0 * high)
        }
        _ => "–".to_owned(),
    }
}

fn agreement(agreement: &Value) -> Option<String> {
    let items = size(&agreement["items"]);
    let (name, items) = match agreement["measure"].as_str()? {
        "cohen_kappa" => ("Cohen's kappa", count(items, "verdict")),
        "fleiss_kappa" => ("Fleiss' kappa", count(items, "verdict")),
        _ => ("Krippendorff's alpha", count(items, "text")),
    };
    let value = agreement["value"].as_f64().map_or_else(|| "unknown".to_owned(), |value| format!("{value:.3}"));
    Some(format!("agreement beyond chance, {name}: {value}, over {items}"))
}

fn size(value: &Value) -> usize {
    value.as_u64().and_then(|size| usize::try_from(size).ok()).unwrap_or_default()
}
