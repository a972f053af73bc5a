//! Training speed and memory on a GPU, with random weights created there: `just bench-gpu [OPTIONS]`.
//!
//! The options are `--shapes 135m,1b,8b` `--modes lora,full` `--batch N` `--seq 2048` `--steps 8` `--dtype bfloat16`
//! `--device cuda:0` `--checkpointing on|off` `--peak-tflops X`. Each case runs in its own process, so a case that does
//! not fit into memory affects only its row.
//!
//! Model FLOPs per token, with N the weights of all linear layers and the head, and S the sequence length:
//!
//! - 6 N if all weights are trained
//! - 4 N with `LoRA`, whose base has no gradient, and 6 for each weight of the adapter
//! - 12 L H D S for attention, without a discount for the causal mask (the convention of `PaLM`, arXiv:2204.02311,
//!   appendix B)

use orchestrate_core::recipe::spec::LoraSpec;
use orchestrate_core::workspace::DeviceChoice;
use orchestrate_engine::data::Sequence;
use orchestrate_engine::models::{Decoder, DecoderConfig, PassOptions, load_config};
use orchestrate_engine::optim::AdamW;
use orchestrate_engine::stages::accumulate;
use orchestrate_engine::{cuda, device, memory};
use std::collections::BTreeMap;
use std::process::{Command, ExitCode, Stdio};
use std::time::Instant;
use tch::{Cuda, Device, Kind, Tensor};

/// Dense bfloat16 TFLOP/s by the manufacturers' data, by a part of the device's name.
const PEAK_TFLOPS: [(&str, f64); 9] = [
    ("B200", 2250.0),
    ("GH200", 989.0),
    ("H200", 989.0),
    ("H100 PCIe", 756.0),
    ("H100", 989.0),
    ("A100", 312.0),
    ("L40S", 362.0),
    ("L4", 121.0),
    ("RTX 4090", 165.0),
];

/// Llamas by size: hidden, intermediate, layers, heads, key-value heads, vocabulary; whether tied; sequences per step.
const SHAPES: [(&str, [i64; 6], bool, usize); 4] = [
    ("tiny", [64, 160, 2, 4, 2, 320], true, 2),
    ("135m", [576, 1536, 30, 9, 3, 49152], true, 16),    // SmolLM2-135M
    ("1b", [2048, 8192, 16, 32, 8, 128_256], true, 8),   // Llama-3.2-1B
    ("8b", [4096, 14336, 32, 32, 8, 128_256], false, 2), // Llama-3.1-8B
];

fn main() -> ExitCode {
    cuda::set_variables();
    let options = Options::read();
    let choice = DeviceChoice::named(options.text("--device", "cuda:0")).expect("a device");
    if let (DeviceChoice::Cuda(_), Err(problem)) = (&choice, cuda::count()) {
        say(&format!("skipped: no GPU can be used here ({problem}); `orchestrate doctor` tells more"));
        return ExitCode::SUCCESS;
    }
    if let Some(case) = options.0.get("--case") {
        let (shape, mode) = case.split_once(',').expect("SHAPE,MODE");
        say(&measure(shape, mode, device::choose(&choice).expect("the device is there"), &options).to_string());
        return ExitCode::SUCCESS;
    }
    compare(&options)
}

/// Options as pairs of `--name` and value.
struct Options(BTreeMap<String, String>);

impl Options {
    fn read() -> Self {
        let arguments: Vec<String> = std::env::args().skip(1).filter(|a| a != "--bench").collect();
        let pairs = arguments.chunks(2).map(|pair| match pair {
            [name, value] if name.starts_with("--") => (name.clone(), value.clone()),
            other => panic!("options come in pairs of name and value, not {other:?}"),
        });
        Self(pairs.collect())
    }

    fn text<'a>(&'a self, name: &str, default: &'a str) -> &'a str {
        self.0.get(name).map_or(default, String::as_str)
    }

    fn number(&self, name: &str, default: usize) -> usize {
        self.0.get(name).map_or(default, |value| value.parse().expect("a number"))
    }
}

/// Runs every case and prints a line for each.
fn compare(options: &Options) -> ExitCode {
    let name = gpu_name();
    let known = PEAK_TFLOPS.iter().find(|(part, _)| name.contains(part)).map(|&(_, peak)| peak);
    let peak = options.0.get("--peak-tflops").map(|text| text.parse::<f64>().expect("a number")).or(known);
    let peak_text = peak.map_or("unknown (`--peak-tflops` tells it)".to_owned(), |peak| format!("{peak:.0} TFLOP/s"));
    say(&format!("{name}, peak {peak_text} (dense bfloat16)"));
    say("model FLOPs a token: full 6N, LoRA 4N + 6 adapter, both + 12 L H D S; N without the input embedding");
    say(&format!(
        "{:<6} {:<5} {:>6} {:>6} {:>10} {:>9} {:>9} {:>6} {:>9}",
        "shape", "mode", "batch", "seq", "tokens/s", "s/step", "TFLOP/s", "MFU", "peak GiB"
    ));
    let mut failed = false;
    for shape in options.text("--shapes", "135m,1b,8b").split(',') {
        for mode in options.text("--modes", "lora,full").split(',') {
            let mut child = Command::new(std::env::current_exe().expect("this program has a path"));
            child.args(["--case", &format!("{shape},{mode}")]).stderr(Stdio::piped());
            child.args(options.0.iter().filter(|(name, _)| *name != "--case").flat_map(|(name, value)| [name, value]));
            let output = child.output().expect("this program starts");
            let Ok(row) = serde_json::from_slice::<serde_json::Value>(&output.stdout) else {
                let errors = String::from_utf8_lossy(&output.stderr);
                let out_of_memory = errors.contains("out of memory");
                failed |= !out_of_memory;
                let why = if out_of_memory { "does not fit into memory" } else { errors.trim() };
                say(&format!("{shape:<6} {mode:<5} {why}"));
                continue;
            };
            let number = |name: &str| row[name].as_f64().unwrap_or(f64::NAN);
            let mfu = peak.map_or("-".to_owned(), |peak| format!("{:.1}%", 100.0 * number("tflops") / peak));
            say(&format!(
                "{shape:<6} {mode:<5} {:>6} {:>6} {:>10.0} {:>9.3} {:>9.2} {mfu:>6} {:>9.2}",
                row["batch"],
                row["seq"],
                number("tokens_per_s"),
                number("seconds"),
                number("tflops"),
                number("peak_gib")
            ));
        }
    }
    if failed { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}

/// Measures the median time of an optimizer step on dense batches, and derived values.
fn measure(shape: &str, mode: &str, device: Device, options: &Options) -> serde_json::Value {
    let before = cuda::memory_used(device);
    let &(_, sizes, tied, batch) = SHAPES.iter().find(|(name, ..)| *name == shape).expect("a known shape");
    let (batch, seq) = (options.number("--batch", batch), options.number("--seq", 2048));
    let config = config(sizes, tied, seq);
    let checkpointing = options.text("--checkpointing", "off") == "on";
    let kind = if options.text("--dtype", "bfloat16") == "float32" { Kind::Float } else { Kind::BFloat16 };
    tch::manual_seed(0);
    let mut decoder = Decoder::random(config, kind, device);
    let weights: usize = decoder.weights().iter().map(|(_, weight)| weight.numel()).sum();
    let embedding = usize::try_from(decoder.config.vocab_size * decoder.config.hidden_size).expect("fits");
    let linear = (if tied { weights } else { weights - embedding }) as f64;
    let full = match mode {
        "full" => {
            decoder.unfreeze();
            true
        }
        "lora" => {
            decoder.add_lora(&lora(&decoder), 0).expect("the layers exist");
            false
        }
        other => panic!("unknown mode `{other}`"),
    };
    let trained: usize = decoder.trainable().iter().map(|(_, tensor)| tensor.numel()).sum();
    let [_, _, layers, heads, ..] = sizes;
    let attention = (12 * layers * heads * decoder.config.head_dim) as f64 * seq as f64;
    let per_token = if full { 6.0 * linear } else { 4.0 * linear + 6.0 * trained as f64 } + attention;
    let mut optimizer = AdamW::new(decoder.trainable(), (0.9, 0.999), 1e-8, 0.0);
    let mut times: Vec<f64> = Vec::new();
    for step in 0..=options.number("--steps", 8) {
        let started = Instant::now();
        train_step(&decoder, &mut optimizer, batch, seq, checkpointing);
        if let Device::Cuda(index) = device {
            Cuda::synchronize(i64::try_from(index).expect("fits"));
        }
        if step > 0 {
            times.push(started.elapsed().as_secs_f64()); // the first step warms up
        }
    }
    times.sort_by(f64::total_cmp);
    let seconds = times[times.len() / 2];
    let tokens = (batch * seq) as f64;
    // the allocator keeps what it once had, so what is in use at the end is the most there was
    let peak = cuda::memory_used(device)
        .zip(before)
        .map_or_else(|| memory::peak_resident().unwrap_or(0), |(after, before)| after.saturating_sub(before));
    serde_json::json!({
        "batch": batch, "seq": seq, "seconds": seconds, "tokens_per_s": tokens / seconds,
        "tflops": per_token * tokens / seconds / 1e12, "peak_gib": peak as f64 / (1u64 << 30) as f64,
    })
}

fn train_step(decoder: &Decoder, optimizer: &mut AdamW, batch: usize, seq: usize, checkpointing: bool) {
    let [rows, length] = [batch, seq].map(|n| i64::try_from(n).expect("fits"));
    let shape = [rows, length];
    let ids = Tensor::randint(decoder.config.vocab_size, shape, (Kind::Int64, Device::Cpu));
    let ids = Vec::<Vec<i64>>::try_from(ids).expect("integers");
    let documents: Vec<Sequence> = ids.into_iter().map(|ids| Sequence::document(String::new(), ids)).collect();
    let documents: Vec<&Sequence> = documents.iter().collect();
    let trained = documents.iter().map(|document| document.trained_tokens()).sum();
    accumulate(decoder, &documents, trained, PassOptions { dropout_seed: None, checkpointing });
    optimizer.step(1e-4);
}

fn config(
    [hidden, intermediate, layers, heads, kv_heads, vocabulary]: [i64; 6],
    tied: bool,
    seq: usize,
) -> DecoderConfig {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let json = serde_json::json!({
        "model_type": "llama", "hidden_size": hidden, "intermediate_size": intermediate, "num_hidden_layers": layers,
        "num_attention_heads": heads, "num_key_value_heads": kv_heads, "vocab_size": vocabulary,
        "max_position_embeddings": seq, "rms_norm_eps": 1e-5, "rope_theta": 500_000.0, "tie_word_embeddings": tied,
    });
    fs_err::write(dir.path().join("config.json"), json.to_string()).expect("the directory is writable");
    load_config(dir.path()).expect("the configuration is supported")
}

/// Returns adapters on every linear layer, as recipes have them.
fn lora(decoder: &Decoder) -> LoraSpec {
    LoraSpec { rank: 32, alpha: 64.0, dropout: 0.0, rslora: false, target_modules: decoder.linear_names() }
}

fn gpu_name() -> String {
    let query = ["--query-gpu=name", "--format=csv,noheader"];
    let answer = Command::new("nvidia-smi").args(query).output().ok().filter(|answer| answer.status.success());
    let text = answer.map(|answer| String::from_utf8_lossy(&answer.stdout).into_owned()).unwrap_or_default();
    text.lines().next().unwrap_or("no NVIDIA device").trim().to_owned()
}

#[expect(clippy::print_stdout, reason = "this is the program's output")]
fn say(line: &str) {
    println!("{line}");
}
