//! Workers as child processes on this machine.

use super::WorkerExit;
use super::command_stage::RUN_COMMAND_STAGE;
use crate::cache::SUPERVISOR_VARIABLE;
use crate::cpu::{Float32Products, Instructions};
use crate::host::cores_are_busy;
use crate::recipe::Bfloat16Products;
use rustix::process::{Pid, Signal, getpgid, kill_process_group};
use serde::{Deserialize, Serialize};
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use tokio::process::{Child, Command};

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

/// Starts workers as child processes.
#[derive(Clone, Debug)]
pub struct LocalExecutor {
    program: PathBuf,
    /// The words before the attempt directory.
    arguments: &'static [&'static str],
}

impl LocalExecutor {
    /// Finds the worker: `$ORCHESTRATE_WORKER`, else `orchestrate-worker` beside the running executable.
    pub fn find() -> Result<Self, ExecError> {
        let program = match std::env::var_os(WORKER_VARIABLE).filter(|value| !value.is_empty()) {
            Some(named) => PathBuf::from(named),
            None => std::env::current_exe().map_err(ExecError::CurrentExe)?.with_file_name("orchestrate-worker"),
        };
        if program.is_file() {
            Ok(Self { program, arguments: &[] })
        } else {
            Err(ExecError::NotFound { path: program })
        }
    }

    /// This executable, which runs `command` stages itself: without libtorch it starts in a hundredth of the time.
    pub fn of_command_stages() -> Result<Self, ExecError> {
        let program = std::env::current_exe().map_err(ExecError::CurrentExe)?;
        Ok(Self { program, arguments: &[RUN_COMMAND_STAGE] })
    }

    /// The worker binary.
    pub fn program(&self) -> &Path {
        &self.program
    }

    /// A command that runs the worker binary, with what libtorch needs in its environment.
    pub fn command(&self) -> std::process::Command {
        let mut command = std::process::Command::new(&self.program);
        if let Some(path) = library_path(|name| std::env::var_os(name)) {
            command.env(LIBRARY_PATH, path);
        }
        command
    }

    /// Starts a worker on `attempt_dir`, its output appended to `worker.log` there, with these variables added to its
    /// environment.
    pub fn start(&self, attempt_dir: &Path, environment: &[(&str, String)]) -> Result<Worker, ExecError> {
        let log = fs_err::OpenOptions::new()
            .create(true)
            .append(true)
            .open(attempt_dir.join("worker.log"))
            .map_err(ExecError::Log)?
            .into_file();
        let errors = log.try_clone().map_err(ExecError::Log)?;
        let computes = self.arguments.is_empty();
        let wait_policy = computes.then(|| wait_policy(|name| std::env::var_os(name).is_some(), cores_are_busy));
        let child = Command::from(self.command())
            .args(self.arguments)
            .arg(attempt_dir)
            .envs(environment.iter().map(|(name, value)| (name, value)))
            .envs(wait_policy.flatten())
            .env(SUPERVISOR_VARIABLE, std::process::id().to_string())
            .stdin(Stdio::null())
            .stdout(log)
            .stderr(errors)
            .process_group(0)
            .spawn()
            .map_err(|source| ExecError::Start { path: self.program.clone(), source })?;
        let group = child.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw);
        Ok(Worker { child, group: WorkerGroup(group) })
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

/// How OpenMP's threads wait for work, unless the user says. Its own default is to look for work for milliseconds: the
/// fastest way on a quiet machine, by a tenth, but beside a busy process it halves the speed, as a thread that only
/// looks keeps one that has work off its core. There they look for some microseconds, then sleep.
fn wait_policy(
    is_set: impl Fn(&str) -> bool,
    cores_are_busy: impl FnOnce() -> bool,
) -> Option<(&'static str, &'static str)> {
    let chosen = ["GOMP_SPINCOUNT", "OMP_WAIT_POLICY"].into_iter().any(is_set);
    (!chosen && cores_are_busy()).then_some(("GOMP_SPINCOUNT", "1000"))
}

/// A running worker.
#[derive(Debug)]
pub struct Worker {
    child: Child,
    group: WorkerGroup,
}

impl Worker {
    /// Waits for the end.
    pub async fn wait(mut self) -> Result<WorkerExit, ExecError> {
        Ok(WorkerExit::from(self.child.wait().await.map_err(ExecError::Wait)?))
    }

    /// A handle that signals the worker while somebody else waits for it.
    pub fn group(&self) -> WorkerGroup {
        self.group
    }
}

/// A worker's process group. Signals to one that is gone do nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WorkerGroup(Option<Pid>);

impl WorkerGroup {
    /// The group of the process with this id; absent when there is no such process.
    pub fn of(process: u32) -> Option<Self> {
        let process = i32::try_from(process).ok().and_then(Pid::from_raw)?;
        getpgid(Some(process)).ok().map(|group| Self(Some(group)))
    }

    /// Asks the worker to leave a resume point and stop.
    pub fn stop(self) {
        self.signal(Signal::TERM);
    }

    /// Ends the worker now; its last resume point is what is left.
    pub fn kill(self) {
        self.signal(Signal::KILL);
    }

    fn signal(self, signal: Signal) {
        if let Some(group) = self.0 {
            // The only failure that can happen to a group of our own child is that it is gone already.
            let _ = kill_process_group(group, signal);
        }
    }
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
pub fn worker_version(executor: &LocalExecutor) -> Result<WorkerVersion, ExecError> {
    let path = executor.program.clone();
    let output = executor
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
        .map_err(|error| ExecError::Version { path, message: format!("its answer is not understood: {error}") })
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

    #[test]
    fn a_wait_policy_of_the_users_own_is_kept() {
        assert_eq!(wait_policy(|name| name == "OMP_WAIT_POLICY", || true), None);
        assert_eq!(wait_policy(|name| name == "GOMP_SPINCOUNT", || true), None);
    }

    #[test]
    fn threads_sleep_early_only_where_others_need_the_cores() {
        assert_eq!(wait_policy(|_| false, || true), Some(("GOMP_SPINCOUNT", "1000")));
        assert_eq!(wait_policy(|_| false, || false), None);
    }
}
