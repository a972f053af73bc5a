//! Decoding of rows from prompts, one token for each row at a step. Rows enter and leave between steps.

use super::cpu::{CpuDecoding, CpuPrompt};
use super::decoder::Decoder;
use super::kv_cache::{PromptCache, SlotCache};
use super::packed::Packed;
use std::rc::Rc;
use std::sync::Arc;
use tch::{Device, Kind, Tensor};

/// A prompt that was read. Clones share its cache.
#[derive(Clone)]
pub struct Prompt {
    logits: Rc<Tensor>, // (V,)
    cache: Workspace,
}

#[derive(Clone)]
enum Workspace {
    Cpu(Arc<CpuPrompt>),
    Tensors(Rc<PromptCache>),
}

impl Prompt {
    /// Logits of the token after the prompt, in 32 bits. // (V,)
    pub fn logits(&self) -> &Tensor {
        &self.logits
    }
}

/// The rows that are being decoded.
pub enum Decoding<'a> {
    /// Decoding with the engine's own CPU kernels.
    Cpu(Box<CpuDecoding<'a>>),
    /// Decoding with tensor operations, on the device of the weights.
    Tensors(TensorDecoding<'a>),
}

/// Rows decoded with tensor operations: row i is in slot `slots[i]` of the cache.
pub struct TensorDecoding<'a> {
    decoder: &'a Decoder,
    cache: SlotCache,
    slots: Vec<usize>,
}

impl<'a> Decoding<'a> {
    /// Creates a state without rows. Prompts may have at most `max_prompt_tokens`, and each row at most
    /// `max_new_tokens` more.
    pub fn new(decoder: &'a Decoder, max_prompt_tokens: usize, max_new_tokens: usize) -> Self {
        match decoder.device() {
            Device::Cpu => Self::Cpu(Box::new(CpuDecoding::new(decoder, max_new_tokens))),
            _ => Self::with_tensors(decoder, max_prompt_tokens, max_new_tokens),
        }
    }

    /// Creates the state like [`Decoding::new`], but with tensor operations on every device.
    pub fn with_tensors(decoder: &'a Decoder, max_prompt_tokens: usize, max_new_tokens: usize) -> Self {
        let config = &decoder.config;
        let capacity = i64::try_from(max_prompt_tokens + max_new_tokens).expect("lengths fit i64");
        let (layers, heads) = (decoder.layers.len(), config.num_key_value_heads);
        let cache = SlotCache::new(layers, heads, config.head_dim, capacity, decoder.activations(), decoder.device());
        Self::Tensors(TensorDecoding { decoder, cache, slots: Vec::new() })
    }

    /// Reads a prompt.
    pub fn prefill(&self, prompt_ids: &[i64]) -> Prompt {
        let decoder = match self {
            Self::Cpu(decoding) => decoding.decoder,
            Self::Tensors(decoding) => decoding.decoder,
        };
        let packed = Packed::new(&[prompt_ids], decoder.device());
        let (hidden, mut caches) = decoder.prefill(&packed);
        let last = hidden.narrow(0, packed.total() - 1, 1);
        let logits = decoder.logits(&last).to_kind(Kind::Float).squeeze_dim(0);
        let cache = caches.pop().expect("one prompt was read");
        let cache = match self {
            Self::Cpu(_) => Workspace::Cpu(Arc::new(CpuPrompt::new(&cache))),
            Self::Tensors(_) => Workspace::Tensors(Rc::new(cache)),
        };
        Prompt { logits: Rc::new(logits), cache }
    }

    /// Adds a row for each of `prompts`, after the existing rows.
    ///
    /// # Panics
    /// Panics if a prompt was read by another kind of decoding.
    pub fn enter(&mut self, prompts: &[&Prompt]) {
        for prompt in prompts {
            match (&mut *self, &prompt.cache) {
                (Self::Cpu(decoding), Workspace::Cpu(cache)) => decoding.enter(Arc::clone(cache)),
                (Self::Tensors(decoding), Workspace::Tensors(cache)) => {
                    decoding.slots.push(decoding.cache.enter(cache));
                }
                _ => panic!("a prompt goes on where it was read"),
            }
        }
    }

    /// Keeps only the rows with these indices, given in ascending order.
    pub fn keep(&mut self, rows: &[usize]) {
        match self {
            Self::Cpu(decoding) => decoding.keep(rows),
            Self::Tensors(decoding) => decoding.keep(rows),
        }
    }

    /// Runs `work` on the threads that decode, if the engine owns them.
    pub fn install<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        match self {
            Self::Cpu(decoding) => decoding.install(work),
            Self::Tensors(_) => work(),
        }
    }

    /// Adds a token to each row and returns the next logits, in 32 bits. // (B,) -> (B, V)
    pub fn decode(&mut self, input_ids: &[i64]) -> Tensor {
        match self {
            Self::Cpu(rows) => rows.decode(input_ids),
            Self::Tensors(rows) => rows.decode(input_ids),
        }
    }
}

impl TensorDecoding<'_> {
    fn keep(&mut self, rows: &[usize]) {
        let kept: Vec<usize> = rows.iter().map(|&row| self.slots[row]).collect();
        for slot in self.slots.iter().filter(|slot| !kept.contains(slot)) {
            self.cache.leave(*slot);
        }
        self.slots = kept;
        // free slots are computed like any other, so if they are many a copy pays off
        if 2 * self.slots.len() <= self.cache.slots() {
            self.cache.compact(&self.slots);
            self.slots = (0..self.slots.len()).collect();
        }
    }

    fn decode(&mut self, input_ids: &[i64]) -> Tensor {
        let mut ids = vec![0; self.cache.slots()];
        for (&slot, &id) in self.slots.iter().zip(input_ids) {
            ids[slot] = id;
        }
        let device = self.decoder.device();
        let hidden = self.decoder.decode(&Tensor::from_slice(&ids).to_device(device), &mut self.cache); // (S, C)
        let slots: Vec<i64> = self.slots.iter().map(|&slot| i64::try_from(slot).expect("rows fit i64")).collect();
        self.decoder.logits(&hidden.index_select(0, &Tensor::from_slice(&slots).to_device(device))).to_kind(Kind::Float)
    }
}
