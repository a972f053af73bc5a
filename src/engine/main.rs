//! The worker: `orchestrate-worker ATTEMPT_DIR` runs one stage to its end. The exit code reports how it ended
//! (`orchestrate_core::exec::exit`).
//!
//! Its other commands do not train:
//!
//! - `inspect-data` reads assignments from stdin, one on a line. It answers each with one line of JSON
//!   (`orchestrate_core::exec::Inspection`).
//! - `model REQUEST` answers a request about a model (`orchestrate_core::exec::ModelRequest`).
//! - `score REQUEST` scores texts (`orchestrate_core::exec::ScoreRequest`).
//! - `self-test` checks the engine on this machine's device.

use orchestrate_core::cpu::Bfloat16Products;
use orchestrate_core::event::Failure;
use orchestrate_core::exec::{CpuReport, ModelRequest, ScoreRequest, exit};
use orchestrate_core::workspace::{Assignment, DeviceChoice, Ending};
use orchestrate_engine::error::{StageError, StageResult};
use orchestrate_engine::libraries::Libraries;
use orchestrate_engine::stages;
use orchestrate_engine::{commands, cuda, data, products, self_test};
use serde::de::DeserializeOwned;
use std::collections::BTreeMap;
use std::io::Write as _;
use std::path::Path;
use std::process::ExitCode;
use tch::Device;

const USAGE: &str = "usage: orchestrate-worker ATTEMPT_DIR | inspect-data | model REQUEST | score REQUEST | --version | \
                     self-test --device auto|cpu|cuda:N --golden DIR [--only NAME]";

fn main() -> ExitCode {
    cuda::set_variables();
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.as_slice() {
        [flag] if flag == "--version" => version(),
        [word] if word == "inspect-data" => inspect_data(),
        [word, request] if word == "model" => answer::<ModelRequest>(request, commands::run),
        [word, request] if word == "score" => answer::<ScoreRequest>(request, commands::score),
        [word, rest @ ..] if word == "self-test" => test_self(rest),
        [dir] if !dir.starts_with('-') => run(Path::new(dir)),
        _ => {
            report(USAGE);
            ExitCode::from(exit::USAGE)
        }
    }
}

fn run(dir: &Path) -> ! {
    let ending = stages::run(dir).unwrap_or_else(|error| {
        report(&format!("error: {error}"));
        Ending::Failed
    });
    if let Err(error) = ending.record(dir) {
        report(&format!("error: {error}"));
    }
    let _ = std::io::stdout().flush(); // with stdout gone the exit code still tells
    // Destructors of loaded CUDA libraries and threads of autograd may crash a process that ends, and would make a
    // crash of a committed stage. Nothing is left to do, and the system takes the memory back faster.
    // SAFETY: it ends the process at once.
    #[expect(unsafe_code, reason = "no safe function ends the process without destructors")]
    unsafe {
        libc::_exit(i32::from(exit::code(ending)))
    }
}

/// Prints one line of JSON for each assignment on stdin. `orchestrate check --show-data` reads them.
fn inspect_data() -> ExitCode {
    let inspected = std::io::read_to_string(std::io::stdin()).map_err(|error| error.to_string()).and_then(|lines| {
        let assignments: Result<Vec<Assignment>, _> = lines.lines().map(serde_json::from_str).collect();
        assignments.map_err(|error| format!("not a valid assignment: {error}"))
    });
    let assignments = match inspected {
        Ok(assignments) => assignments,
        Err(error) => {
            report(&format!("error: {error}"));
            return ExitCode::from(exit::USAGE);
        }
    };
    for assignment in &assignments {
        let line = serde_json::to_string(&data::inspect(assignment)).expect("an inspection serializes");
        #[expect(clippy::print_stdout, reason = "this is the program's output")]
        {
            println!("{line}");
        }
    }
    ExitCode::SUCCESS
}

/// Answers a request on stdout. A failure is the last line of stderr, as JSON.
fn answer<T: DeserializeOwned>(request: &str, run: fn(&T) -> StageResult<()>) -> ExitCode {
    let request: T = match serde_json::from_str(request) {
        Ok(request) => request,
        Err(error) => {
            report(&format!("cannot parse the request: {error}"));
            return ExitCode::from(exit::USAGE);
        }
    };
    match products::choose(Bfloat16Products::Auto).and_then(|()| run(&request)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            report(&serde_json::to_string(&Failure::from(error)).expect("a failure serializes"));
            ExitCode::from(exit::FAILED)
        }
    }
}

/// Runs the self-test. Returns exit code 0 if every check passed, and 10 if one failed.
fn test_self(arguments: &[String]) -> ExitCode {
    let options: BTreeMap<&str, &str> =
        arguments.chunks_exact(2).map(|pair| (pair[0].as_str(), pair[1].as_str())).collect();
    let known = options.keys().all(|name| ["--device", "--golden", "--only"].contains(name));
    let device = options.get("--device").and_then(|device| DeviceChoice::named(device));
    let (Some(device), Some(golden), true, 0) = (device, options.get("--golden"), known, arguments.len() % 2) else {
        report(USAGE);
        return ExitCode::from(exit::USAGE);
    };
    match self_test::run(&device, Path::new(golden), options.get("--only").copied()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(exit::FAILED),
        Err(error) => {
            report(&format!("error: {error}"));
            if let Some(hint) = error.hint {
                report(&format!("hint: {hint}"));
            }
            ExitCode::from(exit::FAILED)
        }
    }
}

/// Prints one line of JSON, which `orchestrate doctor` reads.
fn version() -> ExitCode {
    let devices = cuda::count();
    let cpu = cpu();
    let line = serde_json::json!({
        "version": env!("CARGO_PKG_VERSION"),
        "libtorch": Libraries::of_this_process().to_string(),
        "cuda_devices": devices.as_ref().unwrap_or(&0),
        "cuda_problem": devices.as_ref().err(),
        "attention": devices.is_ok().then(|| cuda::attention_kernels(Device::Cuda(0))),
        "cpu": cpu.as_ref().ok(),
        "cpu_problem": cpu.as_ref().err(),
    });
    #[expect(clippy::print_stdout, reason = "this is the program's output")]
    {
        println!("{line}");
    }
    ExitCode::SUCCESS
}

/// Returns how this process computes on the CPU, or why that cannot be determined.
fn cpu() -> Result<CpuReport, String> {
    let choose = || {
        products::choose(Bfloat16Products::Auto)?;
        products::this_cpu()
    };
    let cpu = choose().map_err(|error: StageError| error.message)?;
    Ok(CpuReport {
        instructions: cpu.instructions,
        bfloat16_products: products::bfloat16_products(),
        float32_products: cpu.float32_products,
        why_slow: cpu.why_slow.clone(),
    })
}

#[expect(clippy::print_stderr, reason = "the worker's stderr is its log")]
fn report(message: &str) {
    eprintln!("{message}");
}
