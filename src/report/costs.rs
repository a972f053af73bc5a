//! The costs of runs, as `cost` prints them.

use super::table::{Column, Table};
use crate::evidence::{Cost, Spending};
use crate::number::{duration, gib, rate};

/// Returns a table of all stages, each once: its cost, and the number of variants that share it.
pub fn stage_costs(cost: &Cost) -> Table {
    let mut columns = vec![Column::left("stage"), Column::left("variants").shortened()];
    columns.extend(spending_columns());
    columns.extend([Column::right("memory"), Column::right("planned"), Column::left("cached")]);
    let mut table = Table::new(columns);
    for stage in &cost.stages {
        let variants = match stage.variants.as_slice() {
            [only] => only.clone(),
            several => format!("shared by {}", several.len()),
        };
        let cached = match (stage.hits, stage.made.seconds) {
            (0, _) => String::new(),
            (_, Some(seconds)) => format!("saved {}", duration(seconds * f64::from(stage.hits))),
            (_, None) => "cached; its duration is unknown".to_owned(),
        };
        let mut cells = vec![stage.stage.clone(), variants];
        cells.extend(spending(&stage.spent));
        cells.push(stage.memory.map(|memory| gib(memory.peak.of_device())).unwrap_or_default());
        cells.push(stage.memory.and_then(|memory| memory.planned_bytes).map(gib).unwrap_or_default());
        cells.push(cached);
        table.push(cells);
    }
    table
}

/// Returns a table of all variants: the cost of all their stages, and the time of those that no other variant shares.
pub fn variant_costs(cost: &Cost) -> Table {
    let mut columns = vec![Column::left("variant"), Column::left("stages"), Column::right("own")];
    columns.extend(spending_columns());
    let mut table = Table::new(columns);
    for variant in &cost.variants {
        let stages = match variant.shared {
            0 => variant.stages.to_string(),
            shared => format!("{}, {shared} shared", variant.stages),
        };
        let mut cells = vec![variant.variant.clone(), stages, variant.own.seconds.map(duration).unwrap_or_default()];
        cells.extend(spending(&variant.made));
        table.push(cells);
    }
    table
}

/// Returns the totals spent and saved, one line each.
pub fn cost_totals(cost: &Cost) -> Vec<String> {
    let line = |what: &str, spending: &Spending| {
        let words = words(spending);
        (!words.is_empty()).then(|| format!("{what}: {}", words.join(", ")))
    };
    [
        line("spent, each shared stage once", &cost.spent),
        line("saved by the cache", &cost.saved_by_cache),
        line("saved by sharing stages between variants", &cost.saved_by_sharing),
    ]
    .into_iter()
    .flatten()
    .collect()
}

fn words(spending: &Spending) -> Vec<String> {
    let mut words = Vec::new();
    words.extend(spending.seconds.map(duration));
    words.extend(spending.trained_tokens.map(|tokens| format!("{} tokens trained on", rate(tokens as f64))));
    words.extend(spending.sampled_tokens.map(|tokens| format!("{} tokens sampled", rate(tokens as f64))));
    words.extend(spending.energy_j.map(energy));
    words.extend(spending.judge_calls().map(|calls| format!("{calls} judge calls")));
    words.extend(spending.cost_usd().map(dollars));
    words
}

fn spending_columns() -> [Column; 6] {
    ["time", "trained tokens", "sampled tokens", "energy", "judge calls", "judge cost"].map(Column::right)
}

fn spending(spending: &Spending) -> [String; 6] {
    let count = |count: Option<u64>| count.map(|count| rate(count as f64)).unwrap_or_default();
    [
        spending.seconds.map(duration).unwrap_or_default(),
        count(spending.trained_tokens),
        count(spending.sampled_tokens),
        spending.energy_j.map(energy).unwrap_or_default(),
        spending.judge_calls().map(|calls| calls.to_string()).unwrap_or_default(),
        spending.cost_usd().map(dollars).unwrap_or_default(),
    ]
}

fn energy(joules: f64) -> String {
    format!("{:.3} kWh", joules / 3.6e6)
}

fn dollars(usd: f64) -> String {
    if usd < 0.995 { format!("${usd:.4}") } else { format!("${usd:.2}") }
}
