//! A matrix of numbers, shaded.

use super::svg::{Anchor, Ink, Svg, escaped, round, text_width};

/// The shade of a cell. Numbers that are not separable have the same shade.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Shade {
    /// Not separable from the baseline, or the baseline itself.
    #[default]
    None,
    /// Better than the baseline.
    Better,
    /// Worse than the baseline.
    Worse,
}

impl Shade {
    const fn colour(self) -> &'static str {
        match self {
            Self::None => "#f6f7f8",
            Self::Better => "#cfe1ef",
            Self::Worse => "#fbdccb",
        }
    }
}

/// A cell: its number as text, and its shade.
#[derive(Clone, Debug, Default)]
pub struct HeatCell {
    /// The number.
    pub text: String,
    /// The comparison with the baseline.
    pub shade: Shade,
}

/// Draws the matrix with these names of rows and columns. Absent cells stay white.
pub fn heat_chart(label: &str, rows: &[String], columns: &[String], cells: &[Vec<Option<HeatCell>>]) -> String {
    const HIGH: f64 = 28.0;
    let left = rows.iter().map(|name| text_width(name)).fold(40.0, f64::max).min(260.0) + 16.0;
    let wide = columns.iter().map(|name| text_width(name)).fold(70.0, f64::max).min(150.0) + 12.0;
    let mut svg = Svg::new(left + wide * columns.len() as f64 + 4.0, HIGH * (rows.len() + 1) as f64 + 4.0, label);
    for (i, name) in columns.iter().enumerate() {
        svg.text((left + wide * (i as f64 + 0.5), 18.0), Anchor::Middle, Ink::Text, name);
    }
    for (i, (name, cells)) in rows.iter().zip(cells).enumerate() {
        let y = HIGH * (i + 1) as f64;
        svg.text((left - 10.0, y + 18.0), Anchor::End, Ink::Text, name);
        for (j, cell) in cells.iter().enumerate() {
            let Some(cell) = cell else { continue };
            let x = left + wide * j as f64;
            svg.raw(&format!(
                "<rect x=\"{}\" y=\"{}\" width=\"{}\" height=\"{}\" fill=\"{}\"/>\
                 <text x=\"{}\" y=\"{}\" text-anchor=\"middle\" fill=\"#1b1e23\">{}</text>",
                round(x + 1.0),
                round(y + 1.0),
                round(wide - 2.0),
                HIGH - 2.0,
                cell.shade.colour(),
                round(x + wide / 2.0),
                round(y + 18.0),
                escaped(&cell.text)
            ));
        }
    }
    svg.finish()
}
