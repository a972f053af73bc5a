//! The ways in which only a GPU computes, compared with the plain ways on the same device.
//!
//! On a CPU the checks run too, where attention in one call is a call for each sequence.

use super::Report;
use super::widths::random_decoder;
use crate::error::StageResult;
use crate::generation::{Request, Sampled, Stop, sample_groups};
use crate::models::{Decoder, Decoding, Group, Packed, PassOptions, TrainingPass};
use crate::optim::AdamW;
use crate::seed;
use crate::torch::Deterministic;
use orchestrate_core::recipe::spec::{LoraSpec, Sampling};
use std::collections::BTreeSet;
use tch::{Device, Kind, Tensor};

/// Lengths of documents in a row, and of the completions of one prompt. Keys of a completion are its prompt's and its
/// own; one of the sums is 64 more than a multiple of 128.
const DOCUMENTS: [i64; 5] = [137, 300, 1, 64, 522];
const PROMPT: i64 = 200;
const COMPLETIONS: [i64; 4] = [120, 1, 311, 120];
/// Largest difference of hidden states and gradients, relative to the largest of them.
const FLOAT32: f64 = 1e-4;
const BFLOAT16: f64 = 5e-2;
/// Largest difference of a weight after three updates.
const UPDATES: f64 = 1e-6;

pub(super) fn run(report: &mut Report, device: Device) -> StageResult<()> {
    for kind in [Kind::Float, Kind::BFloat16] {
        let format = if kind == Kind::Float { "float32" } else { "bfloat16" };
        report.check(&format!("few launches, {format}"), || Ok(same_as_plain(kind, device)))?;
        report.check(&format!("repeated bits, {format}"), || Ok(repeats(kind, device)))?;
    }
    report.check("updates together", || Ok(updates(device)))?;
    report.check("recorded steps", || Ok(recorded(device)))
}

/// Returns a row of documents, and a prompt with its completions.
fn rows(decoder: &Decoder) -> [(&'static str, Packed); 2] {
    let vocabulary = decoder.config.vocab_size.unsigned_abs();
    let text = |name: &str, length: i64| -> Vec<i64> {
        (0..length)
            .map(|i| i64::try_from(seed::derive(0, &[name, &i.to_string()]) % vocabulary).expect("ids fit i64"))
            .collect()
    };
    let texts = |lengths: &[i64]| -> Vec<Vec<i64>> {
        lengths.iter().enumerate().map(|(index, &length)| text(&index.to_string(), length)).collect()
    };
    let (prompt, completions) = (text("prompt", PROMPT), texts(&COMPLETIONS));
    let group = Group { prompt: &prompt, completions: completions.iter().map(Vec::as_slice).collect() };
    [
        ("documents", Packed::new(&texts(&DOCUMENTS), decoder.device())),
        ("shared prefix", Packed::grouped(&[group], decoder.device())),
    ]
}

/// Returns a decoder of random weights, with an adapter that has an effect.
fn adapted(kind: Kind, device: Device) -> Decoder {
    tch::manual_seed(0);
    let mut decoder = random_decoder(kind, device);
    let target_modules = decoder.linear_names();
    let spec = LoraSpec { rank: 8, alpha: 12.0, dropout: 0.0, rslora: false, target_modules };
    decoder.add_lora(&spec, 1).expect("the layers exist");
    for (_, tensor) in decoder.trainable() {
        let _ = tch::no_grad(|| tensor.shallow_clone().normal_(0.0, 0.02));
    }
    decoder
}

/// Returns the hidden states of a row, and the gradients of the sum of their squares.
fn pass(decoder: &Decoder, packed: &Packed) -> Vec<Tensor> {
    let pass = TrainingPass::new(decoder, packed, PassOptions::default());
    let hidden = pass.hidden().detach();
    let scale = 1.0 / hidden.numel() as f64;
    (pass.hidden().to_kind(Kind::Float).square().sum(Kind::Float) * scale).backward();
    pass.finish();
    let gradients = decoder.trainable().into_iter().map(|(_, mut tensor)| {
        let gradient = tensor.grad().copy();
        tensor.zero_grad();
        gradient
    });
    std::iter::once(hidden).chain(gradients).collect()
}

/// Whether the layers compute the same in few launches as in many.
fn same_as_plain(kind: Kind, device: Device) -> (bool, String) {
    let mut decoder = adapted(kind, device);
    let mut largest = Vec::new();
    for (name, packed) in rows(&decoder) {
        decoder.set_few_launches(true);
        let few = pass(&decoder, &packed);
        decoder.set_few_launches(false);
        let plain = pass(&decoder, &packed);
        let off = few.iter().zip(&plain).map(|(few, plain)| relative_difference(few, plain)).fold(0.0, f64::max);
        largest.push((name, off));
    }
    let tolerance = if kind == Kind::Float { FLOAT32 } else { BFLOAT16 };
    let passed = largest.iter().all(|(_, off)| *off < tolerance);
    let found: Vec<String> = largest.iter().map(|(name, off)| format!("{name} {off:.1e}")).collect();
    (passed, format!("largest difference from the plain way: {}", found.join(", ")))
}

/// Whether two passes give the same bits.
fn repeats(kind: Kind, device: Device) -> (bool, String) {
    let decoder = adapted(kind, device);
    let mut differing = Vec::new();
    for (name, packed) in rows(&decoder) {
        let _deterministic = Deterministic::begin(true, device);
        let (first, second) = (pass(&decoder, &packed), pass(&decoder, &packed));
        let count = first.iter().zip(&second).filter(|(a, b)| a != b).count();
        differing.push((name, count, first.len()));
    }
    let passed = differing.iter().all(|(_, count, _)| *count == 0);
    let found: Vec<String> = differing.iter().map(|(name, count, of)| format!("{name} {count} of {of}")).collect();
    (passed, format!("tensors that differ between two passes: {}", found.join(", ")))
}

/// Whether sampling by recorded steps draws the same tokens with the same probabilities. Rows end at different times,
/// so steps are recorded several times.
fn recorded(device: Device) -> (bool, String) {
    let mut decoder = adapted(Kind::BFloat16, device);
    let prompts: Vec<Vec<i64>> = (1..4).map(|length| (0..length * 20).collect()).collect();
    let stop_ids: BTreeSet<i64> = (0..decoder.config.vocab_size / 20).collect();
    let mut run = |records_steps: bool| -> Vec<Sampled> {
        decoder.set_records_steps(records_steps);
        let requests: Vec<Request<'_>> =
            prompts.iter().map(|prompt_ids| Request { prompt_ids, seeds: (0..4).collect() }).collect();
        let mut groups: Vec<Vec<Sampled>> = vec![Vec::new(); requests.len()];
        let ended = |request: usize, group| groups[request] = group;
        let (start, stop, sampling) = (Decoding::with_tensors, Stop::ids(&stop_ids), Sampling::plain(40));
        sample_groups(start, &decoder, &requests, &sampling, &stop, 5, ended, |_| true).expect("`go_on` is true");
        groups.concat()
    };
    let (plain, recorded) = (run(false), run(true));
    let differing = plain.iter().zip(&recorded).filter(|(plain, recorded)| plain != recorded).count();
    let tokens: usize = recorded.iter().map(|sampled| sampled.ids.len()).sum();
    (differing == 0, format!("{differing} of {} completions differ, {tokens} tokens", plain.len()))
}

/// Whether the optimizer computes the same for all weights together as one by one.
fn updates(device: Device) -> (bool, String) {
    tch::manual_seed(0);
    let options = (Kind::Float, device);
    let starts: Vec<Tensor> = [[300, 70], [1, 5], [64, 64]].iter().map(|size| Tensor::randn(size, options)).collect();
    let grads: Vec<Tensor> = starts.iter().map(Tensor::randn_like).collect();
    let run = |step: fn(&mut AdamW, f64)| -> Vec<Tensor> {
        let values: Vec<Tensor> = starts.iter().map(|start| start.copy().set_requires_grad(true)).collect();
        let named = values.iter().enumerate().map(|(index, value)| (index.to_string(), value.shallow_clone()));
        let mut optimizer = AdamW::new(named.collect(), (0.9, 0.999), 1e-8, 0.1);
        for _ in 0..3 {
            for (value, grad) in values.iter().zip(&grads) {
                (value * grad).sum(Kind::Float).backward();
            }
            step(&mut optimizer, 1e-3);
        }
        values
    };
    let (together, one_by_one) = (run(AdamW::step_together), run(AdamW::step_one_by_one));
    let off = together.iter().zip(&one_by_one).map(|(a, b)| (a - b).abs().max().double_value(&[])).fold(0.0, f64::max);
    (off < UPDATES, format!("weights differ from updates one by one by at most {off:.1e}"))
}

/// The largest difference, relative to the largest value. A value that is not a number makes it infinite.
fn relative_difference(a: &Tensor, b: &Tensor) -> f64 {
    let [a, b] = [a, b].map(|t| t.detach().to_kind(Kind::Float));
    let off = ((&a - &b).abs().max() / b.abs().max().clamp_min(1e-12)).double_value(&[]);
    if off.is_nan() { f64::INFINITY } else { off }
}
