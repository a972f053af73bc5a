//! `command`: the work of a user's program is unknown.

use super::{PlannedWork, TOKEN_BYTES};
use crate::plan::memory::{MemoryEstimate, StageModel};
use crate::recipe::spec::CommandStageSpec;
use serde_json::Value;

impl PlannedWork for CommandStageSpec {
    fn version(&self) -> u32 {
        1
    }

    fn work_size(&self, data_bytes: u64) -> f64 {
        data_bytes as f64 / TOKEN_BYTES
    }

    fn memory(&self, _model: &StageModel<'_>) -> Option<MemoryEstimate> {
        None
    }

    /// Returns null, because the inputs of the program are unknown.
    fn reads(&self) -> Value {
        Value::Null
    }
}
