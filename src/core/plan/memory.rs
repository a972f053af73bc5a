//! How much memory a stage will need at its peak: pure arithmetic on the model's shape and the stage's sizes.
//!
//! Sizes are those of the longest rows the stage allows, so a stage that fits by this count fits. What a tensor of a layer costs
//! follows from what the engine's backward pass keeps (`engine::models::pass`); the rest was fitted to measured peaks, and a
//! test holds it to them.

use crate::recipe::spec::{
    ArenaSpec, CptSpec, Dtype, EvalSpec, GrpoSpec, LoraSpec, ModelSpec, Optimizer, OptimizerSpec, SftSpec, StageSpec,
    Work,
};
use serde::Deserialize;

/// Libraries, buffers and threads of a worker, before any model.
const PROCESS: u64 = 400 << 20;
/// Positions whose logits exist at a time (`engine::head`).
const HEAD_CHUNK: u64 = 512;
/// 32-bit copies of a chunk's logits at the peak: logits, their softmax, a gradient, and two on the way.
const HEAD_COPIES: u64 = 5;

/// The sizes of a decoder, from its `config.json`.
#[derive(Clone, Debug, Deserialize)]
pub struct ModelShape {
    hidden_size: u64,
    intermediate_size: u64,
    num_hidden_layers: u64,
    num_attention_heads: u64,
    num_key_value_heads: Option<u64>,
    head_dim: Option<u64>,
    vocab_size: u64,
    #[serde(default)]
    tie_word_embeddings: bool,
}

/// Bytes at the peak of a stage, by what they are for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MemoryEstimate {
    /// The model as it is held, and what of its head is in 32 bits where weights are widened.
    pub weights: u64,
    /// Gradients, optimizer state, master copies, and the reference's copy of what is trained.
    pub training: u64,
    /// What the backward pass of one micro-batch keeps.
    pub activations: u64,
    /// Keys and values of the rows that are decoded at a time.
    pub kv_cache: u64,
    /// Logits of one chunk.
    pub logits: u64,
    /// Everything else.
    pub process: u64,
}

/// A stage's need beside what there is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StageMemory {
    /// The peak; absent when the model's `config.json` does not tell its sizes.
    pub estimate: Option<MemoryEstimate>,
    /// Bytes of the device the stage will run on; absent where the system does not tell.
    pub available: Option<u64>,
    /// Whether gradient checkpointing is off and may be turned on, should memory run out nevertheless.
    pub can_checkpoint: bool,
}

impl StageMemory {
    /// Whether the stage fits, as far as one can tell.
    pub fn fits(&self) -> bool {
        self.estimate.zip(self.available).is_none_or(|(estimate, available)| estimate.total() <= available)
    }
}

impl MemoryEstimate {
    /// All of it. Decoding and training do not overlap, so only the larger of both counts.
    pub fn total(&self) -> u64 {
        self.weights + self.training + self.activations.max(self.kv_cache) + self.logits + self.process
    }
}

impl ModelShape {
    fn head_dim(&self) -> u64 {
        self.head_dim.unwrap_or(self.hidden_size / self.num_attention_heads.max(1))
    }

    fn query_size(&self) -> u64 {
        self.num_attention_heads * self.head_dim()
    }

    fn key_value_size(&self) -> u64 {
        self.num_key_value_heads.unwrap_or(self.num_attention_heads) * self.head_dim()
    }

    /// Weights of the model.
    pub fn parameters(&self) -> u64 {
        let (c, q, kv) = (self.hidden_size, self.query_size(), self.key_value_size());
        let layer = 2 * c * q + 2 * c * kv + 3 * c * self.intermediate_size + 2 * c;
        let vocabularies = if self.tie_word_embeddings { 1 } else { 2 };
        vocabularies * self.vocab_size * c + self.num_hidden_layers * layer + c
    }

    /// Weights of the adapters.
    fn adapter_parameters(&self, lora: &LoraSpec) -> u64 {
        let (c, q, kv, i) = (self.hidden_size, self.query_size(), self.key_value_size(), self.intermediate_size);
        let widths = |name: &str| match name {
            "q_proj" | "o_proj" => c + q,
            "k_proj" | "v_proj" => c + kv,
            _ => c + i,
        };
        let per_layer: u64 = lora.target_modules.iter().map(|name| u64::from(lora.rank) * widths(name)).sum();
        self.num_hidden_layers * per_layer
    }

    /// Bytes that a layer's backward pass keeps of one token.
    fn kept_by_a_layer(&self, model: &ModelSpec, activations: Dtype) -> u64 {
        let (c, q, i) = (self.hidden_size, self.query_size(), self.intermediate_size);
        let adapters = model.lora.as_ref().map_or(0, |lora| u64::from(lora.rank) * lora.target_modules.len() as u64);
        let dropped = model.lora.as_ref().is_some_and(|lora| lora.dropout > 0.0);
        let values = 4 * c + 4 * q + 4 * i + adapters + if dropped { 2 * (4 * c + q + i) } else { 0 };
        // norms of 16-bit activations keep them in 32 bits
        let norms = if activations == Dtype::Bfloat16 { 2 * c * 4 } else { 0 };
        values * bytes(activations) + norms
    }

    fn activations(&self, model: &ModelSpec, tokens: u64, computing: Computing) -> u64 {
        let kind = computing.activations(model);
        let layer = self.kept_by_a_layer(model, kind);
        let kept = if computing.checkpointing {
            // each layer's input, and the inside of one with its gradients
            self.num_hidden_layers * self.hidden_size * bytes(kind) + 2 * layer
        } else {
            (self.num_hidden_layers + 1) * layer
        };
        tokens * kept
    }

    /// Keys and values of a shared prompt, which stand before those of each completion: `tokens` counts them all.
    fn prefixes(&self, model: &ModelSpec, tokens: usize, computing: Computing) -> u64 {
        let layers = if computing.checkpointing { 1 } else { self.num_hidden_layers };
        tokens as u64 * 2 * layers * self.key_value_size() * bytes(computing.activations(model))
    }

    /// Keys and values of so many tokens, in 32 bits: the CPU keeps no others, a GPU needs half for bfloat16.
    fn kv_cache(&self, tokens: usize) -> u64 {
        tokens as u64 * 2 * self.num_hidden_layers * self.key_value_size() * 4
    }

    fn logits(&self, positions: u64) -> u64 {
        positions.min(HEAD_CHUNK) * self.vocab_size * 4 * HEAD_COPIES
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
        let held = bytes(model.dtype);
        let master = if model.dtype == Dtype::Float32 { 0 } else { 4 };
        let copies = held + states + master + if reference { held } else { 0 };
        // the gradients of embedding and head, and what they are made from, exist beside their sum for a moment
        self.parameters() * copies + 4 * self.vocab_size * self.hidden_size * 4
    }
}

fn bytes(dtype: Dtype) -> u64 {
    match dtype {
        Dtype::Float32 => 4,
        Dtype::Bfloat16 => 2,
    }
}

/// How a stage computes, as far as its memory depends on it and its cache key does not.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Computing {
    /// Each layer's inside is computed again in the backward pass.
    pub checkpointing: bool,
    /// Activations are 32-bit although the weights are bfloat16.
    pub widened: bool,
}

impl Computing {
    /// Matrices of the head's shape in 32 bits that widening adds: the head, and its gradient when it is trained.
    fn wide_heads(self, model: &ModelSpec) -> u64 {
        match (self.widened, &model.lora) {
            (false, _) => 0,
            (true, Some(_)) => 1,
            (true, None) => 2,
        }
    }

    /// The number format of activations.
    fn activations(self, model: &ModelSpec) -> Dtype {
        if self.widened { Dtype::Float32 } else { model.dtype }
    }
}

/// Most prompts in a micro-batch of neighbouring completions, which share them; the first and the last group may be cut.
/// Completions that are left out of the loss make groups smaller, which is not foreseen here.
fn prompts_of(micro_batch_size: usize, group_size: usize) -> usize {
    micro_batch_size.saturating_sub(1).div_ceil(group_size) + 1
}

/// The peak of `stage` on a model of this `shape`; of a program of the user's nobody knows.
pub fn memory_estimate(stage: &StageSpec, shape: &ModelShape, computing: Computing) -> Option<MemoryEstimate> {
    let model = stage.model.as_ref()?;
    let weights = shape.parameters() * bytes(model.dtype)
        + computing.wide_heads(model) * shape.vocab_size * shape.hidden_size * 4;
    let base = MemoryEstimate { weights, process: PROCESS, ..MemoryEstimate::default() };
    let supervised = |tokens: usize, optimizer: &OptimizerSpec| MemoryEstimate {
        training: shape.training(model, optimizer, false),
        activations: shape.activations(model, tokens as u64, computing),
        logits: shape.logits(tokens as u64),
        ..base
    };
    Some(match &stage.work {
        Work::Cpt(CptSpec { seq_len, micro_batch_size, optimizer, .. })
        | Work::Sft(SftSpec { seq_len, micro_batch_size, optimizer, .. }) => {
            supervised(seq_len * micro_batch_size, optimizer)
        }
        Work::Grpo(spec) => {
            let GrpoSpec {
                sampling,
                prompts_per_step,
                group_size,
                micro_batch_size,
                rollout_batch_size,
                optimizer,
                loss,
                ..
            } = spec;
            let completions = prompts_per_step * group_size;
            let rows = if *rollout_batch_size == 0 { completions } else { completions.min(*rollout_batch_size) };
            let prompts_read = prompts_of(rows, *group_size).min(*prompts_per_step);
            let prompts = prompts_of(*micro_batch_size, *group_size);
            let tokens = prompts * sampling.max_prompt_tokens + micro_batch_size * sampling.max_new_tokens;
            let passes = supervised(tokens, optimizer);
            let prefixes = shape.prefixes(model, micro_batch_size * sampling.max_prompt_tokens, computing);
            MemoryEstimate {
                training: shape.training(model, optimizer, loss.kl_coef != 0.0),
                activations: passes.activations + prefixes,
                kv_cache: shape.kv_cache(rows * sampling.max_new_tokens + prompts_read * sampling.max_prompt_tokens),
                logits: shape.logits((micro_batch_size * sampling.max_new_tokens) as u64),
                ..passes
            }
        }
        // one player at a time
        Work::Arena(ArenaSpec { sampling, batch_size, .. }) | Work::Eval(EvalSpec { sampling, batch_size, .. }) => {
            MemoryEstimate {
                kv_cache: shape.kv_cache(batch_size * (sampling.max_prompt_tokens + sampling.max_new_tokens)),
                logits: shape.logits(HEAD_CHUNK),
                ..base
            }
        }
        Work::Command(_) => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::digest::Digest;
    use crate::recipe::spec::{DataSpec, Length, ParentAdapter, Schedule, Split, Templates, WeightedData};

    const SMOLLM2_135M: &str = r#"{"hidden_size": 576, "intermediate_size": 1536, "num_hidden_layers": 30,
        "num_attention_heads": 9, "num_key_value_heads": 3, "vocab_size": 49152, "tie_word_embeddings": true}"#;

    fn stage(full: bool, dtype: Dtype) -> StageSpec {
        let names = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"];
        let target_modules = names.map(str::to_owned).to_vec();
        let lora = LoraSpec { rank: 32, alpha: 64.0, dropout: 0.0, rslora: false, target_modules };
        let data = DataSpec {
            files: Vec::new(),
            eval_fraction: 0.0,
            split: Split::All,
            max_rows: None,
            messages: None,
            templates: Templates::default(),
        };
        StageSpec {
            seed: 0,
            model: Some(ModelSpec {
                files: Digest::of(b"model"),
                chat_template: None,
                dtype,
                lora: (!full).then_some(lora),
                parent_adapter: ParentAdapter::Continue,
            }),
            work: Work::Cpt(CptSpec {
                data: vec![WeightedData { weight: 1.0, data }],
                seq_len: 512,
                length: Length::Steps(1),
                global_batch_size: 4,
                micro_batch_size: 4,
                optimizer: OptimizerSpec {
                    optimizer: Optimizer::Adamw { betas: (0.9, 0.999), eps: 1e-8 },
                    lr: 1e-4,
                    weight_decay: 0.0,
                    schedule: Schedule::Constant,
                    warmup_steps: 0,
                    max_grad_norm: 1.0,
                },
            }),
        }
    }

    #[test]
    fn estimates_hold_and_are_not_far_above_what_was_measured() {
        let shape: ModelShape = serde_json::from_str(SMOLLM2_135M).expect("the shape is valid");
        assert_eq!(shape.parameters(), 134_515_008);
        // peak resident MiB of `just bench`, benches/results: of a CPU that is fast in bfloat16, and of one that widens
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
            let computing = Computing { checkpointing, widened };
            let estimate = memory_estimate(&stage(full, dtype), &shape, computing).expect("it has a model");
            let estimate = estimate.total() >> 20;
            let case = format!("full {full}, {dtype:?}, {computing:?}");
            assert!(estimate >= measured, "{case}: {estimate} MiB, measured {measured}");
            assert!(10 * estimate <= 14 * measured, "{case}: {estimate} MiB, measured {measured}");
        }
    }

    #[test]
    fn a_micro_batch_has_no_more_prompts_than_groups_it_touches() {
        for (micro_batch_size, group_size) in (1..20).flat_map(|m| (2..9).map(move |g| (m, g))) {
            let touched = (0..group_size).map(|first| (first + micro_batch_size - 1) / group_size + 1).max();
            assert_eq!(Some(prompts_of(micro_batch_size, group_size)), touched, "{micro_batch_size} of {group_size}");
        }
    }
}
