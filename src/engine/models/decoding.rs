//! Decoding of rows from prompts, one token for each row at a step. Rows enter and leave between steps.

use super::cpu::{CpuDecoding, CpuPrompt};
use super::decoder::Decoder;
use super::kv_cache::{PromptCache, SlotCache};
use super::packed::Packed;
use crate::torch::Recording;
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
    recorded: Option<RecordedStep>,
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
        Self::Tensors(TensorDecoding { decoder, cache, slots: Vec::new(), recorded: None })
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
        let slots = self.cache.slots();
        let mut ids = vec![0; slots];
        for (&slot, &id) in self.slots.iter().zip(input_ids) {
            ids[slot] = id;
        }
        // All numbers go to the device in one copy, since each copy waits for it: the next tokens, the slot of each
        // row, and the draws as their bits. Free places are 0, so that there are equally many at every step.
        let mut numbers = self.cache.numbers(&ids);
        numbers.extend(self.slots.iter().map(|&slot| i64::try_from(slot).expect("rows fit i64")));
        numbers.resize(4 * slots, 0);
        numbers.extend(uniform.iter().map(|number| number.to_bits().cast_signed()));
        numbers.resize(5 * slots, 0);
        let numbers = Tensor::from_slice(&numbers);
        let is_recorded = self.decoder.records_steps() && self.can_record();
        let (numbers, logits) = if is_recorded { self.recorded(&numbers) } else { self.direct(&numbers) };
        self.cache.advance();
        let count = |n: usize| i64::try_from(n).expect("rows fit i64");
        let uniform = numbers.narrow(0, 4 * count(slots), count(uniform.len())).view_dtype(Kind::Double);
        NextLogits { logits, uniform }
    }

    /// Whether all steps launch the same operations. On a GPU this is so for flash attention alone, since a mask grows.
    fn can_record(&self) -> bool {
        let is_flash = self.decoder.few_launches() && self.cache.has_flash(self.decoder.activations());
        is_flash || self.decoder.device() == Device::Cpu
    }

    /// Whether row i is in slot i, and no slot is free.
    fn are_rows_slots(&self) -> bool {
        self.slots.iter().copied().eq(0..self.cache.slots())
    }

    /// Selects the rows of a tensor over slots. // (S, ...), (5 * S,) -> (B, ...)
    fn of_rows(&self, of_slots: &Tensor, numbers: &Tensor) -> Tensor {
        if self.are_rows_slots() {
            return of_slots.shallow_clone();
        }
        let count = |n: usize| i64::try_from(n).expect("rows fit i64");
        of_slots.index_select(0, &numbers.narrow(0, 3 * count(self.cache.slots()), count(self.slots.len())))
    }

    /// Computes the logits of all rows. Returns them with the numbers on the device. // (5 * S,) -> (5 * S,), (B, V)
    fn direct(&mut self, numbers: &Tensor) -> (Tensor, Tensor) {
        let numbers = numbers.to_device(self.decoder.device());
        let hidden = step(self.decoder, &mut self.cache, &numbers);
        let logits = self.decoder.logits(&self.of_rows(&hidden, &numbers)).to_kind(Kind::Float);
        (numbers, logits)
    }

    /// Computes like [`TensorDecoding::direct`], by a recording of the step for all slots.
    /// // (5 * S,) -> (5 * S,), (B, V)
    fn recorded(&mut self, numbers: &Tensor) -> (Tensor, Tensor) {
        let (decoder, cache) = (self.decoder, &mut self.cache);
        let current = cache.replaced();
        let kept = self.recorded.take().filter(|recorded| recorded.replaced == current);
        let mut recorded = if let Some(mut recorded) = kept {
            recorded.numbers.copy_(numbers);
            recorded
        } else {
            let numbers = numbers.to_device(decoder.device()).copy();
            let work = || decoder.logits(&step(decoder, cache, &numbers)).to_kind(Kind::Float);
            let recording = Recording::of(decoder.device(), work);
            RecordedStep { recording, numbers, replaced: current }
        };
        let RecordedStep { recording, numbers, .. } = &mut recorded;
        let logits = recording.repeat(|| decoder.logits(&step(decoder, cache, numbers)).to_kind(Kind::Float));
        let found = (numbers.shallow_clone(), self.of_rows(&logits, numbers));
        self.recorded = Some(recorded);
        found
    }
}

/// Computes the hidden states of the next token of all slots. // (5 * S,) -> (S, C)
fn step(decoder: &Decoder, cache: &mut SlotCache, numbers: &Tensor) -> Tensor {
    let next = cache.next_token(numbers, decoder.activations(), decoder.few_launches());
    decoder.decode(&next, cache)
}

/// A recorded step, with the tensor that it reads its numbers from.
struct RecordedStep {
    recording: Recording,
    numbers: Tensor, // (5 * S,)
    /// [`SlotCache::replaced`] when it was recorded.
    replaced: usize,
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
