//! Estimates the peak memory of a stage from the model's shape and the stage's sizes, by arithmetic alone.
//!
//! The sizes are those of the longest rows that the stage allows, so a stage that fits by this estimate fits. The cost
//! of a layer's tensors follows from what the engine's backward pass keeps (`engine::models::pass`). The rest was
//! fitted to peaks measured on CPUs, and a test compares the estimates with them.
//!
//! No estimate for a GPU has been compared with a measured peak yet. They are computed from what the engine allocates
//! there ([`Processor`]), with a margin for the gaps in the allocator's memory.

use super::computing::{Computing, Processor};
use crate::architecture::{DecoderConfig, LINEAR_LAYERS, LinearLayer};
use crate::recipe::spec::{Dtype, LoraSpec, ModelSpec, Optimizer, OptimizerSpec, Sampling};

/// The number of 32-bit copies of a chunk's logits at the peak: logits, their softmax, a gradient, and two intermediate
/// ones.
const HEAD_COPIES: u64 = 5;

/// The sizes of a decoder, in the types that counts of bytes need.
#[derive(Clone, Debug)]
pub struct ModelShape {
    config: DecoderConfig,
    hidden_size: u64,
    intermediate_size: u64,
    num_hidden_layers: u64,
    vocab_size: u64,
}

impl From<DecoderConfig> for ModelShape {
    fn from(config: DecoderConfig) -> Self {
        Self {
            hidden_size: config.hidden_size.unsigned_abs(),
            intermediate_size: config.intermediate_size.unsigned_abs(),
            num_hidden_layers: config.num_hidden_layers as u64,
            vocab_size: config.vocab_size.unsigned_abs(),
            config,
        }
    }
}

/// The bytes at the peak of a stage, by purpose.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MemoryEstimate {
    /// The model's weights and, where they are widened, the 32-bit parts of its head.
    pub weights: u64,
    /// Gradients, optimizer state, master copies, and the reference's copy of the trained weights.
    pub training: u64,
    /// The activations that the backward pass of one micro-batch keeps.
    pub activations: u64,
    /// The keys and values of the rows that are decoded at a time.
    pub kv_cache: u64,
    /// The logits of one chunk.
    pub logits: u64,
    /// The weights of the encoders that rate texts, where they are counted: on a GPU.
    pub encoders: u64,
    /// All other memory of the process.
    pub process: u64,
    /// The percentage of all of these by which the allocator's memory exceeds that of the tensors.
    pub fragments_percent: u64,
}

/// The estimated and the available memory of a stage.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StageMemory {
    /// The estimate of the peak; absent when the model's `config.json` does not state its sizes.
    pub estimate: Option<MemoryEstimate>,
    /// The bytes that the stage may use on its device: the host's memory, or what is free on a GPU; absent where the
    /// system does not report them.
    pub available: Option<u64>,
    /// The GPU on which the stage will run, if other processes hold much of its memory.
    pub busy_gpu: Option<BusyGpu>,
    /// Whether gradient checkpointing is off and may be turned on if memory still runs out.
    pub can_checkpoint: bool,
}

/// A GPU of which other processes hold much memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BusyGpu {
    /// The index, as recipes count GPUs.
    pub index: usize,
    /// The bytes that are free.
    pub free: u64,
    /// The bytes that it has.
    pub total: u64,
}

impl StageMemory {
    /// Whether the stage fits, as far as is known.
    pub fn fits(&self) -> bool {
        self.estimate.zip(self.available).is_none_or(|(estimate, available)| estimate.total() <= available)
    }
}

impl StageMemory {
    /// Whether the stage fits, or would fit if no other process used the device.
    pub fn fits_when_idle(&self) -> bool {
        let idle = |estimate: &MemoryEstimate| self.busy_gpu.is_some_and(|gpu| estimate.total() <= gpu.total);
        self.fits() || self.estimate.as_ref().is_some_and(idle)
    }
}

impl MemoryEstimate {
    /// Returns the total bytes at the peak. Decoding and training do not overlap, so only the larger of both counts.
    pub fn total(&self) -> u64 {
        let tensors = self.weights + self.training + self.activations.max(self.kv_cache) + self.logits + self.encoders;
        let bytes = tensors + self.process;
        bytes + bytes * self.fragments_percent / 100
    }
}

impl ModelShape {
    fn query_size(&self) -> u64 {
        self.config.query_size().unsigned_abs()
    }

    fn key_value_size(&self) -> u64 {
        self.config.key_value_size().unsigned_abs()
    }

    /// Returns the number of weights of the model.
    pub fn parameters(&self) -> u64 {
        let linear = LINEAR_LAYERS.iter().map(|layer| layer.parameters(&self.config)).sum::<i64>();
        let head_norms = if self.config.qk_norm { 2 * self.config.head_dim } else { 0 };
        let layer = linear.unsigned_abs() + 2 * self.hidden_size + head_norms.unsigned_abs();
        let vocabularies = if self.config.tie_word_embeddings { 1 } else { 2 };
        vocabularies * self.vocab_size * self.hidden_size + self.num_hidden_layers * layer + self.hidden_size
    }

    /// Returns the number of weights of the adapters.
    fn adapter_parameters(&self, lora: &LoraSpec) -> u64 {
        let has_adapter = |layer: &&LinearLayer| lora.target_modules.iter().any(|name| name == layer.name);
        let widths = |layer: &LinearLayer| (layer.in_features)(&self.config) + (layer.out_features)(&self.config);
        let per_layer = LINEAR_LAYERS.iter().filter(has_adapter).map(widths).sum::<i64>().unsigned_abs();
        self.num_hidden_layers * u64::from(lora.rank) * per_layer
    }

    /// Returns the bytes that a layer's backward pass keeps for one token.
    fn kept_by_a_layer(&self, model: &ModelSpec, computing: Computing) -> u64 {
        let activations = computing.activations(model);
        let (c, q, i) = (self.hidden_size, self.query_size(), self.intermediate_size);
        let adapters = model.lora.as_ref().map_or(0, |lora| u64::from(lora.rank) * lora.target_modules.len() as u64);
        let dropped = model.lora.as_ref().is_some_and(|lora| lora.dropout > 0.0);
        let values = 4 * c + 4 * q + 4 * i + adapters + if dropped { 2 * (4 * c + q + i) } else { 0 };
        let widened_norms = activations == Dtype::Bfloat16 && computing.processor.widens_norms();
        values * activations.bytes() + if widened_norms { 2 * c * 4 } else { 0 }
    }

    fn activations(&self, model: &ModelSpec, tokens: u64, computing: Computing) -> u64 {
        let layer = self.kept_by_a_layer(model, computing);
        let kept = if computing.checkpointing {
            // Each layer's input is kept, and at a time the inside of one layer with its gradients.
            self.num_hidden_layers * self.hidden_size * computing.activations(model).bytes() + 2 * layer
        } else {
            (self.num_hidden_layers + 1) * layer
        };
        tokens * kept
    }

    /// Returns the bytes of the keys and values of shared prompts, which precede those of each completion. `tokens`
    /// counts a prompt once for each of its completions.
    fn prefixes(&self, model: &ModelSpec, tokens: usize, computing: Computing) -> u64 {
        let layers = if computing.checkpointing { 1 } else { self.num_hidden_layers };
        tokens as u64 * 2 * layers * self.key_value_size() * computing.activations(model).bytes()
    }

    /// Returns the bytes of the keys and values of `tokens` tokens.
    fn kv_cache(&self, tokens: usize, dtype: Dtype) -> u64 {
        tokens as u64 * 2 * self.num_hidden_layers * self.key_value_size() * dtype.bytes()
    }

    fn logits(&self, positions: u64, processor: Processor) -> u64 {
        positions.min(processor.head_chunk()) * self.vocab_size * 4 * HEAD_COPIES
    }

    fn training(&self, model: &ModelSpec, optimizer: &OptimizerSpec, reference: bool) -> u64 {
        let states = match optimizer.optimizer {
            Optimizer::Adamw { .. } => 8,
            Optimizer::Muon { .. } => 4,
        };
        if let Some(lora) = &model.lora {
            let copies = 4 + 4 + states + if reference { 4 } else { 0 };
            return self.adapter_parameters(lora) * copies;
        }
        let held = model.dtype.bytes();
        let master = if model.dtype == Dtype::Float32 { 0 } else { 4 };
        let copies = held + states + master + if reference { held } else { 0 };
        // For a moment the gradients of embedding and head, and their sources, exist beside their sum.
        self.parameters() * copies + 4 * self.vocab_size * self.hidden_size * 4
    }
}

/// A model as a stage holds it, for estimates of the memory of its parts.
#[derive(Clone, Copy, Debug)]
pub struct StageModel<'a> {
    /// The stage's spec of the model.
    pub spec: &'a ModelSpec,
    /// The model's sizes.
    pub shape: &'a ModelShape,
    /// How the stage computes.
    pub computing: Computing,
}

impl StageModel<'_> {
    /// Returns the estimate of the process and the weights.
    fn base(&self) -> MemoryEstimate {
        let Self { spec, shape, computing } = self;
        let weights = shape.parameters() * spec.dtype.bytes()
            + computing.wide_heads(spec) * shape.vocab_size * shape.hidden_size * 4;
        MemoryEstimate {
            weights,
            process: computing.processor.process_bytes(),
            fragments_percent: computing.processor.fragments_percent(),
            ..MemoryEstimate::default()
        }
    }

    /// Returns the estimate of training on micro-batches of `tokens` tokens.
    pub fn supervised(&self, tokens: usize, optimizer: &OptimizerSpec) -> MemoryEstimate {
        MemoryEstimate {
            training: self.training(optimizer, false),
            activations: self.shape.activations(self.spec, tokens as u64, self.computing),
            logits: self.logits(tokens),
            ..self.base()
        }
    }

    /// Returns the estimate of sampling `rows` rows at a time.
    pub fn sampling(&self, sampling: &Sampling, rows: usize) -> MemoryEstimate {
        MemoryEstimate {
            kv_cache: self.kv_cache(sampling, rows, rows),
            logits: self.shape.logits(u64::MAX, self.computing.processor),
            ..self.base()
        }
    }

    /// Returns the bytes of gradients, optimizer state and copies, including those of a reference policy where there is
    /// one.
    pub fn training(&self, optimizer: &OptimizerSpec, reference: bool) -> u64 {
        self.shape.training(self.spec, optimizer, reference)
    }

    /// Returns the bytes of the keys and values of shared prompts, which precede those of each completion. `tokens`
    /// counts a prompt once for each of its completions.
    pub fn prefixes(&self, tokens: usize) -> u64 {
        self.shape.prefixes(self.spec, tokens, self.computing)
    }

    /// Returns the bytes of the keys and values of `rows` rows that are decoded at a time and have `prompts` distinct
    /// prompts.
    pub fn kv_cache(&self, sampling: &Sampling, rows: usize, prompts: usize) -> u64 {
        let (processor, Sampling { max_prompt_tokens, max_new_tokens, .. }) = (self.computing.processor, sampling);
        let tokens = processor.cached_tokens(rows, prompts, *max_prompt_tokens, *max_new_tokens);
        self.shape.kv_cache(tokens, processor.cache_dtype(self.spec))
    }

    /// Returns the bytes of the logits of `positions` positions.
    pub fn logits(&self, positions: usize) -> u64 {
        self.shape.logits(positions as u64, self.computing.processor)
    }
}

#[cfg(test)]
mod tests {
    use super::gpu_tests::{data, model, optimizer};
    use super::*;
    use crate::plan::planned;
    use crate::recipe::spec::{CptSpec, Length, StageSpec, WeightedData, Work};

    const SMOLLM2_135M: &str = r#"{"model_type": "llama", "max_position_embeddings": 8192, "hidden_size": 576, "intermediate_size": 1536, "num_hidden_layers": 30,
        "num_attention_heads": 9, "num_key_value_heads": 3, "vocab_size": 49152, "tie_word_embeddings": true}"#;

    fn stage(full: bool, dtype: Dtype) -> StageSpec {
        let model = model();
        StageSpec {
            seed: 0,
            model: Some(ModelSpec { dtype, lora: model.lora.clone().filter(|_| !full), ..model }),
            until: None,
            work: Work::Cpt(CptSpec {
                data: vec![WeightedData { weight: 1.0, data: data() }],
                seq_len: 512,
                length: Length::Steps(1),
                global_batch_size: 4,
                micro_batch_size: 4,
                optimizer: optimizer(),
            }),
        }
    }

    #[test]
    fn memory_that_other_processes_hold_counts_only_while_they_hold_it() {
        let estimate = MemoryEstimate { weights: 10 << 30, ..MemoryEstimate::default() };
        let with = |free: u64, total: Option<u64>| StageMemory {
            estimate: Some(estimate),
            available: Some(free << 30),
            busy_gpu: total.map(|total| BusyGpu { index: 0, free: free << 30, total: total << 30 }),
            can_checkpoint: false,
        };
        let fits = |memory: StageMemory| (memory.fits(), memory.fits_when_idle());
        assert_eq!(fits(with(80, None)), (true, true));
        assert_eq!(fits(with(5, Some(80))), (false, true));
        assert_eq!(fits(with(5, Some(8))), (false, false));
        assert_eq!(fits(with(5, None)), (false, false));
    }

    #[test]
    fn estimates_hold_and_are_not_far_above_what_was_measured() {
        let config = serde_json::from_str(SMOLLM2_135M).expect("it is JSON");
        let shape = ModelShape::from(DecoderConfig::of(&config).expect("it is supported"));
        assert_eq!(shape.parameters(), 134_515_008);
        // Peak resident MiB of `just bench` (benches/results), on a CPU that is fast in bfloat16 and on one that
        // widens.
        for (full, dtype, widened, checkpointing, measured) in [
            (false, Dtype::Float32, false, false, 4103),
            (false, Dtype::Bfloat16, false, false, 2470),
            (true, Dtype::Float32, false, false, 5964),
            (true, Dtype::Bfloat16, false, false, 4581),
            (false, Dtype::Float32, false, true, 1387),
            (true, Dtype::Float32, false, true, 2997),
            (false, Dtype::Bfloat16, true, false, 3594),
            (true, Dtype::Bfloat16, true, false, 5821),
        ] {
            let computing = Computing { processor: Processor::Cpu, checkpointing, widened };
            let stage = stage(full, dtype);
            let model = StageModel { spec: stage.model.as_ref().expect("it has one"), shape: &shape, computing };
            let estimate = planned(&stage.work).memory(&model).expect("training takes memory");
            let estimate = estimate.total() >> 20;
            let case = format!("full {full}, {dtype:?}, {computing:?}");
            assert!(estimate >= measured, "{case}: {estimate} MiB, measured {measured}");
            assert!(10 * estimate <= 14 * measured, "{case}: {estimate} MiB, measured {measured}");
        }
    }
}

#[cfg(test)]
#[path = "gpu_memory_tests.rs"]
mod gpu_tests;
