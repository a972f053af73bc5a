//! Speed, memory and exactness on a GPU, with random weights created there: `just bench-gpu [OPTIONS]`.
//!
//! The options are `--shapes 135m,1b,8b` `--modes lora,full` `--batch N` `--seq 2048` `--prompt 512` `--new 128`
//! `--steps 8` `--dtype bfloat16` `--device cuda:0` `--checkpointing on|off` `--encoder DIR` `--peak-tflops X` and
//! `--out FILE`, to which a line of JSON is appended for each case. Each case runs in its own process, so a case that
//! does not fit into memory affects only its row.
//!
//! | mode | case |
//! |---|---|
//! | `lora`, `full` | optimizer steps on rows of one length |
//! | `packed` | `lora` on rows packed with documents of other lengths at every step, 150 tokens on average |
//! | `decode` | sampling, 8 prompts x 6 completions, with an adapter |
//! | `grpo` | a step of sampling and training on completions that share prompts |
//! | `encode` | embeddings of texts of other lengths in every batch, by the encoder in `--encoder` |
//! | `bits` | the gradients of one micro-batch twice: their largest difference |
//!
//! `launch` is the time until everything was handed to the device. Where it is near the whole time, the CPU is the
//! limit.
//!
//! Model FLOPs per token, with N the weights of all linear layers and the head, and S the sequence length:
//!
//! - 6 N if all weights are trained
//! - 4 N with `LoRA`, whose base has no gradient, and 6 for each weight of the adapter
//! - 12 L H D S for attention, without a discount for the causal mask (the convention of `PaLM`, arXiv:2204.02311,
//!   appendix B)

mod cases;
#[path = "../shared.rs"]
mod shared;

use orchestrate_core::workspace::DeviceChoice;
use orchestrate_engine::{cuda, device};
use std::collections::BTreeMap;
use std::io::Write as _;
use std::process::{Command, ExitCode, Stdio};

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
        say(&cases::measure(shape, mode, device::choose(&choice).expect("the device is there"), &options).to_string());
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
        "{:<6} {:<6} {:>10} {:>9} {:>9} {:>9} {:>6} {:>9} {:>8}",
        "shape", "mode", "tokens/s", "s/step", "launch", "TFLOP/s", "MFU", "peak GiB", "retries"
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
                say(&format!("{shape:<6} {mode:<6} {why}"));
                continue;
            };
            if let Some(path) = options.0.get("--out") {
                let file = fs_err::OpenOptions::new().create(true).append(true).open(path);
                let mut line = row.clone();
                line["gpu"] = name.clone().into();
                writeln!(file.expect("`--out` names a file"), "{line}").expect("the file is writable");
            }
            let number = |name: &str| row[name].as_f64();
            let shown =
                |name: &str, digits: usize| number(name).map_or("-".to_owned(), |value| format!("{value:.digits$}"));
            let mfu = number("tflops").zip(peak).map(|(tflops, peak)| format!("{:.1}%", 100.0 * tflops / peak));
            say(&format!(
                "{shape:<6} {mode:<6} {:>10} {:>9} {:>9} {:>9} {:>6} {:>9} {:>8}{}",
                shown("tokens_per_s", 0),
                shown("seconds", 4),
                shown("launch_s", 4),
                shown("tflops", 2),
                mfu.unwrap_or("-".to_owned()),
                shown("allocated_gib", 2),
                shown("alloc_retries", 0),
                row["note"].as_str().map(|note| format!("  {note}")).unwrap_or_default()
            ));
        }
    }
    if failed { ExitCode::FAILURE } else { ExitCode::SUCCESS }
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
