//! Group-relative policy optimization: sample a group of completions for each prompt, rate them, and raise the
//! probability of what is better than its group's mean.
//!
//! As in the paper (arXiv:2402.03300) but for three things: the loss is normalized by the tokens of the whole step by
//! default (DAPO, arXiv:2503.14476); the log-probabilities of sampling are the old ones, since the same engine samples and
//! trains; and the reference is the stage's input, asked only when `kl_coef` is not 0.

mod metrics;
mod rollout;
mod stage;
mod update;

pub use self::update::{Rated, Reference, Sums, UpdateOptions, accumulate};
pub(super) use stage::*;
