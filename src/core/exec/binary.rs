//! The worker binary: where it is, what it says of itself.

use crate::cpu::Bfloat16Products;
use crate::cpu::{Float32Products, Instructions};
use serde::{Deserialize, Serialize};
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Environment variable that names the worker binary to use instead of the one beside `orchestrate`.
const WORKER_VARIABLE: &str = "ORCHESTRATE_WORKER";

/// A worker could not be found, started or waited for.
#[derive(Debug, thiserror::Error)]
pub enum ExecError {
    /// There is no worker binary.
    #[error("`{}` does not exist", .path.display())]
    NotFound {
        /// Where it was looked for.
        path: PathBuf,
    },
    /// The running executable has no path.
    #[error("the path of the running executable is unknown")]
    CurrentExe(#[source] std::io::Error),
    /// The attempt directory is gone: another process has just committed the stage.
    #[error("the attempt directory is gone")]
    AttemptGone,
    /// The log file could not be opened.
    #[error("the worker's log cannot be opened")]
    Log(#[source] std::io::Error),
    /// The process did not start.
    #[error("`{}` cannot be started", .path.display())]
    Start {
        /// The worker binary.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The process could not be waited for.
    #[error("waiting for the worker failed")]
    Wait(#[source] std::io::Error),
    /// The worker could not read the data of a stage.
    #[error("`{} inspect-data` failed: {message}", .path.display())]
    Inspection {
        /// The worker binary.
        path: PathBuf,
        /// What it said.
        message: String,
    },
    /// The worker answered with an error.
    #[error("`{} --version` failed: {message}", .path.display())]
    Version {
        /// The worker binary.
        path: PathBuf,
        /// What it said.
        message: String,
    },
}

/// `orchestrate-worker`, which runs stages and answers questions about models, data and rewards.
#[derive(Clone, Debug)]
pub struct WorkerBinary {
    program: PathBuf,
}

impl WorkerBinary {
    /// Finds the worker: `$ORCHESTRATE_WORKER`, else `orchestrate-worker` beside the running executable.
    pub fn find() -> Result<Self, ExecError> {
        let program = match std::env::var_os(WORKER_VARIABLE).filter(|value| !value.is_empty()) {
            Some(named) => PathBuf::from(named),
            None => std::env::current_exe().map_err(ExecError::CurrentExe)?.with_file_name("orchestrate-worker"),
        };
        if program.is_file() { Ok(Self { program }) } else { Err(ExecError::NotFound { path: program }) }
    }

    /// The path of the binary.
    pub fn program(&self) -> &Path {
        &self.program
    }

    /// A command that runs the binary, with what libtorch needs in its environment.
    pub fn command(&self) -> Command {
        let mut command = Command::new(&self.program);
        if let Some(path) = library_path(|name| std::env::var_os(name)) {
            command.env(LIBRARY_PATH, path);
        }
        command
    }
}

/// Where the loader looks for shared libraries.
const LIBRARY_PATH: &str = "LD_LIBRARY_PATH";

/// The library path that lets a worker find the libtorch of the user's own `LIBTORCH`; absent without one. The worker itself
/// knows only places relative to its own.
fn library_path(variable: impl Fn(&str) -> Option<OsString>) -> Option<OsString> {
    let libtorch = PathBuf::from(variable("LIBTORCH").filter(|value| !value.is_empty())?).join("lib");
    let others = variable(LIBRARY_PATH).unwrap_or_default();
    let all =
        std::iter::once(libtorch).chain(std::env::split_paths(&others).filter(|path| !path.as_os_str().is_empty()));
    std::env::join_paths(all).ok()
}

/// What a worker says of itself.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct WorkerVersion {
    /// Its own version.
    pub version: String,
    /// The version of libtorch it was built for.
    pub libtorch: String,
    /// GPUs it can use.
    pub cuda_devices: i64,
    /// Why there is none, if there is none.
    #[serde(default)]
    pub cuda_problem: Option<CudaProblem>,
    /// How it computes on the CPU.
    #[serde(default)]
    pub cpu: Option<CpuReport>,
    /// Why it cannot compute on the CPU, if it cannot.
    #[serde(default)]
    pub cpu_problem: Option<String>,
}

/// How a worker computes on the CPU.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CpuReport {
    /// The widest instructions that kernels use.
    pub instructions: Instructions,
    /// How products with bfloat16 weights are computed.
    pub bfloat16_products: Bfloat16Products,
    /// The library that multiplies 32-bit matrices.
    pub float32_products: Float32Products,
    /// Why libtorch's own product of bfloat16 matrices is slow here; absent where it is fast.
    pub why_slow: Option<String>,
}

/// Why a worker can use no GPU, in the order in which one would look.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CudaProblem {
    /// `libtorch_cuda.so` is not on the library path: libtorch is its CPU build.
    LibraryMissing,
    /// It is there and cannot be loaded; what the loader says.
    LibraryUnloadable(String),
    /// The driver's `libcuda.so.1` cannot be loaded; what the loader says.
    DriverMissing(String),
    /// The driver is there and shows no device; what it says.
    NoDevice(String),
}

/// Asks `orchestrate-worker --version`, which answers with one line of JSON.
pub fn worker_version(worker: &WorkerBinary) -> Result<WorkerVersion, ExecError> {
    let path = worker.program.clone();
    let output = worker
        .command()
        .arg("--version")
        .stdin(Stdio::null())
        .output()
        .map_err(|source| ExecError::Start { path: path.clone(), source })?;
    if !output.status.success() {
        let message = String::from_utf8_lossy(&output.stderr).trim().to_owned();
        return Err(ExecError::Version { path, message });
    }
    serde_json::from_slice(&output.stdout)
        .map_err(|error| ExecError::Version { path, message: format!("cannot parse its answer: {error}") })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_libtorch_of_the_users_own_comes_first_on_the_library_path() {
        let with = |own: Option<&str>, path: Option<&str>| {
            let find = |name: &str| if name == "LIBTORCH" { own } else { path }.map(OsString::from);
            library_path(find)
        };
        assert_eq!(with(None, Some("/usr/lib/cuda")), None);
        assert_eq!(with(Some(""), None), None);
        assert_eq!(with(Some("/opt/libtorch"), None), Some("/opt/libtorch/lib".into()));
        assert_eq!(with(Some("/opt/libtorch"), Some("/a:/b")), Some("/opt/libtorch/lib:/a:/b".into()));
    }
}
