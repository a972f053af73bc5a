//! The worker binary: its path, its environment and its version.

use crate::cpu::Bfloat16Products;
use crate::cpu::{Float32Products, Instructions};
use serde::{Deserialize, Serialize};
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// The environment variable that names a worker binary to use instead of the one beside `orchestrate`.
const WORKER_VARIABLE: &str = "ORCHESTRATE_WORKER";

/// An error in finding, starting or waiting for a worker.
#[derive(Debug, thiserror::Error)]
pub enum ExecError {
    /// The worker binary does not exist.
    #[error("`{}` does not exist", .path.display())]
    NotFound {
        /// The path of the missing binary.
        path: PathBuf,
    },
    /// The running executable has no path.
    #[error("the path of the running executable is unknown")]
    CurrentExe(#[source] std::io::Error),
    /// The attempt directory is gone because another process has just committed the stage.
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
        /// The system's error.
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
        /// The worker's message.
        message: String,
    },
    /// The worker answered `--version` with an error.
    #[error("`{} --version` failed: {message}", .path.display())]
    Version {
        /// The worker binary.
        path: PathBuf,
        /// The worker's message.
        message: String,
    },
}

/// The binary `orchestrate-worker`, which runs stages and answers questions about models, data and rewards.
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

    /// A command that runs the binary, with the environment that libtorch needs.
    pub fn command(&self) -> Command {
        let mut command = Command::new(&self.program);
        if let Some(path) = library_path(|name| std::env::var_os(name)) {
            command.env(LIBRARY_PATH, path);
        }
        command
    }
}

/// The environment variable with the loader's search path for shared libraries.
const LIBRARY_PATH: &str = "LD_LIBRARY_PATH";

/// Returns the library path with which a worker finds the libtorch of the user's `LIBTORCH`; `None` without that
/// variable.
///
/// The worker itself searches only places relative to its own.
fn library_path(variable: impl Fn(&str) -> Option<OsString>) -> Option<OsString> {
    let libtorch = PathBuf::from(variable("LIBTORCH").filter(|value| !value.is_empty())?).join("lib");
    let others = variable(LIBRARY_PATH).unwrap_or_default();
    let all =
        std::iter::once(libtorch).chain(std::env::split_paths(&others).filter(|path| !path.as_os_str().is_empty()));
    std::env::join_paths(all).ok()
}

/// The answer of `orchestrate-worker --version`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct WorkerVersion {
    /// The worker's version.
    pub version: String,
    /// The version of libtorch for which the worker was built.
    pub libtorch: String,
    /// The number of GPUs that the worker can use.
    pub cuda_devices: i64,
    /// The reason why the worker can use no GPU; absent if it can use one.
    #[serde(default)]
    pub cuda_problem: Option<CudaProblem>,
    /// The worker's CPU kernels.
    #[serde(default)]
    pub cpu: Option<CpuReport>,
    /// The reason why the worker cannot compute on the CPU; absent if it can.
    #[serde(default)]
    pub cpu_problem: Option<String>,
}

/// The kernels with which a worker computes on the CPU.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CpuReport {
    /// The widest instructions that the kernels use.
    pub instructions: Instructions,
    /// The method for products with bfloat16 weights.
    pub bfloat16_products: Bfloat16Products,
    /// The library that multiplies 32-bit matrices.
    pub float32_products: Float32Products,
    /// The reason why libtorch's own product of bfloat16 matrices is slow here; absent where it is fast.
    pub why_slow: Option<String>,
}

/// Why a worker can use no GPU, in the order in which one would look.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[serde(rename_all = "snake_case")]
pub enum CudaProblem {
    /// `libtorch_cuda.so` is not on the library path: libtorch is its CPU build.
    #[error("libtorch is its CPU build")]
    LibraryMissing,
    /// It is there and cannot be loaded; what the loader says.
    #[error("`libtorch_cuda.so` cannot be loaded ({0})")]
    LibraryUnloadable(String),
    /// The driver's `libcuda.so.1` cannot be loaded; what the loader says.
    #[error("the driver cannot be loaded ({0})")]
    DriverMissing(String),
    /// The driver is there and shows no device; what it says.
    #[error("the driver shows no device: {0}")]
    NoDevice(String),
}

/// Runs `orchestrate-worker --version`, which answers with one line of JSON.
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
