//! The cases, each on a decoder of random weights.

use super::shared::{median, random_ids, synchronize};
use super::{Options, SHAPES};
use orchestrate_core::recipe::spec::{LoraSpec, Sampling};
use orchestrate_core::rewards::TextEncoder as _;
use orchestrate_engine::data::Sequence;
use orchestrate_engine::device::GpuMemory;
use orchestrate_engine::encoder::Encoder;
use orchestrate_engine::generation::{Request, Sampled, Seconds, Stop, sample_groups};
use orchestrate_engine::loss::{PolicyKnobs, Surrogate};
use orchestrate_engine::models::{Decoder, DecoderConfig, Decoding, LlamaSizes, PassOptions};
use orchestrate_engine::optim::{AdamW, clip_grad_norm};
use orchestrate_engine::stages::{Rated, Sums, TokenAdvantages, UpdateOptions, accumulate, accumulate_rated};
use orchestrate_engine::torch::Deterministic;
use orchestrate_engine::{memory, seed};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::path::Path;
use std::time::Instant;
use tch::{Device, Kind, Tensor};

/// Prompts of a step, and completions of each prompt.
const PROMPTS: usize = 8;
const GROUP: usize = 6;
/// Mean length of packed documents, in tokens.
const DOCUMENT: usize = 150;

/// Measures the case, and returns its values by name.
pub(super) fn measure(shape: &str, mode: &str, device: Device, options: &Options) -> Value {
    let &(_, sizes, tied, batch) = SHAPES.iter().find(|(name, ..)| *name == shape).expect("a known shape");
    let (batch, seq) = (options.number("--batch", batch), options.number("--seq", 2048));
    let kind = if options.text("--dtype", "bfloat16") == "float32" { Kind::Float } else { Kind::BFloat16 };
    tch::manual_seed(0);
    let mut row = if mode == "encode" {
        encode(device, kind, options)
    } else {
        let mut decoder = Decoder::random(config(sizes, tied, seq), kind, device);
        if mode == "full" {
            decoder.unfreeze();
        } else {
            decoder.add_lora(&lora(&decoder), 0).expect("the layers exist");
        }
        decoder.set_few_launches(options.text("--launches", "few") == "few");
        decoder.set_records_steps(options.text("--graphs", "off") == "on");
        match mode {
            "lora" | "full" | "packed" => train(&decoder, mode, tied, [batch, seq], options),
            "decode" => decode(&decoder, options),
            "grpo" => grpo(decoder, options),
            "bits" => bits(decoder, batch, seq),
            other => panic!("unknown mode `{other}`"),
        }
    };
    row["shape"] = shape.into();
    row["mode"] = mode.into();
    row["dtype"] = format!("{kind:?}").into();
    let gib = |bytes: u64| bytes as f64 / (1u64 << 30) as f64;
    match GpuMemory::of(device) {
        Some(memory) => {
            row["allocated_gib"] = gib(memory.allocated_bytes).into();
            row["reserved_gib"] = gib(memory.reserved_bytes).into();
            row["alloc_retries"] = memory.retries.into();
        }
        None => row["allocated_gib"] = gib(memory::peak_resident().unwrap_or(0)).into(),
    }
    row
}

/// Optimizer steps: on rows of one length, or on rows packed with documents whose lengths differ at every step.
fn train(decoder: &Decoder, mode: &str, tied: bool, [batch, seq]: [usize; 2], options: &Options) -> Value {
    let checkpointing = options.text("--checkpointing", "off") == "on";
    let weights: usize = decoder.weights().iter().map(|(_, weight)| weight.numel()).sum();
    let config = &decoder.config;
    let embedding = usize::try_from(config.vocab_size * config.hidden_size).expect("fits");
    let linear = (if tied { weights } else { weights - embedding }) as f64;
    let trained: usize = decoder.trainable().iter().map(|(_, tensor)| tensor.numel()).sum();
    let length = if mode == "packed" { DOCUMENT } else { seq };
    let attention =
        (12 * config.num_attention_heads * config.head_dim) as f64 * config.num_hidden_layers as f64 * length as f64;
    let per_token = if mode == "full" { 6.0 * linear } else { 4.0 * linear + 6.0 * trained as f64 } + attention;
    let mut optimizer = AdamW::new(decoder.trainable(), (0.9, 0.999), 1e-8, 0.0);
    let mut times = Times::default();
    for step in 0..=options.number("--steps", 8) {
        let lengths = if mode == "packed" { packed_lengths(batch * seq, step) } else { vec![seq; batch] };
        let documents = documents(decoder, &lengths, step);
        let documents: Vec<&Sequence> = documents.iter().collect();
        let tokens = documents.iter().map(|document| document.trained_tokens()).sum();
        times.measure(decoder.device(), step > 0, || {
            let deterministic = deterministic(decoder, options);
            let _ = accumulate(decoder, &documents, tokens, PassOptions { dropout_seed: None, checkpointing });
            drop(deterministic);
            clip_grad_norm(optimizer.values(), 1.0);
            optimizer.step(1e-4);
        });
    }
    let (seconds, launch) = times.medians();
    let tokens = (batch * seq) as f64;
    json!({
        "batch": batch, "seq": seq, "checkpointing": checkpointing, "seconds": seconds, "launch_s": launch,
        "tokens_per_s": tokens / seconds, "tflops": per_token * tokens / seconds / 1e12,
    })
}

/// Begins the time in which bits repeat, as stages do by default.
fn deterministic(decoder: &Decoder, options: &Options) -> Option<Deterministic> {
    Deterministic::begin(options.text("--deterministic", "on") == "on", decoder.device())
}

/// Sampling; a step is one token of every completion.
fn decode(decoder: &Decoder, options: &Options) -> Value {
    let (prompt, new) = (options.number("--prompt", 512), options.number("--new", 128));
    let mut runs: Vec<Seconds> = Vec::new();
    for step in 0..=options.number("--steps", 2) {
        let (_, seconds) = roll_out(decoder, prompt, new, step);
        if step > 0 {
            runs.push(seconds);
        }
    }
    let decode = median(runs.iter().map(|seconds| seconds.decode).collect());
    let prefill = median(runs.iter().map(|seconds| seconds.prefill).collect());
    json!({
        "rows": PROMPTS * GROUP, "prompt": prompt, "new": new, "seconds": decode / new as f64, "prefill_s": prefill,
        "tokens_per_s": (PROMPTS * GROUP * new) as f64 / decode, "note": format!("prefill {prefill:.3} s"),
    })
}

/// A step of GRPO with rewards drawn at random: sampling, then an update of one micro-batch for each prompt.
fn grpo(mut decoder: Decoder, options: &Options) -> Value {
    let (prompt, new) = (options.number("--prompt", 512), options.number("--new", 512));
    let mut optimizer = AdamW::new(decoder.trainable(), (0.9, 0.999), 1e-8, 0.0);
    let (mut times, mut rollouts) = (Times::default(), Vec::new());
    for step in 0..=options.number("--steps", 2) {
        let began = Instant::now();
        let (groups, _) = roll_out(&decoder, prompt, new, step);
        synchronize(decoder.device());
        if step > 0 {
            rollouts.push(began.elapsed().as_secs_f64());
        }
        times.measure(decoder.device(), step > 0, || {
            let deterministic = deterministic(&decoder, options);
            update(&mut decoder, &groups);
            drop(deterministic);
            clip_grad_norm(optimizer.values(), 1.0);
            optimizer.step(1e-4);
        });
    }
    let (update, launch) = times.medians();
    let rollout = median(rollouts);
    json!({
        "rows": PROMPTS * GROUP, "prompt": prompt, "new": new, "seconds": rollout + update, "launch_s": launch,
        "rollout_s": rollout, "update_s": update, "tokens_per_s": (PROMPTS * GROUP * new) as f64 / (rollout + update),
        "note": format!("rollout {rollout:.3} s, update {update:.3} s"),
    })
}

/// Gradients of a packed and of a shared-prefix micro-batch, computed twice, with algorithms that repeat and with any.
fn bits(mut decoder: Decoder, batch: usize, seq: usize) -> Value {
    let lengths = packed_lengths(batch * seq, 0);
    let texts = documents(&decoder, &lengths, 0);
    let texts: Vec<&Sequence> = texts.iter().collect();
    let tokens = texts.iter().map(|document| document.trained_tokens()).sum();
    let (groups, _) = roll_out(&decoder, 300, 100, 0);
    let mut row = json!({});
    let mut notes = Vec::new();
    for name in ["packed", "shared_prefix"] {
        for deterministic in [true, false] {
            let _deterministic = Deterministic::begin(deterministic, decoder.device());
            let pass = |decoder: &mut Decoder| match name {
                "packed" => drop(accumulate(decoder, &texts, tokens, PassOptions::default())),
                _ => update(decoder, &groups[..1]),
            };
            let Repeated { differ, of, largest, seconds } = repeated(&mut decoder, pass);
            let way = if deterministic { "deterministic" } else { "any order" };
            notes.push(format!("{name}, {way}: {differ} of {of} differ, {:.1} ms", 1e3 * seconds));
            row[name][way] = json!({"differ": differ, "of": of, "largest": largest, "seconds": seconds});
        }
    }
    row["note"] = notes.join("; ").into();
    row
}

/// The outcome of computing gradients several times.
struct Repeated {
    /// Number of gradients whose bits differ between two passes, and of all.
    differ: usize,
    of: usize,
    largest: f64,
    /// Median time of a pass.
    seconds: f64,
}

fn repeated(decoder: &mut Decoder, pass: impl Fn(&mut Decoder)) -> Repeated {
    let mut times = Times::default();
    let mut gradients = |counts: bool| {
        for (_, weight) in decoder.trainable() {
            weight.shallow_clone().zero_grad();
        }
        times.measure(decoder.device(), counts, || pass(decoder));
        decoder.trainable().iter().map(|(_, weight)| weight.grad().copy()).collect::<Vec<Tensor>>()
    };
    let _ = gradients(false);
    let (first, second) = (gradients(true), gradients(true));
    let off: Vec<f64> = first
        .iter()
        .zip(&second)
        .filter(|(a, b)| a.defined() && b.defined())
        .map(|(a, b)| (a - b).abs().max().double_value(&[]))
        .collect();
    Repeated {
        differ: off.iter().filter(|&&off| off != 0.0).count(),
        of: off.len(),
        largest: off.iter().copied().fold(0.0, f64::max),
        seconds: times.medians().0,
    }
}

/// Embeddings of batches whose texts have other lengths at every step.
fn encode(device: Device, kind: Kind, options: &Options) -> Value {
    let dir = options.0.get("--encoder").expect("`--encoder DIR` names an encoder");
    let mut encoder = Encoder::load(Path::new(dir), device, kind).expect("the encoder loads");
    let count = options.number("--batch", PROMPTS * GROUP);
    let mut times = Times::default();
    for step in 0..=options.number("--steps", 8) {
        let words = |text: usize| 20 + seed::derive(step as u64, &["text", &text.to_string()]) % 180;
        let text = |text: usize| "the heart pumps blood ".repeat(usize::try_from(words(text) / 4).expect("fits"));
        let texts: Vec<String> = (0..count).map(text).collect();
        let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
        times.measure(device, step > 0, || {
            encoder.embed(&texts).expect("the texts are embedded");
        });
    }
    let (seconds, _) = times.medians();
    let speed = count as f64 / seconds;
    json!({"texts": count, "seconds": seconds, "texts_per_s": speed, "note": format!("{speed:.0} texts/s")})
}

/// A prompt, and the completions that were sampled for it.
type PromptGroup = (Vec<i64>, Vec<Sampled>);

fn roll_out(decoder: &Decoder, prompt: usize, new: usize, step: usize) -> (Vec<PromptGroup>, Seconds) {
    let prompts: Vec<Vec<i64>> = (0..PROMPTS).map(|row| random_ids(decoder, step * PROMPTS + row, prompt)).collect();
    let seeds = |row: usize| (0..GROUP as u64).map(|i| i + 1000 * (step * PROMPTS + row) as u64).collect();
    let requests: Vec<Request<'_>> =
        prompts.iter().enumerate().map(|(row, ids)| Request { prompt_ids: ids, seeds: seeds(row) }).collect();
    let none = BTreeSet::new();
    let mut groups: Vec<Vec<Sampled>> = vec![Vec::new(); PROMPTS];
    let ended = |request: usize, group| groups[request] = group;
    let sampling = Sampling::plain(new);
    let took = sample_groups(Decoding::new, decoder, &requests, &sampling, &Stop::ids(&none), 0, ended, |_| true);
    (prompts.into_iter().zip(groups).collect(), took.expect("`go_on` is always true"))
}

/// Adds the gradients of the groups, one micro-batch for each.
fn update(decoder: &mut Decoder, groups: &[PromptGroup]) {
    let knobs = PolicyKnobs {
        surrogate: Surrogate::TokenRatio,
        clip_low: 0.2,
        clip_high: 0.2,
        kl_coef: 0.0,
        entropy_coef: 0.0,
    };
    let options = UpdateOptions { knobs, temperature: 1.0, checkpointing: false };
    let mut sums = Sums::default();
    for (prompt, completions) in groups {
        let rated: Vec<Rated<'_>> = completions
            .iter()
            .enumerate()
            .map(|(i, sampled)| Rated {
                prompt_ids: prompt,
                ids: &sampled.ids,
                sampling_logprobs: &sampled.logprobs,
                advantages: TokenAdvantages::Alike(if i % 2 == 0 { 1.0 } else { -1.0 }),
                weight: 1.0 / (sampled.ids.len() * PROMPTS * GROUP) as f64,
            })
            .collect();
        accumulate_rated(decoder, None, &rated, options, &mut sums);
    }
}

/// Lengths of documents, drawn for the step, whose sum is `total`.
fn packed_lengths(total: usize, step: usize) -> Vec<usize> {
    let (mut lengths, mut left) = (Vec::new(), total);
    while left > 0 {
        let drawn = seed::derive(step as u64, &["document", &lengths.len().to_string()]) % (2 * DOCUMENT) as u64;
        let drawn = usize::try_from(drawn).expect("fits") + 1;
        lengths.push(if left - drawn.min(left) < 2 { left } else { drawn.clamp(2, left) });
        left -= lengths[lengths.len() - 1];
    }
    lengths
}

fn documents(decoder: &Decoder, lengths: &[usize], step: usize) -> Vec<Sequence> {
    let ids = lengths.iter().enumerate().map(|(row, &length)| random_ids(decoder, step * 100_000 + row, length));
    ids.map(|ids| Sequence::document(String::new(), ids)).collect()
}

/// Times of steps: until they were done, and until they were handed to the device.
#[derive(Default)]
struct Times {
    done: Vec<f64>,
    launched: Vec<f64>,
}

impl Times {
    fn measure(&mut self, device: Device, counts: bool, step: impl FnOnce()) {
        synchronize(device);
        let started = Instant::now();
        step();
        let launched = started.elapsed().as_secs_f64();
        synchronize(device);
        // the first step warms up
        if counts {
            self.launched.push(launched);
            self.done.push(started.elapsed().as_secs_f64());
        }
    }

    fn medians(self) -> (f64, f64) {
        (median(self.done), median(self.launched))
    }
}

fn config(
    [hidden, intermediate, layers, heads, kv_heads, vocabulary]: [i64; 6],
    tied: bool,
    seq: usize,
) -> DecoderConfig {
    LlamaSizes {
        hidden_size: hidden,
        intermediate_size: intermediate,
        num_hidden_layers: layers,
        num_attention_heads: heads,
        num_key_value_heads: kv_heads,
        vocab_size: vocabulary,
        max_position_embeddings: i64::try_from(seq).expect("fits").max(4096),
        tie_word_embeddings: tied,
    }
    .config()
}

/// Adapters on every linear layer, as recipes have them.
fn lora(decoder: &Decoder) -> LoraSpec {
    LoraSpec { rank: 32, alpha: 64.0, dropout: 0.0, rslora: false, target_modules: decoder.linear_names() }
}
