//! The measurements of runs, question by question, and the comparisons that follow: plain data for `compare` and the
//! report.
//!
//! An *arm* is a variant without its seeds. A *trial* is one of its evaluations with one seed.
//! `history::gather_evidence` fills [`Evidence`] from the files of past runs. This module reads and writes no files.
//!
//! Missing data stays missing. A value that a judge did not give is a [`Score`] with a reason; a trial without a result
//! is a [`MissingTrial`]. Neither is ever 0 or left out of a mean without a report.

mod choices;
mod compare;
mod comparison;
mod controls;
mod cost;
mod gaps;
mod metric;
mod mix;
mod primary;
mod probes;
mod scores;
mod seed_search;
#[cfg(test)]
mod seed_search_tests;
mod sides;
mod swap;
#[cfg(test)]
mod tests;
mod trials;

pub use choices::{ChosenSnapshot, SnapshotChoice, choices};
pub use compare::{compare, metric_names, slice_names};
pub use comparison::{
    ALPHA, ArmComparison, Basis, ComparisonRequest, Comparisons, MetricComparison, Needed, Over, Role, Verdict, Way,
};
pub use controls::{ControlComparison, controls};
pub use cost::{Cost, JudgeCost, Spending, StageCost, VariantCost};
pub use mix::MixPart;
pub use probes::{ProbeRate, ProbedArm, ProbedReward};
pub use scores::scores_of;
pub use seed_search::{Decision, SearchLevels, SearchProblem, SearchState, SearchedArm, SeedSearch};
pub use swap::{EncoderSwap, SwapAgreement, SwapArm};
pub use trials::*;
