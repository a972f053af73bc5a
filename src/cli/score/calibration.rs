//! Prints how well the components of a mix separate good completions from bad ones.

use super::super::context::Context;
use super::super::error::CliError;
use super::super::output::Output;
use super::result;
use crate::exec::ScoreRequest;
use crate::number::number;
use crate::report::{Column, Table, width};
use serde_json::Value;
use std::io::Write as _;

pub(super) fn print(context: &Context, request: &ScoreRequest) -> Result<(), CliError> {
    let Some((line, calibration)) = result(context, request, "rows")? else { return Ok(()) };
    let mut out = Output::stdout();
    if context.json {
        out.line(line)?;
        return out.finish();
    }
    out.line(table(&calibration).render_wrapped(width()))?;
    out.line(format!(
        "\n{} rows, each with its own completion (true), another row's (shuffled) and an empty one; mean ± deviation",
        calibration["rows"]
    ))?;
    out.finish()?;
    for warning in calibration["warnings"].as_array().into_iter().flatten() {
        let _ = writeln!(std::io::stderr(), "warning: {}", warning.as_str().unwrap_or_default());
    }
    Ok(())
}

fn table(calibration: &Value) -> Table {
    let mut table = Table::new(vec![
        Column::left("component"),
        Column::right("weight"),
        Column::right("true"),
        Column::right("shuffled"),
        Column::right("empty"),
        Column::right("AUC true/shuffled"),
        Column::right("AUC true/empty"),
        Column::right("share"),
        Column::right("missing"),
    ]);
    let components = calibration["components"].as_object();
    for (name, component) in components.into_iter().flatten() {
        table.push(row(name, component));
    }
    table.push(row("total", &calibration["total"]));
    table
}

fn row(name: &str, component: &Value) -> Vec<String> {
    let spread = |spread: &Value| match (spread["mean"].as_f64(), spread["std"].as_f64()) {
        (Some(mean), Some(std)) => format!("{} ± {}", number(mean), number(std)),
        _ => "–".to_owned(),
    };
    let auc = |auc: &Value| auc.as_f64().map_or_else(|| "–".to_owned(), |auc| format!("{auc:.3}"));
    let missing = component["missing"].as_u64().unwrap_or_default();
    vec![
        name.to_owned(),
        component["weight"].as_f64().map(|weight| weight.to_string()).unwrap_or_default(),
        spread(&component["true"]),
        spread(&component["shuffled"]),
        spread(&component["empty"]),
        auc(&component["auc_shuffled"]),
        auc(&component["auc_empty"]),
        component["share"].as_f64().map(|share| format!("{:.0}%", 100.0 * share)).unwrap_or_default(),
        if missing == 0 { String::new() } else { missing.to_string() },
    ]
}
