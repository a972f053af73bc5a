//! What a kind of stage tells the planner.

use crate::plan::memory::{MemoryEstimate, StageModel};
use crate::recipe::spec::{ModelSpec, Work};
use serde_json::Value;
use std::collections::BTreeMap;

/// Bytes of a token of text, about.
pub(super) const TOKEN_BYTES: f64 = 4.0;
/// Bytes of a row of questions, about.
pub(super) const ROW_BYTES: f64 = 500.0;
/// What decoding a token costs beside reading one, about: the weights are read for a few rows at a time.
pub(super) const DECODING: f64 = 10.0;

/// What planning has to know of a stage's work.
pub trait PlannedWork {
    /// The version of the code behind it: one more whenever the same spec gives another result.
    fn version(&self) -> u32;

    /// Tokens that it reads, those it decodes counting more, of `data_bytes` bytes of data: an estimate that orders
    /// stages without looking into their data.
    fn work_size(&self, data_bytes: u64) -> f64;

    /// Bytes at the peak, on this model; absent where it is unknown.
    fn memory(&self, model: &StageModel<'_>) -> Option<MemoryEstimate>;

    /// What decides which tokens it sees, besides the model's tokenizer.
    fn reads(&self) -> Value;

    /// Requests that it sends to each judge, by its name, when no two completions are equal, none is empty, and no
    /// answer is kept from before; prompts that may be drawn in addition are counted. Retries are not. An evaluation's
    /// data sets are not counted before they are read, so nothing is said of it, nor of an arena that asks all
    /// questions.
    fn judge_calls(&self) -> BTreeMap<String, u64> {
        BTreeMap::new()
    }

    /// The models that it has in memory, one at a time, beside the stage's own.
    fn further_models(&self) -> Vec<&ModelSpec> {
        Vec::new()
    }
}

/// `work` as planning sees it.
pub fn planned(work: &Work) -> &dyn PlannedWork {
    match work {
        Work::Cpt(spec) => spec,
        Work::Sft(spec) => spec,
        Work::Grpo(spec) => spec,
        Work::Eval(spec) => spec,
        Work::Command(spec) => spec,
        Work::Arena(spec) => spec,
    }
}
