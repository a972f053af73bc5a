//! The credit of the parts of a text for its value: which sentence earned the reward.
//!
//! A text is cut into segments. The value of a *coalition*, some of the segments joined by spaces, is that which a
//! component gives to it. A segment's credit is its mean marginal contribution to coalitions: its Shapley value, its
//! Owen value, or an estimate of one (Owen-Shapley policy optimization, arXiv:2601.08403).

mod game;
mod segments;
mod spec;

pub use game::Game;
pub use segments::segments;
pub use spec::{CoalitionRule, OwenSpec, Segmentation, Sign};
