//! Sampling completions: prompts are prefilled once each, their caches copied for the completions of their group, and
//! rows that ended leave the batch.
//!
//! Every completion has a generator of its own, so its draws do not depend on its neighbours.

use crate::models::{Decoder, Packed};
use crate::seed;
use orchestrate::event::StopReason;
use orchestrate::recipe::spec::Sampling;
use rand::RngExt as _;
use rand_chacha::ChaCha8Rng;
use std::collections::BTreeSet;
use tch::{Kind, Tensor};

/// A prompt and the seeds of the completions that are wanted of it.
#[derive(Debug)]
pub struct Request<'a> {
    /// Tokens of the prompt.
    pub prompt_ids: &'a [i64],
    /// One completion each.
    pub seeds: Vec<u64>,
}

/// A sampled completion.
#[derive(Clone, Debug, PartialEq)]
pub struct Sampled {
    /// Tokens, the stop token included.
    pub ids: Vec<i64>,
    /// Log-probability of each token at the sampling temperature, over the whole vocabulary.
    pub logprobs: Vec<f32>,
    /// Why it ended.
    pub stop_reason: StopReason,
}

/// A completion in the making.
struct Row {
    /// Index in the flat list of completions.
    slot: usize,
    rng: ChaCha8Rng,
}

/// Samples every completion of `requests`; the results are in the order of requests and their seeds.
///
/// # Panics
/// When `requests` is empty or a prompt is.
pub fn sample(
    decoder: &Decoder,
    requests: &[Request<'_>],
    sampling: &Sampling,
    stop_ids: &BTreeSet<i64>,
) -> Vec<Sampled> {
    tch::no_grad(|| {
        let prompts: Vec<&[i64]> = requests.iter().map(|r| r.prompt_ids).collect();
        let packed = Packed::new(&prompts, decoder.device());
        let max_new_tokens = i64::try_from(sampling.max_new_tokens).expect("the token limit fits i64");
        let mut cache = decoder.new_cache(&packed.lengths, max_new_tokens);
        let hidden = decoder.prefill(&packed, &mut cache); // (T, C)
        let last: Vec<i64> = packed.starts().iter().zip(&packed.lengths).map(|(start, n)| start + n - 1).collect();
        let last = Tensor::from_slice(&last).to_device(decoder.device());

        // one row a completion, beginning as a copy of its prompt's
        let origin: Vec<usize> =
            requests.iter().enumerate().flat_map(|(i, r)| std::iter::repeat_n(i, r.seeds.len())).collect();
        let mut rows: Vec<Row> = requests
            .iter()
            .flat_map(|r| &r.seeds)
            .enumerate()
            .map(|(slot, &seed)| Row { slot, rng: seed::generator(seed) })
            .collect();
        let mut results =
            vec![Sampled { ids: Vec::new(), logprobs: Vec::new(), stop_reason: StopReason::Length }; rows.len()];
        cache.select_rows(&origin);
        let index: Vec<i64> = origin.iter().map(|&i| i64::try_from(i).expect("rows fit i64")).collect();
        let mut logits = decoder
            .logits(&hidden.index_select(0, &last))
            .index_select(0, &Tensor::from_slice(&index).to_device(decoder.device())); // (B, V)

        for position in 1..=sampling.max_new_tokens {
            let (ids, logprobs) = draw(&logits, sampling, &mut rows);
            let mut unfinished = Vec::with_capacity(rows.len());
            for (i, row) in rows.iter().enumerate() {
                let result = &mut results[row.slot];
                result.ids.push(ids[i]);
                result.logprobs.push(logprobs[i]);
                if stop_ids.contains(&ids[i]) {
                    result.stop_reason = StopReason::StopToken;
                } else {
                    unfinished.push(i);
                }
            }
            if unfinished.is_empty() || position == sampling.max_new_tokens {
                break;
            }
            if unfinished.len() < rows.len() {
                cache.select_rows(&unfinished);
                let mut keep = unfinished.iter().copied().peekable();
                let mut i = 0;
                rows.retain(|_| {
                    let kept = keep.next_if_eq(&i).is_some();
                    i += 1;
                    kept
                });
            }
            let next: Vec<i64> = unfinished.iter().map(|&i| ids[i]).collect();
            let hidden = decoder.decode(&Tensor::from_slice(&next).to_device(decoder.device()), &mut cache);
            logits = decoder.logits(&hidden);
        }
        results
    })
}

/// The next token of each row and its log-probability. // (B, V) -> B of each
fn draw(logits: &Tensor, sampling: &Sampling, rows: &mut [Row]) -> (Vec<i64>, Vec<f32>) {
    let logits = logits.to_kind(Kind::Float);
    let greedy = sampling.temperature == 0.0;
    let scaled = if greedy { logits } else { logits / sampling.temperature };
    let log_softmax = scaled.log_softmax(-1, Kind::Float); // (B, V)
    let ids = if greedy {
        log_softmax.argmax(-1, false)
    } else {
        let probabilities = restrict(&log_softmax.exp(), sampling);
        let cumulative = probabilities.cumsum(-1, Kind::Double); // (B, V)
        let uniform: Vec<f64> = rows.iter_mut().map(|row| row.rng.random::<f64>()).collect();
        let last = cumulative.size()[1] - 1;
        let threshold =
            Tensor::from_slice(&uniform).to_device(cumulative.device()).unsqueeze(1) * cumulative.narrow(1, last, 1); // (B, 1)
        // the first token whose cumulative probability exceeds the threshold
        cumulative.le_tensor(&threshold).sum_dim_intlist(-1, false, Kind::Int64).clamp_max(last) // (B,)
    };
    let logprobs = log_softmax.gather(1, &ids.unsqueeze(1), false).squeeze_dim(1);
    (to_vec(&ids), to_vec(&logprobs))
}

/// Zeroes what `top_k` and `top_p` exclude. // (B, V) -> (B, V)
fn restrict(probabilities: &Tensor, sampling: &Sampling) -> Tensor {
    let vocabulary = probabilities.size()[1];
    let top_k = i64::try_from(sampling.top_k).expect("top_k fits i64");
    let mut kept = probabilities.shallow_clone();
    if top_k > 0 && top_k < vocabulary {
        let (values, _) = kept.topk(top_k, -1, true, true);
        let smallest = values.narrow(1, top_k - 1, 1); // (B, 1)
        kept = kept.masked_fill(&kept.lt_tensor(&smallest), 0.0);
    }
    if sampling.top_p < 1.0 {
        let (sorted, order) = kept.sort(-1, true);
        let before = sorted.cumsum(-1, Kind::Float) - &sorted; // probability of all that are more likely
        let total = sorted.sum_dim_intlist(-1, true, Kind::Float);
        let sorted = sorted.masked_fill(&before.ge_tensor(&(total * sampling.top_p)), 0.0);
        kept = kept.zeros_like().scatter(1, &order, &sorted);
    }
    kept
}

fn to_vec<T: tch::kind::Element + Copy>(tensor: &Tensor) -> Vec<T>
where
    Vec<T>: TryFrom<Tensor>,
    <Vec<T> as TryFrom<Tensor>>::Error: std::fmt::Debug,
{
    Vec::<T>::try_from(tensor.to_device(tch::Device::Cpu)).expect("a vector of the tensor's own type")
}
