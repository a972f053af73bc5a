//! Charts as SVG, for the report and for papers.
//!
//! Each chart function takes plain values and returns a whole `<svg>`. In a page, the style sheet sets the theme's
//! colours by the classes `ink-...`. A separate file has the colours of white paper.

mod axis;
mod curves;
mod forest;
mod graph;
mod heat;
mod ink;
mod scatter;
mod svg;

pub use curves::{Bucket, CurveLine, buckets, curve_chart};
pub use forest::{Whisker, forest_chart, strip};
pub use graph::{GraphNode, NodeStatus, graph_chart};
pub use heat::{HeatCell, Shade, heat_chart};
pub use ink::arm_class;
pub use scatter::scatter_chart;
pub use svg::ARM_COLOURS;

use ink::ink_of;
