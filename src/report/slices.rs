//! Slices in the terminal: the arms of a comparison by slice, and the measurements of a run by slice.

use super::comparison::ComparisonRow;
use super::table::{Column, Table};
use super::verdicts::{p_value, verdict_words};
use crate::evidence::{ArmComparison, MetricComparison, Verdict, Way};
use crate::metric::{rank, short_name};
use crate::number::{interval, measurement, number, signed};
use crate::printable::harmless;
use crate::slice::{Slice, whole_metric};
use std::collections::{BTreeMap, BTreeSet};

/// Returns the heading of a family of slices: `accuracy by subject: 57 slices`.
pub fn slice_heading(family: &[&MetricComparison], several_evaluations: bool) -> String {
    let [first, ..] = family else { return String::new() };
    let by = first.slice.as_ref().map_or("", |slice| slice.by.as_str());
    let evaluation = if several_evaluations { format!(" in {}", first.evaluation) } else { String::new() };
    let separable = family.iter().flat_map(|metric| &metric.arms).filter(|row| row.verdict.way().is_some()).count();
    let compared = family.iter().map(|metric| metric.arms.len()).sum::<usize>();
    format!(
        "{}{evaluation} by {}: {} slices, {separable} of {compared} differences separable",
        short_name(whole_metric(&first.metric)),
        harmless(by),
        family.len()
    )
}

/// Returns the table of a family of slices. One arm has all columns; of several arms, each is a column with its
/// difference from the baseline.
pub fn slice_table(family: &[&MetricComparison], baseline: &str) -> Table {
    let mut arms: Vec<&str> = Vec::new();
    for row in family.iter().flat_map(|metric| &metric.arms) {
        if !arms.contains(&row.arm.as_str()) {
            arms.push(&row.arm);
        }
    }
    let mut columns = vec![Column::left("slice"), Column::right("questions"), Column::right(baseline)];
    match arms.as_slice() {
        [only] => columns.extend([
            Column::right(*only),
            Column::right("difference"),
            Column::left("95% interval"),
            Column::right("p (Holm)").dropped(1),
            Column::left("verdict").wrapped(),
        ]),
        several => columns.extend(several.iter().map(|arm| Column::right(*arm))),
    }
    let mut table = Table::new(columns);
    for metric in family {
        let of = |arm: &str| metric.arms.iter().find(|row| row.arm == arm);
        let questions = metric.arms.iter().map(|row| row.questions).max().unwrap_or(0);
        let value = metric.slice.as_ref().map(|slice| harmless(&slice.value)).unwrap_or_default();
        let mut cells = vec![value, questions.to_string(), metric.baseline.map(number).unwrap_or_default()];
        match arms.as_slice() {
            [only] => cells.extend(of(only).map_or_else(|| vec![String::new(); 5], details)),
            several => cells.extend(several.iter().map(|arm| of(arm).map(difference).unwrap_or_default())),
        }
        table.push(cells);
    }
    table
}

fn details(row: &ArmComparison) -> Vec<String> {
    vec![
        row.value.map(number).unwrap_or_default(),
        row.difference.map(signed).unwrap_or_default(),
        row.interval.map(interval).unwrap_or_default(),
        row.p_corrected.map(p_value).unwrap_or_default(),
        match (&row.note, row.verdict) {
            (Some(note), Verdict::NotCompared | Verdict::NotSeparable) => format!("{}: {note}", verdict_words(row)),
            _ => verdict_words(row),
        },
    ]
}

/// Formats `+0.12 better`, or `+0.02` where the arm is not separable.
fn difference(row: &ArmComparison) -> String {
    let Some(difference) = row.difference else { return "not compared".to_owned() };
    let word = row.verdict.way().map_or("", Way::word);
    format!("{} {word}", signed(difference)).trim_end().to_owned()
}

/// Returns a table for each expression that slices the evaluations of `rows`, with its title. A row is a slice, and a
/// column an evaluation, with the main metric that has slices.
pub fn measured_slices(rows: &[ComparisonRow]) -> Vec<(String, Table)> {
    let mut found: BTreeMap<String, BTreeMap<&str, BTreeSet<String>>> = BTreeMap::new();
    for name in rows.iter().flat_map(|row| row.measurements.keys()) {
        if let Some((whole, slice)) = Slice::of_metric(name) {
            found.entry(slice.by).or_default().entry(whole).or_default().insert(slice.value);
        }
    }
    let mut tables = Vec::new();
    for (by, metrics) in found {
        let Some((metric, values)) = metrics.into_iter().min_by_key(|(name, _)| (rank(name), *name)) else { continue };
        let of = |row: &ComparisonRow, value: &String| {
            let name = Slice { by: by.clone(), value: value.clone() }.metric(metric);
            row.measurements.get(&name).copied()
        };
        let has_any = |row: &&ComparisonRow| values.iter().any(|value| of(row, value).is_some());
        let shown: Vec<&ComparisonRow> = rows.iter().filter(has_any).collect();
        let mut columns = vec![Column::left(harmless(&by)), Column::right("questions")];
        columns.extend(shown.iter().map(|row| Column::right(format!("{} {}", row.variant, row.stage))));
        let mut table = Table::new(columns);
        for value in &values {
            let cells: Vec<_> = shown.iter().map(|row| of(row, value)).collect();
            let count = cells.iter().flatten().filter_map(|measured| measured.count).max();
            let mut texts = vec![harmless(value), count.map(|count| count.to_string()).unwrap_or_default()];
            texts.extend(cells.iter().map(|cell| cell.as_ref().map(measurement).unwrap_or_default()));
            table.push(texts);
        }
        tables.push((format!("{} by {}", short_name(metric), harmless(&by)), table));
    }
    tables
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::Measurement;

    #[test]
    fn a_run_shows_its_main_metric_by_slice() {
        let measured = |value: f64, count: u64| Measurement { value, interval: None, count: Some(count) };
        let slice = |value: &str| Slice { by: "subject".to_owned(), value: value.to_owned() };
        let row = |variant: &str, lead: f64| ComparisonRow {
            variant: variant.to_owned(),
            stage: "eval".to_owned(),
            measurements: [
                ("eval/accuracy".to_owned(), measured(0.5 + lead, 5)),
                (slice("biology").metric("eval/accuracy"), measured(0.75 + lead, 4)),
                (slice("a\u{1b}[31m").metric("eval/accuracy"), measured(0.5 + lead, 1)),
                (slice("biology").metric("eval/words_mean"), measured(12.0, 4)),
            ]
            .into(),
            ..ComparisonRow::default()
        };
        let tables = measured_slices(&[row("r/sft", 0.0), row("r/cot", 0.125)]);
        assert_eq!(tables.len(), 1);
        assert_eq!(tables[0].0, "accuracy by subject");
        insta::assert_snapshot!(tables[0].1.render(100), @r"
        subject      questions  r/sft eval  r/cot eval
        ──────────────────────────────────────────────
        a\u{1b}[31m          1        0.50        0.62
        biology              4        0.75        0.88
        ");
    }
}
