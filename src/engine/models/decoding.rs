//! Decoding of rows from prompts, one token for each row at a step. Rows enter and leave between steps.

use super::cpu::{CpuDecoding, CpuPrompt};
use super::decoder::Decoder;
use super::kv_cache::{PromptCache, SlotCache};
use super::packed::Packed;
use std::rc::Rc;
use std::sync::Arc;
use tch::{Cuda, Device, Kind, Tensor};

/// Number of tokens of prompts that are read together with tensor operations, or one longer prompt.
const READ_TOGETHER: usize = 8192;

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

/// The outcome of a step of all rows.
pub struct NextLogits {
    /// Logits of the next token of each row, in 32 bits. // (B, V)
    pub logits: Tensor,
    /// The numbers that the step took for its draws, on the device of the logits. // (B,)
    pub uniform: Tensor,
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

    /// Reads prompts. The engine's CPU kernels need each prompt to itself, so that its bits do not depend on the
    /// others; with tensor operations many are read together.
    pub fn prefill(&self, prompts: &[&[i64]]) -> Vec<Prompt> {
        match self {
            Self::Cpu(decoding) => {
                let cpu = |cache| Workspace::Cpu(Arc::new(CpuPrompt::new(&cache)));
                prompts.iter().flat_map(|prompt| read(decoding.decoder, &[prompt], cpu)).collect()
            }
            Self::Tensors(decoding) => {
                let tensors = |cache| Workspace::Tensors(Rc::new(cache));
                let read: Vec<Prompt> =
                    together(prompts).flat_map(|prompts| read(decoding.decoder, prompts, tensors)).collect();
                if let Device::Cuda(index) = decoding.decoder.device() {
                    // the time of reading is measured, and would otherwise be that of the first token
                    Cuda::synchronize(i64::try_from(index).expect("devices fit i64"));
                }
                read
            }
        }
    }

    /// Adds a row for each of `prompts`, after the existing rows.
    ///
    /// # Panics
    /// Panics if a prompt was read by another kind of decoding.
    pub fn enter(&mut self, prompts: &[&Prompt]) {
        match self {
            Self::Cpu(decoding) => {
                for prompt in prompts {
                    let Workspace::Cpu(cache) = &prompt.cache else { panic!("a prompt goes on where it was read") };
                    decoding.enter(Arc::clone(cache));
                }
            }
            Self::Tensors(decoding) => {
                let cache = |prompt: &&'_ Prompt| match &prompt.cache {
                    Workspace::Tensors(cache) => Rc::clone(cache),
                    Workspace::Cpu(_) => panic!("a prompt goes on where it was read"),
                };
                let caches: Vec<Rc<PromptCache>> = prompts.iter().map(cache).collect();
                let slots = decoding.cache.enter(&caches.iter().map(Rc::as_ref).collect::<Vec<_>>());
                decoding.slots.extend(slots);
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

    /// Adds a token to each row and returns the next logits. `uniform` are the numbers of the next draws, one for each
    /// row or none, which go to the device with the tokens. // (B,)
    pub fn decode(&mut self, input_ids: &[i64], uniform: &[f64]) -> NextLogits {
        match self {
            Self::Cpu(rows) => NextLogits { logits: rows.decode(input_ids), uniform: Tensor::from_slice(uniform) },
            Self::Tensors(rows) => rows.decode(input_ids, uniform),
        }
    }
}

/// Splits prompts into parts that are read together.
fn together<'p, 'i>(prompts: &'p [&'i [i64]]) -> impl Iterator<Item = &'p [&'i [i64]]> {
    let mut sum = 0;
    prompts.chunk_by(move |one, next| {
        sum += one.len();
        let fits = sum + next.len() <= READ_TOGETHER;
        if !fits {
            sum = 0;
        }
        fits
    })
}

/// Reads prompts in one pass.
fn read(decoder: &Decoder, prompts: &[&[i64]], workspace: impl Fn(PromptCache) -> Workspace) -> Vec<Prompt> {
    let packed = Packed::new(prompts, decoder.device());
    let (hidden, caches) = decoder.prefill(&packed);
    let last: Vec<i64> =
        packed.starts().iter().zip(&packed.lengths).map(|(start, length)| start + length - 1).collect();
    let last = match last[..] {
        [last] => hidden.narrow(0, last, 1),
        _ => hidden.index_select(0, &Tensor::from_slice(&last).to_device(decoder.device())),
    };
    let logits = decoder.logits(&last).to_kind(Kind::Float); // (prompts, V)
    let prompt = |(index, cache)| Prompt { logits: Rc::new(logits.get(index)), cache: workspace(cache) };
    (0..).zip(caches).map(prompt).collect()
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

    fn decode(&mut self, input_ids: &[i64], uniform: &[f64]) -> NextLogits {
        let mut ids = vec![0; self.cache.slots()];
        for (&slot, &id) in self.slots.iter().zip(input_ids) {
            ids[slot] = id;
        }
        let are_in_order = self.slots.iter().copied().eq(0..self.cache.slots());
        let slots = self.slots.iter().map(|&slot| i64::try_from(slot).expect("rows fit i64"));
        // 64-bit numbers travel with the integers as their bits
        let more: Vec<i64> = slots.chain(uniform.iter().map(|number| number.to_bits().cast_signed())).collect();
        let (kind, few_launches) = (self.decoder.activations(), self.decoder.few_launches());
        let (next, more) = self.cache.next_token(&ids, &more, kind, few_launches);
        let hidden = self.decoder.decode(&next, &mut self.cache); // (S, C)
        let rows = i64::try_from(self.slots.len()).expect("rows fit i64");
        let hidden = if are_in_order { hidden } else { hidden.index_select(0, &more.narrow(0, 0, rows)) }; // (B, C)
        let uniform = more.narrow(0, rows, i64::try_from(uniform.len()).expect("rows fit i64"));
        NextLogits {
            logits: self.decoder.logits(&hidden).to_kind(Kind::Float),
            uniform: uniform.view_dtype(Kind::Double),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prompts_are_read_together_up_to_a_limit() {
        let prompts: Vec<Vec<i64>> = [5000, 3192, 1, 9000, 8192, 1].map(|length| vec![0; length]).to_vec();
        let prompts: Vec<&[i64]> = prompts.iter().map(Vec::as_slice).collect();
        let parts: Vec<Vec<usize>> = together(&prompts).map(|part| part.iter().map(|p| p.len()).collect()).collect();
        assert_eq!(parts, [vec![5000, 3192], vec![1], vec![9000], vec![8192], vec![1]]);
        assert_eq!(together(&[]).count(), 0);
    }
}
