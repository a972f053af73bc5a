//! `judge`: what language models say of a text, by a rubric (`scores`) or beside another text (`pairs`, `versus`).
//!
//! Any server of OpenAI's chat completions may judge. Each sample becomes one request for each judge (`prompt`), or two for
//! each opponent; those that were asked before are answered from disk (`cache`), the others are sent, several at a time (`panel`,
//! `client`, over a `server`, which is asked again after a failure). An answer is a verdict or nothing (`verdict`).
//! `instruments` measures the judges themselves.
//!
//! Values depend on the answers alone, never on their order or timing: equal requests are sent once, and results are put
//! together in the order of the samples.
#![doc = include_str!("../docs/judge.md")]

mod cache;
mod chat;
mod client;
mod instruments;
mod judge_reward;
mod keys;
mod pairs;
mod panel;
mod prompt;
mod scores;
mod spec;
#[cfg(test)]
mod testing;
mod verdict;
mod versus;

pub(in crate::rewards) use self::cache::{Cache, key as cache_key};
pub(in crate::rewards) use self::client::Client;
pub use self::client::Expenses;
pub use self::instruments::{Agreement, JudgeLab, JudgeMeasured, JudgeReport, PositionBias, RepeatSpread};
pub use self::keys::{OF_A_PAIR, PAIR_PROMPT, check_served};
pub use self::pairs::{Judgement, Pair, PairJudges, PairVerdict};
pub use self::spec::{Aggregate, JudgeMode, JudgeSampling, JudgeSpec, RubricScale};
pub use self::verdict::Preference;
pub(in crate::rewards) use self::verdict::shortened;
pub use judge_reward::*;
