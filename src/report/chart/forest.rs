//! Forest plots: estimates with their intervals, one below the other.

use super::axis::Axis;
use super::svg::{Anchor, Ink, Svg, round, text_width};
use serde::Serialize;

/// An estimate with its interval.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Whisker {
    /// The name of the estimated item.
    pub name: String,
    /// The estimate.
    pub value: f64,
    /// The lower end of the 95% interval.
    pub low: f64,
    /// The upper end of the 95% interval.
    pub high: f64,
}

const ROW: f64 = 26.0;
const WIDTH: f64 = 640.0;

/// Draws the forest plot of `rows` in their order. A line marks `reference`, e.g. no difference.
pub fn forest_chart(label: &str, rows: &[Whisker], reference: Option<f64>) -> String {
    let names = rows.iter().map(|row| text_width(&row.name)).fold(60.0, f64::max).min(260.0);
    let (left, right) = (names + 20.0, WIDTH - 150.0);
    let height = ROW * rows.len() as f64 + 44.0;
    let bottom = height - 30.0;
    let mut svg = Svg::new(WIDTH, height, label);
    let axis = Axis::holding(rows.iter().flat_map(|row| [row.low, row.high, row.value]).chain(reference), left, right);
    for (value, text) in axis.ticks(5.0) {
        svg.line((axis.at(value), 6.0), (axis.at(value), bottom), Ink::Grid, 1.0);
        svg.text((axis.at(value), bottom + 18.0), Anchor::Middle, Ink::Muted, &text);
    }
    if let Some(reference) = reference {
        svg.line((axis.at(reference), 6.0), (axis.at(reference), bottom), Ink::Muted, 1.2);
    }
    for (i, row) in rows.iter().enumerate() {
        let y = 8.0 + ROW * (i as f64 + 0.5);
        svg.text((names + 8.0, y + 4.0), Anchor::End, Ink::Text, &row.name);
        whisker(&mut svg, &axis, row, y);
        let numbers = format!("{} [{}, {}]", places(row.value, rows), places(row.low, rows), places(row.high, rows));
        svg.text((WIDTH - 4.0, y + 4.0), Anchor::End, Ink::Muted, &numbers);
    }
    svg.finish()
}

/// Draws one row of a forest plot without text, for the cell of a table. `all` are the rows that share its scale.
pub fn strip<'a>(
    row: &Whisker,
    all: impl IntoIterator<Item = &'a Whisker>,
    reference: Option<f64>,
    width: f64,
) -> String {
    let label = format!("{} between {} and {}", row.value, row.low, row.high);
    let mut svg = Svg::new(width, 22.0, &label);
    let values = all.into_iter().flat_map(|other| [other.low, other.high, other.value]).chain(reference);
    let axis = Axis::holding(values, 4.0, width - 4.0);
    svg.line((4.0, 11.0), (width - 4.0, 11.0), Ink::Grid, 1.0);
    if let Some(reference) = reference {
        svg.line((axis.at(reference), 2.0), (axis.at(reference), 20.0), Ink::Muted, 1.2);
    }
    whisker(&mut svg, &axis, row, 11.0);
    svg.finish()
}

fn whisker(svg: &mut Svg, axis: &Axis, row: &Whisker, y: f64) {
    let (low, high) = (axis.at(row.low), axis.at(row.high));
    svg.line((low, y), (high, y), Ink::Arm(0), 2.0);
    for end in [low, high] {
        svg.line((end, y - 4.0), (end, y + 4.0), Ink::Arm(0), 1.5);
    }
    let (x, y) = (round(axis.at(row.value)), round(y));
    svg.circle((x, y), 4.0, Ink::Arm(0), 1.0);
}

/// Formats a value with as many decimals as the spread of the rows requires.
fn places(value: f64, rows: &[Whisker]) -> String {
    let spread = rows.iter().map(|row| (row.high - row.low).abs()).fold(0.0, f64::max);
    if spread >= 20.0 { format!("{value:.0}") } else { format!("{value:.2}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_forest_plot_has_a_row_for_each_estimate_with_its_numbers() {
        let row = |name: &str, value: f64| Whisker { name: name.into(), value, low: value - 40.0, high: value + 30.0 };
        let drawn = forest_chart("Elo", &[row("sft & more", 1500.0), row("base", 1380.4)], None);
        assert_eq!(drawn.matches("<circle").count(), 2);
        assert!(drawn.contains(">sft &amp; more<") && drawn.contains(">1380 [1340, 1410]<"), "{drawn}");
    }
}
