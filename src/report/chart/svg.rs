//! Writes SVG. Colours are attributes, so that a separate file can be printed. A page with classes of the same names
//! overrides them with the theme's colours.

use std::fmt::Write as _;

/// Colours of arms on white, distinguishable with every kind of colour vision (Okabe and Ito, 2008; the yellow
/// darkened). The baseline has the colour of text.
pub const ARM_COLOURS: [&str; 7] = ["#0072b2", "#d55e00", "#009e73", "#c0609a", "#d08700", "#4a9fd4", "#9a8b00"];

/// Dashes of the arms beyond the number of colours.
const DASHES: [&str; 4] = ["", "6 3", "2 3", "8 3 2 3"];

/// The colour and dashes of an element.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ink {
    /// Text and important marks.
    Text,
    /// Numbers of an axis.
    Muted,
    /// Lines of an axis.
    Grid,
    /// An arm, by its position among the arms other than the baseline.
    Arm(usize),
}

impl Ink {
    pub(super) fn class(self) -> String {
        match self {
            Self::Text => "ink-text".into(),
            Self::Muted => "ink-muted".into(),
            Self::Grid => "ink-grid".into(),
            Self::Arm(arm) => format!("ink-{}", arm % ARM_COLOURS.len()),
        }
    }

    fn colour(self) -> &'static str {
        match self {
            Self::Text => "#1b1e23",
            Self::Muted => "#5c6470",
            Self::Grid => "#dcdfe4",
            Self::Arm(arm) => ARM_COLOURS[arm % ARM_COLOURS.len()],
        }
    }

    fn dash(self) -> &'static str {
        match self {
            Self::Arm(arm) => DASHES[arm / ARM_COLOURS.len() % DASHES.len()],
            _ => "",
        }
    }
}

/// The position of a text relative to its point.
#[derive(Clone, Copy, Debug)]
pub(super) enum Anchor {
    Start,
    Middle,
    End,
}

impl Anchor {
    fn word(self) -> &'static str {
        match self {
            Self::Start => "start",
            Self::Middle => "middle",
            Self::End => "end",
        }
    }
}

/// A drawing in progress.
#[derive(Debug)]
pub(super) struct Svg {
    out: String,
}

impl Svg {
    /// Creates a drawing of this size in pixels. `label` describes its content.
    pub(super) fn new(width: f64, height: f64, label: &str) -> Self {
        let (w, h) = (round(width), round(height));
        Self {
            out: format!(
                "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {w} {h}\" width=\"{w}\" height=\"{h}\" \
                 font-family=\"system-ui, Helvetica, Arial, sans-serif\" font-size=\"12\" role=\"img\" aria-label=\"{}\">\n",
                escaped(label)
            ),
        }
    }

    pub(super) fn line(&mut self, (x1, y1): (f64, f64), (x2, y2): (f64, f64), ink: Ink, width: f64) {
        let (x1, y1, x2, y2) = (round(x1), round(y1), round(x2), round(y2));
        let (class, colour) = (ink.class(), ink.colour());
        let _ = writeln!(
            self.out,
            "<line x1=\"{x1}\" y1=\"{y1}\" x2=\"{x2}\" y2=\"{y2}\" class=\"{class}\" stroke=\"{colour}\" stroke-width=\"{width}\"/>"
        );
    }

    /// Draws a text on the line `y`.
    pub(super) fn text(&mut self, (x, y): (f64, f64), anchor: Anchor, ink: Ink, text: &str) {
        let (x, y, anchor) = (round(x), round(y), anchor.word());
        let (class, colour) = (ink.class(), ink.colour());
        let _ = writeln!(
            self.out,
            "<text x=\"{x}\" y=\"{y}\" text-anchor=\"{anchor}\" class=\"{class}\" fill=\"{colour}\">{}</text>",
            escaped(text)
        );
    }

    pub(super) fn circle(&mut self, (x, y): (f64, f64), radius: f64, ink: Ink, opacity: f64) {
        let (x, y, class, colour) = (round(x), round(y), ink.class(), ink.colour());
        let faint = if opacity < 1.0 { format!(" fill-opacity=\"{opacity}\"") } else { String::new() };
        let _ = writeln!(
            self.out,
            "<circle cx=\"{x}\" cy=\"{y}\" r=\"{radius}\" class=\"{class}\" fill=\"{colour}\" stroke=\"none\"{faint}/>"
        );
    }

    /// Draws a line through `points`, in the arm's colour and dashes.
    pub(super) fn polyline(&mut self, points: &[(f64, f64)], ink: Ink, width: f64) {
        let (class, colour, dash) = (ink.class(), ink.colour(), ink.dash());
        let dash = if dash.is_empty() { String::new() } else { format!(" stroke-dasharray=\"{dash}\"") };
        let _ = writeln!(
            self.out,
            "<path d=\"{}\" class=\"{class}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"{width}\" stroke-linejoin=\"round\"{dash}/>",
            path(points)
        );
    }

    /// Fills the area within `points` with a faint colour.
    pub(super) fn area(&mut self, points: &[(f64, f64)], ink: Ink) {
        let (class, colour) = (ink.class(), ink.colour());
        let _ = writeln!(
            self.out,
            "<path d=\"{}Z\" class=\"{class}\" fill=\"{colour}\" fill-opacity=\"0.14\" stroke=\"none\"/>",
            path(points)
        );
    }

    /// Adds an element that the other methods do not cover. The caller has escaped foreign text.
    pub(super) fn raw(&mut self, element: &str) {
        self.out.push_str(element);
        self.out.push('\n');
    }

    /// Begins a group of an arm's elements, which a page can hide. `title` is its tooltip.
    pub(super) fn begin_arm(&mut self, arm: usize, title: &str) {
        let _ = writeln!(self.out, "<g data-arm=\"{arm}\"><title>{}</title>", escaped(title));
    }

    pub(super) fn end_group(&mut self) {
        self.out.push_str("</g>\n");
    }

    pub(super) fn finish(mut self) -> String {
        self.out.push_str("</svg>\n");
        self.out
    }
}

/// Escapes `text` for an element or an attribute in double quotes. Characters that XML forbids are left out.
pub(super) fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\t' | '\n' => out.push(' '),
            c if c.is_control() || matches!(c, '\u{fffe}' | '\u{ffff}') => {}
            c => out.push(c),
        }
    }
    out
}

/// Rounds to a tenth of a pixel, which keeps files small.
pub(super) fn round(value: f64) -> f64 {
    let tenths = (value * 10.0).round() / 10.0;
    if tenths == 0.0 { 0.0 } else { tenths } // no `-0`
}

fn path(points: &[(f64, f64)]) -> String {
    let mut out = String::with_capacity(points.len() * 12);
    for (i, (x, y)) in points.iter().enumerate() {
        let _ = write!(out, "{}{} {}", if i == 0 { 'M' } else { 'L' }, round(*x), round(*y));
    }
    out
}

/// Estimates the width of `text` in pixels at a font size of 12 pixels.
pub(super) fn text_width(text: &str) -> f64 {
    text.chars().count() as f64 * 6.9
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_cannot_leave_their_element() {
        let mut svg = Svg::new(10.0, 10.0, "\"><script>");
        svg.text((0.0, -0.01), Anchor::Start, Ink::Text, "</text><script>&\u{0}\u{1b}");
        let drawn = svg.finish();
        assert!(!drawn.contains("<script>") && drawn.contains("&lt;/text&gt;&lt;script&gt;&amp;<"), "{drawn}");
        assert!(drawn.contains("y=\"0\""), "{drawn}");
    }

    #[test]
    fn arms_that_share_a_colour_differ_by_their_dashes() {
        let styles: std::collections::BTreeSet<_> =
            (0..28).map(|arm| (Ink::Arm(arm).colour(), Ink::Arm(arm).dash())).collect();
        assert_eq!(styles.len(), 28);
    }
}
