//! The GRPO objective as pure functions: rewards to advantages, lengths to token weights, log-probabilities to a loss.
//!
//! The tokens of all completions are laid end to end, (N,), and `lengths` holds the number of tokens of each
//! completion. A loss is a weighted *sum* over the tokens of a whole optimizer step, so micro-batches add up to the
//! same loss.
//!
//! | `loss_type` | surrogate of a token | weight of a token |
//! |---|---|---|
//! | `grpo` (arXiv:2402.03300) | clipped ratio of the token | `1 / (length of its completion x completions)` |
//! | `dapo` (arXiv:2503.14476) | clipped ratio of the token | `1 / tokens of the step` |
//! | `dr_grpo` (arXiv:2503.20783) | clipped ratio of the token | `1 / (completions x max_new_tokens)` |
//! | `gspo` (arXiv:2507.18071) | clipped ratio of its completion | `1 / (length of its completion x completions)` |
//! | `cispo` (arXiv:2506.13585) | log-probability times the capped ratio, without gradient | `1 / tokens of the step` |

mod advantages;
mod credit;
mod gdpo;
mod objective;
mod overlong;
mod weights;

pub use advantages::{advantages, has_spread};
pub use credit::{dealt, soft_returns};
pub use gdpo::{Column, RunningStd, gdpo_advantages};
pub use objective::{PolicyInputs, PolicyKnobs, PolicyLoss, Surrogate, policy_loss};
pub use overlong::overlong_penalty;
pub use weights::token_weights;
