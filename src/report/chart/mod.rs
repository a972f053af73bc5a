//! Charts as SVG, for the report and for papers.
//!
//! Each takes plain values and gives a whole `<svg>`. In a page, its style sheet gives the colours of the theme by the classes
//! `ink-...`; a file of its own has those of white paper.

mod axis;
mod curves;
mod forest;
mod graph;
mod heat;
mod scatter;
mod svg;

pub use curves::{Bucket, CurveLine, buckets, curve_chart};
pub use forest::{Whisker, forest_chart, strip};
pub use graph::{GraphNode, NodeStatus, graph_chart};
pub use heat::{HeatCell, Shade, heat_chart};
pub use scatter::scatter_chart;
pub use svg::ARM_COLOURS;

use svg::Ink;

/// How an arm is drawn: the baseline in the colour of text, the others in their own.
fn ink_of(arm: usize, baseline: Option<usize>) -> Ink {
    match baseline {
        Some(baseline) if arm == baseline => Ink::Text,
        Some(baseline) if arm > baseline => Ink::Arm(arm - 1),
        _ => Ink::Arm(arm),
    }
}

/// The class that gives an arm its colour in a page.
pub fn arm_class(arm: usize, baseline: Option<usize>) -> String {
    ink_of(arm, baseline).class()
}
