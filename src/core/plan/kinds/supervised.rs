//! Planning of `cpt` and `sft` stages.

use super::{PlannedWork, TOKEN_BYTES};
use crate::plan::memory::{MemoryEstimate, StageModel};
use crate::recipe::spec::{CptSpec, Length, SftSpec};
use serde_json::{Value, json};

/// Returns the tokens of a number of steps, or of a number of passes over the data.
fn tokens(length: &Length, rows_per_step: usize, row_tokens: usize, data_bytes: u64) -> f64 {
    match length {
        Length::Steps(steps) => *steps as f64 * (rows_per_step * row_tokens) as f64,
        Length::Epochs(epochs) => epochs * data_bytes as f64 / TOKEN_BYTES,
    }
}

impl PlannedWork for CptSpec {
    fn version(&self) -> u32 {
        1
    }

    fn work_size(&self, data_bytes: u64) -> f64 {
        tokens(&self.length, self.global_batch_size, self.seq_len, data_bytes)
    }

    fn memory(&self, model: &StageModel<'_>) -> Option<MemoryEstimate> {
        Some(model.supervised(self.seq_len * self.micro_batch_size, &self.optimizer))
    }

    fn reads(&self) -> Value {
        json!(["cpt", self.data, self.seq_len])
    }
}

impl PlannedWork for SftSpec {
    fn version(&self) -> u32 {
        1
    }

    fn work_size(&self, data_bytes: u64) -> f64 {
        tokens(&self.length, self.global_batch_size, self.seq_len, data_bytes)
    }

    fn memory(&self, model: &StageModel<'_>) -> Option<MemoryEstimate> {
        Some(model.supervised(self.seq_len * self.micro_batch_size, &self.optimizer))
    }

    fn reads(&self) -> Value {
        json!(["sft", self.data, self.seq_len, self.train_on, self.packing])
    }
}
