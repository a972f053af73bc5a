//! Group-relative policy optimization (GRPO). It samples a group of completions for each prompt, rates them, and raises
//! the probability of those that are better than their group's mean.
//!
//! It differs from the paper (arXiv:2402.03300) in three points:
//!
//! - By default the loss is normalized by the tokens of the whole step (DAPO, arXiv:2503.14476).
//! - The old log-probabilities are those of sampling, since the same engine samples and trains.
//! - The reference is the stage's input. It is computed only if `kl_coef` is not 0, and at every `kl_every` steps.

mod credit;
mod metrics;
mod pass_rates;
mod rollout;
mod stage;
mod update;

pub use self::update::{Rated, Reference, Sums, TokenAdvantages, UpdateOptions, accumulate};
pub(super) use stage::*;
