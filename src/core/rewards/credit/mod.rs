//! The credit of the parts of a text for its value: which sentence earned the reward.
//!
//! A text is cut into segments. The value of a *coalition*, some of the segments joined by spaces, is that which a
//! component gives to it. A segment's credit is its mean marginal contribution to coalitions: its Shapley value, its
//! Owen value, or an estimate of one (Owen-Shapley policy optimization, arXiv:2601.08403).

mod cut;
mod game;
mod segments;
mod spec;

pub use cut::Cut;
pub use spec::{CoalitionRule, OwenSpec, Segmentation, Sign};

use super::component::Measure;

/// Returns the reason why a component cannot value parts of a text; `None` if it can.
pub fn unfit(measure: &dyn Measure) -> Option<&'static str> {
    let reasons = [
        (measure.asks_a_server(), "asks a server, which every coalition of every completion would ask again"),
        (measure.fewest_samples() > 1, "compares completions with each other"),
        (measure.reads_the_policy(), "measures the policy's distributions, not a text"),
        (measure.is_control(), "does not read the text"),
    ];
    reasons.into_iter().find(|(is_unfit, _)| *is_unfit).map(|(_, why)| why)
}
