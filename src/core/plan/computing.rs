//! How a stage computes, as far as this affects its memory.

use crate::recipe::spec::{Dtype, ModelSpec};

/// The hardware on which a stage computes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Processor {
    /// The CPU, with the host's memory.
    #[default]
    Cpu,
    /// A GPU, with its own memory.
    Gpu,
}

impl Processor {
    /// Returns the bytes that a worker holds before any model is loaded: on a CPU its libraries, buffers and threads,
    /// on a GPU its context, kernels and workspaces.
    pub(super) fn process_bytes(self) -> u64 {
        match self {
            Self::Cpu => 400 << 20,
            Self::Gpu => 1536 << 20,
        }
    }

    /// Returns the percentage by which the allocator's memory exceeds that of the tensors. On a CPU it is part of what
    /// was fitted.
    pub(super) fn fragments_percent(self) -> u64 {
        match self {
            Self::Cpu => 0,
            Self::Gpu => 10,
        }
    }

    /// Returns the number of positions whose logits exist at a time (`engine::head`).
    pub(super) fn head_chunk(self) -> u64 {
        match self {
            Self::Cpu => 512,
            Self::Gpu => 2048,
        }
    }

    /// Whether norms keep 16-bit activations in 32 bits. A GPU's fused kernel keeps only its input.
    pub(super) fn widens_norms(self) -> bool {
        self == Self::Cpu
    }

    /// Returns the number of tokens whose keys and values exist while `rows` rows are decoded, which have `prompts`
    /// distinct prompts. On a CPU rows share a prompt; on a GPU each row has a slot with its own copy.
    pub(super) fn cached_tokens(self, rows: usize, prompts: usize, prompt_tokens: usize, new_tokens: usize) -> usize {
        match self {
            Self::Cpu => rows * new_tokens + prompts * prompt_tokens,
            Self::Gpu => rows * (prompt_tokens + new_tokens),
        }
    }

    /// Returns the data type of cached keys and values. A CPU keeps them in 32 bits only.
    pub(super) fn cache_dtype(self, model: &ModelSpec) -> Dtype {
        match self {
            Self::Cpu => Dtype::Float32,
            Self::Gpu => model.dtype,
        }
    }
}

/// How a stage computes, as far as this affects its memory and not its cache key.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Computing {
    /// The hardware.
    pub processor: Processor,
    /// Whether each layer's inside is recomputed in the backward pass.
    pub checkpointing: bool,
    /// Whether activations are 32-bit although the weights are bfloat16.
    pub widened: bool,
}

impl Computing {
    /// Returns the number of 32-bit matrices of the head's shape that widening adds: the head, and its gradient when it
    /// is trained.
    pub(super) fn wide_heads(self, model: &ModelSpec) -> u64 {
        match (self.widened, &model.lora) {
            (false, _) => 0,
            (true, Some(_)) => 1,
            (true, None) => 2,
        }
    }

    /// Returns the data type of activations.
    pub(super) fn activations(self, model: &ModelSpec) -> Dtype {
        if self.widened { Dtype::Float32 } else { model.dtype }
    }
}
