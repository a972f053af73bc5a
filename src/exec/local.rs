//! Workers as child processes on this machine.

use super::WorkerExit;
use super::command_stage::RUN_COMMAND_STAGE;
use crate::cache::SUPERVISOR_VARIABLE;
use rustix::process::{Pid, Signal, kill_process_group};
use serde::{Deserialize, Serialize};
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
        let child = Command::new(&self.program)
            .args(self.arguments)
            .arg(attempt_dir)
            .envs(environment.iter().map(|(name, value)| (name, value)))
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
#[derive(Clone, Copy, Debug)]
pub struct WorkerGroup(Option<Pid>);

impl WorkerGroup {
    /// The group that the worker with this process id leads; absent for what can be no process id.
    pub fn of(pid: u32) -> Option<Self> {
        i32::try_from(pid).ok().and_then(Pid::from_raw).map(|pid| Self(Some(pid)))
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
    let output = std::process::Command::new(&path)
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
