//! `orchestrate-worker ATTEMPT_DIR`: runs one stage to its end and says how it ended by its exit code
//! (`orchestrate::exec::exit`). `orchestrate-worker inspect-data` reads assignments from stdin, one a line, and answers each
//! with one line of JSON (`orchestrate::exec::Inspection`); it trains nothing.

use orchestrate::cache::Assignment;
use orchestrate::exec::exit;
use orchestrate_engine::stages::{self, Ending};
use orchestrate_engine::{data, device, stages::LIBTORCH_VERSION};
use std::path::Path;
use std::process::ExitCode;

fn main() -> ExitCode {
    let cuda = device::load_cuda_libraries();
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.as_slice() {
        [flag] if flag == "--version" => version(&cuda),
        [command] if command == "inspect-data" => inspect_data(),
        [dir] if !dir.starts_with('-') => run(Path::new(dir)),
        _ => {
            report("usage: orchestrate-worker ATTEMPT_DIR | inspect-data | --version");
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

/// One line of JSON for each assignment on stdin, which `orchestrate check --show-data` reads.
fn inspect_data() -> ExitCode {
    let inspected = std::io::read_to_string(std::io::stdin()).map_err(|error| error.to_string()).and_then(|lines| {
        let assignments: Result<Vec<Assignment>, _> = lines.lines().map(serde_json::from_str).collect();
        assignments.map_err(|error| format!("this is no assignment: {error}"))
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
