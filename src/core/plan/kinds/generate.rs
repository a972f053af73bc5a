//! Planning of `generate` stages.

use super::{DECODING, PlannedWork, ROW_BYTES, encoders_of};
use crate::digest::Digest;
use crate::plan::memory::{MemoryEstimate, StageModel};
use crate::recipe::spec::{Dtype, GenerateSpec};
use serde_json::{Value, json};

impl PlannedWork for GenerateSpec {
    fn version(&self) -> u32 {
        1
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
        json!(["generate", self.data, self.sampling.max_prompt_tokens])
    }
}
