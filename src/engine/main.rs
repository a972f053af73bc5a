//! `orchestrate-worker ATTEMPT_DIR`: runs one stage to its end and says how it ended by its exit code
//! (`orchestrate::exec::exit`).

use orchestrate::exec::exit;
use orchestrate_engine::stages::{self, Ending};
use orchestrate_engine::{device, stages::LIBTORCH_VERSION};
use std::path::Path;
use std::process::ExitCode;

fn main() -> ExitCode {
    let cuda = device::load_cuda_libraries();
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.as_slice() {
        [flag] if flag == "--version" => version(&cuda),
        [dir] if !dir.starts_with('-') => run(Path::new(dir)),
        _ => {
            report("usage: orchestrate-worker ATTEMPT_DIR | --version");
            ExitCode::from(exit::USAGE)
        }
    }
}

fn run(dir: &Path) -> ExitCode {
    let code = match stages::run(dir) {
        Ok(Ending::Committed) => exit::COMMITTED,
        Ok(Ending::Failed) => exit::FAILED,
        Ok(Ending::LeaseHeld) => exit::LEASE_HELD,
        Ok(Ending::Stopped) => exit::STOPPED,
        Err(error) => {
            report(&format!("error: {error}"));
            exit::FAILED
        }
    };
    ExitCode::from(code)
}

/// One line of JSON, which `orchestrate doctor` reads.
fn version(cuda: &Result<(), String>) -> ExitCode {
    let devices = if tch::Cuda::is_available() { tch::Cuda::device_count() } else { 0 };
    let line = serde_json::json!({
        "version": env!("CARGO_PKG_VERSION"),
        "libtorch": LIBTORCH_VERSION,
        "cuda_devices": devices,
        "cuda_library": cuda.as_ref().err(),
    });
    #[expect(clippy::print_stdout, reason = "this is the program's output")]
    {
        println!("{line}");
    }
    ExitCode::SUCCESS
}

#[expect(clippy::print_stderr, reason = "the worker's stderr is its log")]
fn report(message: &str) {
    eprintln!("{message}");
}
