//! Planning of `eval` stages.

use super::{DECODING, PlannedWork, ROW_BYTES, encoders_of};
use crate::digest::Digest;
use crate::plan::memory::{MemoryEstimate, StageModel};
use crate::recipe::spec::{Dtype, EvalSpec};
use serde_json::{Value, json};

impl PlannedWork for EvalSpec {
    /// Returns the version of the code, whose changes were:
    ///
    /// - 2: completions name their questions.
    /// - 3: intervals stay within their metric's range, and letters are read from prose more carefully.
    fn version(&self) -> u32 {
        3
    }

    fn work_size(&self, data_bytes: u64) -> f64 {
        let completion = (self.samples_per_question * self.sampling.max_new_tokens) as f64;
        data_bytes as f64 / ROW_BYTES * completion * DECODING
    }

    fn memory(&self, model: &StageModel<'_>) -> Option<MemoryEstimate> {
        Some(model.sampling(&self.sampling, self.batch_size))
    }

    fn encoders(&self) -> Vec<(&Digest, Dtype)> {
        encoders_of(&self.rewards)
    }

    fn reads(&self) -> Value {
        json!(["eval", self.data, self.text, self.sampling.max_prompt_tokens, self.by])
    }
}
