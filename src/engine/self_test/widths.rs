//! A decoder of real widths with random weights: sampling, scoring and training must agree on the probability of a
//! token.
//!
//! Kernels are chosen by the sizes of their tensors, so the tiny models of the other checks do not reach those that
//! users train with. Sampling attends through its cache of keys and values, scoring to packed rows, and training to a
//! prompt that completions share. Each is another kernel on a GPU.

use super::Report;
use crate::error::{StageError, StageResult};
use crate::generation::{Request, Stop, sample};
use crate::head::logprobs;
use crate::models::{Decoder, Group, LlamaSizes, Packed};
use orchestrate_core::recipe::spec::Sampling;
use std::collections::BTreeSet;
use tch::{Device, Kind, Tensor};

/// Widths of Llama 3.1 8B: hidden, feed-forward, heads, key-value heads, vocabulary.
const GPU: [i64; 5] = [4096, 14336, 32, 8, 128_256];
/// Widths that a CPU computes within seconds.
const CPU: [i64; 5] = [256, 512, 4, 2, 2048];
/// Number of layers: two pass on each other's results.
const LAYERS: i64 = 2;
/// Length of the prompt, and the number and the length of its completions.
const PROMPT: usize = 100;
const COMPLETIONS: u64 = 8;
const NEW_TOKENS: usize = 40;
/// Largest difference of a token's log-probability in 32 bits.
const FLOAT32: f64 = 1e-3;
/// Largest difference in 16 bits, and the largest on average.
const BFLOAT16: (f64, f64) = (0.5, 0.05);

pub(super) fn run(report: &mut Report, device: Device) -> StageResult<()> {
    for kind in [Kind::Float, Kind::BFloat16] {
        let name = format!("real widths, {}", if kind == Kind::Float { "float32" } else { "bfloat16" });
        report.check(&name, || agree(kind, device))?;
    }
    Ok(())
}

/// Whether sampling, packed rows and a shared prompt agree on the log-probabilities of sampled tokens.
fn agree(kind: Kind, device: Device) -> StageResult<(bool, String)> {
    tch::manual_seed(0);
    let decoder = random_decoder(kind, device);
    let uniform = Tensor::rand([i64::try_from(PROMPT).expect("fits")], (Kind::Float, Device::Cpu));
    let ids = (uniform * decoder.config.vocab_size as f64).to_kind(Kind::Int64);
    let prompt = Vec::<i64>::try_from(ids).map_err(|e| StageError::input(e.to_string()))?;

    let request = Request { prompt_ids: &prompt, seeds: (0..COMPLETIONS).collect() };
    let sampling = Sampling::plain(NEW_TOKENS);
    let never = BTreeSet::new();
    let sampled = sample(&decoder, &[request], &sampling, &Stop::ids(&never), 0);
    let of_sampling: Vec<f32> = sampled.iter().flat_map(|completion| completion.logprobs.clone()).collect();

    let targets: Vec<i64> = sampled.iter().flat_map(|completion| completion.ids.clone()).collect();
    let targets = Tensor::from_slice(&targets).to_device(device);
    let score = |hidden: &Tensor| -> StageResult<Vec<f32>> {
        let scored = logprobs(&decoder, hidden, &targets, sampling.temperature).logprobs;
        Vec::<f32>::try_from(scored.to_kind(Kind::Float)).map_err(|e| StageError::input(e.to_string()))
    };
    let rows: Vec<Vec<i64>> = sampled.iter().map(|completion| [prompt.as_slice(), &completion.ids].concat()).collect();
    let packed = Packed::new(&rows, device);
    let predictors: Vec<i64> = packed
        .starts()
        .iter()
        .zip(&packed.lengths)
        .flat_map(|(start, length)| start + i64::try_from(PROMPT).expect("fits") - 1..start + length - 1)
        .collect();
    let hidden = |packed: &Packed| tch::no_grad(|| decoder.hidden(packed));
    let of_rows = score(&hidden(&packed).index_select(0, &Tensor::from_slice(&predictors).to_device(device)))?;
    let group = Group { prompt: &prompt, completions: sampled.iter().map(|completion| &*completion.ids).collect() };
    let shared = Packed::grouped(&[group], device);
    let of_group = score(&shared.predicting(&hidden(&shared)))?;

    let (rows_most, rows_mean) = difference(&of_sampling, &of_rows);
    let (group_most, group_mean) = difference(&of_sampling, &of_group);
    let (most, mean) = (rows_most.max(group_most), rows_mean.max(group_mean));
    let passed = if kind == Kind::Float { most < FLOAT32 } else { most < BFLOAT16.0 && mean < BFLOAT16.1 };
    let found = format!(
        "log-probabilities of {} sampled tokens differ by at most {rows_most:.1e} in packed rows (mean {rows_mean:.1e}) \
         and {group_most:.1e} behind a shared prompt (mean {group_mean:.1e})",
        of_sampling.len()
    );
    Ok((passed, found))
}

/// The largest and the mean difference. A value that is not a number makes both infinite.
fn difference(a: &[f32], b: &[f32]) -> (f64, f64) {
    let off: Vec<f64> = a.iter().zip(b).map(|(a, b)| f64::from((a - b).abs())).collect();
    if a.len() != b.len() || off.iter().any(|off| off.is_nan()) {
        return (f64::INFINITY, f64::INFINITY);
    }
    (off.iter().copied().fold(0.0, f64::max), off.iter().sum::<f64>() / off.len() as f64)
}

/// Returns a decoder of two layers with random weights: of real widths on a GPU, of small ones on a CPU.
pub(super) fn random_decoder(kind: Kind, device: Device) -> Decoder {
    let [hidden_size, intermediate_size, num_attention_heads, num_key_value_heads, vocab_size] =
        if device == Device::Cpu { CPU } else { GPU };
    let config = LlamaSizes {
        hidden_size,
        intermediate_size,
        num_hidden_layers: LAYERS,
        num_attention_heads,
        num_key_value_heads,
        vocab_size,
        max_position_embeddings: 2048,
        tie_word_embeddings: false,
    };
    Decoder::random(config.config(), kind, device)
}
