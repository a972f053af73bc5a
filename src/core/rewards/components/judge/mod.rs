//! `judge`: language models that rate a text by a rubric (`scores`) or compare it with another text (`pairs`,
//! `versus`).
//!
//! Any server with OpenAI's chat completions can be used. Each sample becomes one request per judge (`prompt`), or two
//! per opponent. Requests that were sent before are answered from disk (`cache`). The others are sent, several at a
//! time (`panel`, `client`), over a `server` that retries after failures. An answer is a verdict or missing
//! (`verdict`). `judge_reliability` measures the judges themselves.
//!
//! Values depend only on the answers, not on their order or timing. Equal requests are sent once, and results follow
//! the order of the samples.
//!
#![doc = include_str!("../docs/judge.md")]

mod cache;
mod chat;
mod client;
mod judge_reliability;
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
mod writer;

pub(in crate::rewards) use self::cache::{Cache, key as cache_key};
pub(in crate::rewards) use self::client::Client;
pub use self::client::Expenses;
pub use self::judge_reliability::{Agreement, JudgeLab, JudgeMeasured, JudgeReport, PositionBias, RepeatSpread};
pub use self::keys::{OF_A_PAIR, PAIR_PROMPT, check_served, check_served_as};
pub use self::pairs::{Judgement, Pair, PairJudges, PairVerdict};
pub use self::spec::{Aggregate, JudgeMode, JudgeSampling, JudgeSpec, RubricScale};
pub use self::verdict::Preference;
pub(in crate::rewards) use self::verdict::shortened;
pub use self::writer::{JudgeWriter, WriterAnswer, WriterQuestion, WriterSampling};
pub use judge_reward::*;
