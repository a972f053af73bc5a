//! What runs measured, question by question, and what follows from it: plain data that `compare` and the report share.
//!
//! An *arm* is a variant without its seeds, a *trial* one of its evaluations with one seed. `history::gather_evidence`
//! fills [`Evidence`] from the files of past runs; nothing in this module reads or writes anything.
//!
//! What is missing stays missing: a value that no judge gave is a [`Score`] with a reason, a trial without a result is a
//! [`MissingTrial`]. Neither is ever 0, nor left out of a mean silently.

mod compare;
mod comparison;
mod cost;
mod gaps;
mod metric;
mod mix;
mod primary;
mod scores;
mod sides;
#[cfg(test)]
mod tests;
mod trials;

pub use compare::{compare, metric_names};
pub use comparison::{
    ALPHA, ArmComparison, Basis, ComparisonRequest, Comparisons, MetricComparison, Needed, Over, Role, Verdict, Way,
};
pub use cost::{Cost, JudgeCost, Spending, StageCost, VariantCost};
pub use mix::MixPart;
pub use scores::scores_of;
pub use trials::*;
