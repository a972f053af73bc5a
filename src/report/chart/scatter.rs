//! Points in a small square, e.g. reward over length.

use super::axis::Axis;
use super::ink_of;
use super::svg::{Anchor, Ink, Svg};

/// Draws the points of one arm. `all` are the points of every arm, which share the scales. `names` are the names of
/// both axes.
pub fn scatter_chart(
    label: &str,
    names: (&str, &str),
    (arm, points): (usize, &[(f64, f64)]),
    all: &[&[(f64, f64)]],
    baseline: Option<usize>,
) -> String {
    const WIDTH: f64 = 240.0;
    const HEIGHT: f64 = 170.0;
    const LEFT: f64 = 40.0;
    const BOTTOM: f64 = 36.0;
    let mut svg = Svg::new(WIDTH, HEIGHT, label);
    let every = || all.iter().flat_map(|points| points.iter());
    let x = Axis::holding(every().map(|point| point.0), LEFT, WIDTH - 8.0);
    let y = Axis::holding(every().map(|point| point.1), HEIGHT - BOTTOM, 18.0);
    for (value, text) in y.ticks(3.0) {
        svg.line((LEFT, y.at(value)), (WIDTH - 8.0, y.at(value)), Ink::Grid, 1.0);
        svg.text((LEFT - 6.0, y.at(value) + 4.0), Anchor::End, Ink::Muted, &text);
    }
    for (value, text) in x.ticks(4.0) {
        svg.text((x.at(value), HEIGHT - BOTTOM + 16.0), Anchor::Middle, Ink::Muted, &text);
    }
    svg.text((0.0, 11.0), Anchor::Start, Ink::Muted, names.1);
    svg.text((WIDTH - 8.0, HEIGHT - 5.0), Anchor::End, Ink::Muted, names.0);
    for point in points {
        svg.circle((x.at(point.0), y.at(point.1)), 2.4, ink_of(arm, baseline), 0.55);
    }
    svg.finish()
}
