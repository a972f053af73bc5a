//! The number formats of tensors.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Number format of weights and activations.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Dtype {
    /// 32-bit IEEE floating point.
    Float32,
    /// bfloat16 weights and activations; adapters, optimizer state and losses stay 32-bit.
    Bfloat16,
}

impl Dtype {
    /// Returns the bytes of a number.
    pub const fn bytes(self) -> u64 {
        match self {
            Self::Float32 => 4,
            Self::Bfloat16 => 2,
        }
    }
}
