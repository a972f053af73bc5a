//! The engine's part of the benchmarks in `scripts/peers/`. `engine train|sft|generate MODEL_DIR [OPTIONS]` prints one
//! line of JSON with the same fields.

mod shared;

use orchestrate_core::recipe::spec::{LoraSpec, Sampling};
use orchestrate_engine::data::Sequence;
use orchestrate_engine::generation::{Request, Sampled, Seconds, Stop, sample_groups};
use orchestrate_engine::models::{Decoder, Decoding, PassOptions};
use orchestrate_engine::optim::AdamW;
use orchestrate_engine::products;
use orchestrate_engine::stages::accumulate;
use shared::{median, random_ids, synchronize};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::Instant;
use tch::{Cuda, Device, Kind, Tensor};

fn main() {
    orchestrate_engine::cuda::set_variables();
    let _ = orchestrate_engine::cuda::load(); // a GPU is used where there is one
    let mut arguments = std::env::args().skip(1).filter(|a| a != "--bench");
    let (Some(mode), Some(model)) = (arguments.next(), arguments.next()) else {
        report(
            &serde_json::json!({"usage": "engine train|sft|generate MODEL_DIR [--full] [--batch N] [--seq N] [--steps N] [--dtype D]"}),
        );
        return;
    };
    let mut options = Options { flags: BTreeSet::new(), values: BTreeMap::new() };
    let mut rest = arguments.peekable();
    while let Some(name) = rest.next() {
        match rest.next_if(|next| !next.starts_with("--")) {
            Some(value) => drop(options.values.insert(name, value)),
            None => drop(options.flags.insert(name)),
        }
    }
    let device = if Cuda::is_available() { Device::Cuda(0) } else { Device::Cpu };
    let kind = if options.text("--dtype", "float32") == "bfloat16" { Kind::BFloat16 } else { Kind::Float };
    let decoder = Decoder::load(Path::new(&model), kind, device).expect("the model loads");
    report(&match mode.as_str() {
        "train" => train(decoder, &options),
        "sft" => sft(decoder, &options),
        "generate" => generate(decoder, &options),
        other => panic!("unknown mode `{other}`"),
    });
}

struct Options {
    flags: BTreeSet<String>,
    values: BTreeMap<String, String>,
}

impl Options {
    fn text<'a>(&'a self, name: &str, default: &'a str) -> &'a str {
        self.values.get(name).map_or(default, String::as_str)
    }

    fn number(&self, name: &str, default: usize) -> usize {
        self.values.get(name).map_or(default, |v| v.parse().expect("a number"))
    }
}

/// Measures the median time of optimizer steps on dense batches.
fn train(mut decoder: Decoder, options: &Options) -> serde_json::Value {
    let (batch, seq, steps) =
        (options.number("--batch", 4), options.number("--seq", 512), options.number("--steps", 6));
    let full = options.flags.contains("--full");
    let checkpointing = options.flags.contains("--checkpointing");
    if full {
        decoder.unfreeze();
    } else {
        decoder.add_lora(&lora(), 0).expect("the layers exist");
    }
    let mut optimizer = AdamW::new(decoder.trainable(), (0.9, 0.999), 1e-8, 0.0);
    let mut times = Vec::new();
    let mut loss = 0.0;
    for step in 0..=steps {
        let ids: Vec<Vec<i64>> = (0..batch).map(|row| random_ids(&decoder, step * batch + row, seq)).collect();
        let started = Instant::now();
        let documents: Vec<Sequence> = ids.into_iter().map(|ids| Sequence::document(String::new(), ids)).collect();
        let documents: Vec<&Sequence> = documents.iter().collect();
        let trained = documents.iter().map(|document| document.trained_tokens()).sum();
        loss = accumulate(&decoder, &documents, trained, PassOptions { dropout_seed: None, checkpointing })
            .double_value(&[]);
        optimizer.step(1e-4);
        synchronize(decoder.device());
        if step > 0 {
            times.push(started.elapsed().as_secs_f64());
        }
    }
    let seconds = median(times);
    let flops = training_flops(&decoder, &vec![(seq, seq - 1); batch]) / seconds;
    serde_json::json!({
        "gflop_per_s": flops / 1e9, "share_of_product_peak": flops / product_flops(&decoder),
        "mode": if full { "full" } else { "lora" }, "dtype": format!("{:?}", decoder.kind()), "batch": batch, "seq": seq,
        "tokens_per_s": batch as f64 * seq as f64 / seconds, "seconds_per_step": seconds, "loss": loss, "checkpointing": checkpointing,
        "peak_rss_mib": peak_rss_mib(),
    })
}

/// Measures tokens per second of `LoRA` steps on the rows of a file. Each line is `{"input_ids", "labels"}`, with label
/// -100 for tokens without loss.
fn sft(mut decoder: Decoder, options: &Options) -> serde_json::Value {
    #[derive(serde::Deserialize)]
    struct Row {
        input_ids: Vec<i64>,
        labels: Vec<i64>,
    }
    let text = fs_err::read_to_string(options.text("--rows", "")).expect("`--rows FILE`");
    let rows: Vec<Sequence> = text
        .lines()
        .map(|line| serde_json::from_str::<Row>(line).expect("a row"))
        .map(|row| Sequence::new(String::new(), row.input_ids, row.labels.iter().map(|&label| label != -100).collect()))
        .collect();
    let (batch, micro, steps) =
        (options.number("--batch", 16), options.number("--micro", 8), options.number("--steps", 3));
    decoder.add_lora(&lora(), 0).expect("the layers exist");
    let mut optimizer = AdamW::new(decoder.trainable(), (0.9, 0.999), 1e-8, 0.0);
    let (mut speeds, mut flops, mut loss) = (Vec::new(), Vec::new(), 0.0);
    for step in 0..=steps {
        let chosen: Vec<&Sequence> = (0..batch).map(|i| &rows[(step * batch + i) % rows.len()]).collect();
        let trained = chosen.iter().map(|row| row.trained_tokens()).sum();
        let started = Instant::now();
        loss = chosen
            .chunks(micro)
            .map(|rows| accumulate(&decoder, rows, trained, PassOptions::default()).double_value(&[]))
            .sum();
        optimizer.step(1e-4);
        synchronize(decoder.device());
        if step > 0 {
            let seconds = started.elapsed().as_secs_f64();
            let tokens: usize = chosen.iter().map(|row| row.ids.len()).sum();
            let lengths: Vec<_> = chosen.iter().map(|row| (row.ids.len(), row.trained_tokens())).collect();
            speeds.push(tokens as f64 / seconds);
            flops.push(training_flops(&decoder, &lengths) / seconds);
        }
    }
    let flops = median(flops);
    serde_json::json!({
        "gflop_per_s": flops / 1e9, "share_of_product_peak": flops / product_flops(&decoder),
        "dtype": format!("{:?}", decoder.kind()), "batch": batch, "micro": micro, "tokens_per_s": median(speeds),
        "loss": loss, "peak_rss_mib": peak_rss_mib(),
    })
}

/// Measures new tokens per second, sampled at temperature 1.
fn generate(mut decoder: Decoder, options: &Options) -> serde_json::Value {
    let (batch, prompt, new) =
        (options.number("--batch", 12), options.number("--prompt", 64), options.number("--new", 64));
    let group = options.number("--group", 1);
    if options.flags.contains("--lora") {
        decoder.add_lora(&lora(), 0).expect("the layers exist");
    }
    let decoder = &decoder;
    let prompts: Vec<Vec<i64>> = (0..batch / group).map(|row| random_ids(decoder, row, prompt)).collect();
    let sampling = Sampling::plain(new);
    let mut times = Vec::new();
    let mut seconds_of = Seconds::default();
    for round in 0..=options.number("--steps", 3) {
        let requests: Vec<Request<'_>> = prompts
            .iter()
            .map(|p| Request { prompt_ids: p, seeds: (0..group as u64).map(|i| i + 1000 * round as u64).collect() })
            .collect();
        let started = Instant::now();
        let decoding = if options.flags.contains("--tensors") { Decoding::with_tensors } else { Decoding::new };
        let none = BTreeSet::new();
        let stop = Stop::ids(&none);
        let ended = |_, group: Vec<Sampled>| assert!(group.iter().all(|s| s.ids.len() == new));
        let took = sample_groups(decoding, decoder, &requests, &sampling, &stop, 0, ended, |_| true);
        seconds_of = took.expect("`go_on` is always true");
        if round > 0 {
            times.push(started.elapsed().as_secs_f64());
        }
    }
    let seconds = median(times);
    let bandwidth = read_bandwidth();
    let share = bytes_read(decoder, batch, group, prompt, new) / bandwidth / seconds_of.decode;
    let prompts_read = vec![(prompt, 0); batch / group];
    let prefill = forward_flops(decoder, &prompts_read) / seconds_of.prefill / product_flops(decoder);
    serde_json::json!({
        "prefill_share_of_product_peak": prefill, "read_gb_per_s": bandwidth / 1e9, "decode_share_of_bandwidth": share,
        "dtype": format!("{:?}", decoder.kind()), "batch": batch, "prompt": prompt, "group": group, "new": new,
        "new_tokens_per_s": (batch * new) as f64 / seconds, "seconds": seconds, "prefill_s": seconds_of.prefill, "decode_s": seconds_of.decode,
        "peak_rss_mib": peak_rss_mib(),
    })
}

/// Returns the minimum number of bytes that decoding must read. A step reads every weight once, and the keys and values
/// of each row's own tokens and of each group's prompt.
fn bytes_read(decoder: &Decoder, batch: usize, group: usize, prompt: usize, new: usize) -> f64 {
    let weights: usize = decoder.weights().iter().map(|(_, w)| w.numel() * w.kind().elt_size_in_bytes()).sum();
    let c = &decoder.config;
    let token = (2 * 4 * c.num_key_value_heads * c.head_dim) as f64 * c.num_hidden_layers as f64;
    let steps = (new - 1) as f64;
    let tokens_seen = (batch / group * prompt) as f64 + batch as f64 * (new as f64) / 2.0;
    steps * (weights as f64 + token * tokens_seen)
}

/// Returns the minimum number of operations of a training step. `rows` holds the number of tokens and of trained tokens
/// of each row. Recomputation in the backward pass does not count.
fn training_flops(decoder: &Decoder, rows: &[(usize, usize)]) -> f64 {
    let tokens: usize = rows.iter().map(|row| row.0).sum();
    let frozen = decoder.trainable().iter().all(|(name, _)| name.contains("lora"));
    let gradients = if frozen { 2.0 } else { 3.0 }; // forward, gradient by the input, gradient by the weight
    let adapters: usize = decoder.trainable().iter().filter(|_| frozen).map(|(_, weight)| weight.numel()).sum();
    let (products, attention) = forward_parts(decoder, rows);
    gradients * products + 3.5 * attention + 3.0 * 2.0 * (adapters * tokens) as f64
}

/// Returns the operations of a forward pass. `rows` holds the number of tokens and of head positions of each row.
fn forward_flops(decoder: &Decoder, rows: &[(usize, usize)]) -> f64 {
    let (products, attention) = forward_parts(decoder, rows);
    products + attention
}

/// Returns the operations of products with weights, and those of attention.
fn forward_parts(decoder: &Decoder, rows: &[(usize, usize)]) -> (f64, f64) {
    let c = &decoder.config;
    let (hidden, queries) = (c.hidden_size as f64, (c.num_attention_heads * c.head_dim) as f64);
    let keys = (c.num_key_value_heads * c.head_dim) as f64;
    let layers = c.num_hidden_layers as f64;
    let layer = hidden * (2.0 * queries + 2.0 * keys + 3.0 * c.intermediate_size as f64);
    let head = hidden * c.vocab_size as f64;
    let products = rows.iter().map(|&(length, asked)| 2.0 * (layers * layer * length as f64 + head * asked as f64));
    let attention = rows.iter().map(|&(length, _)| layers * queries * 2.0 * (length * length) as f64);
    (products.sum(), attention.sum())
}

/// Measures operations per second of a large product with a weight in this model's format, an upper bound for its
/// layers.
fn product_flops(decoder: &Decoder) -> f64 {
    let (rows, c) = (2048, &decoder.config);
    let kind = products::activations(decoder.kind(), decoder.device());
    let x = Tensor::randn([rows, c.hidden_size], (kind, decoder.device()));
    let weight =
        Tensor::randn([c.intermediate_size, c.hidden_size], (Kind::Float, decoder.device())).to_kind(decoder.kind());
    let once = || tch::no_grad(|| products::linear(&x, &weight, None));
    let mut best = f64::INFINITY;
    for _ in 0..20 {
        let started = Instant::now();
        drop(once());
        synchronize(decoder.device());
        best = best.min(started.elapsed().as_secs_f64());
    }
    2.0 * (rows * c.hidden_size * c.intermediate_size) as f64 / best
}

/// Measures bytes per second that all cores together read from memory.
fn read_bandwidth() -> f64 {
    let numbers = vec![1u64; 1 << 26]; // 512 MiB
    let part = numbers.len() / usize::try_from(tch::get_num_threads()).expect("a count");
    let mut best = 0.0f64;
    for _ in 0..5 {
        let started = Instant::now();
        let sum: u64 = std::thread::scope(|scope| {
            let sums: Vec<_> = numbers.chunks(part).map(|part| scope.spawn(|| part.iter().sum::<u64>())).collect();
            sums.into_iter().map(|sum| sum.join().expect("adding does not fail")).sum()
        });
        assert_eq!(sum, 1 << 26);
        best = best.max((numbers.len() * 8) as f64 / started.elapsed().as_secs_f64());
    }
    best
}

/// Returns the peak resident memory of this process, in MiB.
fn peak_rss_mib() -> Option<u64> {
    orchestrate_engine::memory::peak_resident().map(|bytes| bytes >> 20)
}

fn lora() -> LoraSpec {
    let names = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"];
    LoraSpec {
        rank: 32,
        alpha: 64.0,
        dropout: 0.0,
        rslora: false,
        target_modules: names.iter().map(|&n| n.to_owned()).collect(),
    }
}

#[expect(clippy::print_stdout, reason = "this is the program's output")]
fn report(line: &serde_json::Value) {
    println!("{line}");
}
