//! Text output: tables for stdout, progress for stderr, and the HTML report.
//!
//! This module does not open files, query the database or decide anything; it turns values into text. Tables
//! ([`Table`], [`Comparison`], [`plan_tree`]) are strings that a command writes to stdout. Only the live displays,
//! such as [`Progress`], write by themselves, to stderr.

mod arena;
pub mod chart;
mod choices;
mod comparison;
mod controls;
mod costs;
mod counter;
mod downloads;
pub mod html;
mod main_curve;
mod mask;
mod paint;
mod plan_tree;
mod probes;
mod progress;
mod seed_search;
mod side_by_side;
mod slices;
mod spark;
mod stage_line;
mod swap;
mod table;
mod terminal;
mod verdicts;

pub use arena::{arena_details, arena_table};
pub use choices::choice_line;
pub use comparison::{Comparison, ComparisonRow};
pub use controls::control_line;
pub use costs::{cost_totals, stage_costs, variant_costs};
pub use counter::Counter;
pub use downloads::Downloads;
pub use main_curve::main_curve;
pub use mask::masked;
pub use plan_tree::{PlannedStatus, plan_tree};
pub use probes::{probe_heading, probe_table};
pub use progress::{Progress, ProgressMode};
pub use seed_search::{search_table, seed_list};
pub use side_by_side::{indented, side_by_side};
pub use slices::{measured_slices, slice_heading, slice_table};
pub use spark::sparkline;
pub use stage_line::{StageLine, headlines};
pub use swap::{swap_agreement, swap_table};
pub use table::{Align, Column, Table, plain_table};
pub use terminal::{filled, terminal_width, text_width, width};
pub use verdicts::{verdict_heading, verdict_line, verdict_table, verdict_words};
