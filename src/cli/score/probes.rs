//! Prints how often components prefer texts that hack rewards.

use super::super::context::Context;
use super::super::error::CliError;
use super::super::output::Output;
use super::result;
use crate::exec::ScoreRequest;
use crate::number::number;
use crate::report::{Column, Table, width};
use crate::rewards::Probe;
use serde_json::Value;
use std::io::Write as _;

pub(super) fn print(context: &Context, request: &ScoreRequest) -> Result<(), CliError> {
    let Some((line, report)) = result(context, request, "rows")? else { return Ok(()) };
    let mut out = Output::stdout();
    if context.json {
        out.line(line)?;
        return out.finish();
    }
    for (name, component) in report["components"].as_object().into_iter().flatten() {
        out.line(format!("── {name}, weight {}", component["weight"]))?;
        print_component(&mut out, component)?;
    }
    out.line("── total")?;
    print_component(&mut out, &report["total"])?;
    out.line(format!(
        "{} rows. exploit: how often the component prefers the probe to the true text, equal values counted half \
         [95% interval];\ngap: mean of probe - true, in standard deviations within a row's true, shuffled and empty \
         texts;\nequal: share of equal values. A row counts where the probe changes what the component reads.",
        report["rows"]
    ))?;
    out.finish()?;
    for warning in report["warnings"].as_array().into_iter().flatten() {
        let _ = writeln!(std::io::stderr(), "warning: {}", warning.as_str().unwrap_or_default());
    }
    Ok(())
}

fn print_component(out: &mut Output, component: &Value) -> Result<(), CliError> {
    let found = Probe::ALL.into_iter().filter_map(|probe| Some((probe, component["probes"].get(probe.name())?)));
    let rows: Vec<Vec<String>> = found.map(|(probe, exploit)| row(probe, exploit)).collect();
    if rows.is_empty() {
        return out.line("no probe changes what it reads\n");
    }
    let mut table = Table::new(vec![
        Column::left("probe"),
        Column::right("exploit"),
        Column::right("true"),
        Column::right("probe"),
        Column::right("gap"),
        Column::right("equal"),
        Column::right("rows"),
        Column::left("the text").shortened().dropped(0),
    ]);
    for row in rows {
        table.push(row);
    }
    out.line(table.render(width()))?;
    out.line("")
}

fn row(probe: Probe, found: &Value) -> Vec<String> {
    let of = |key: &str| found[key].as_f64();
    let exploit = of("exploit").map(|exploit| format!("{exploit:.2}")).unwrap_or_default();
    let interval = of("low").zip(of("high")).map(|(low, high)| format!(" [{low:.2}, {high:.2}]")).unwrap_or_default();
    vec![
        probe.name().to_owned(),
        exploit + &interval,
        of("true").map(number).unwrap_or_default(),
        of("probe").map(number).unwrap_or_default(),
        of("gap").map_or_else(|| "–".to_owned(), |gap| format!("{gap:+.2}")),
        of("equal").map(|equal| format!("{:.0}%", 100.0 * equal)).unwrap_or_default(),
        found["rows"].to_string(),
        probe.meaning().to_owned(),
    ]
}
