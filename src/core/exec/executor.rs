//! The executor: the interface between the run loop and a machine or a cluster.
//!
//! The run loop prepares attempt directories, submits them in batches, and follows each attempt by its files: events,
//! log, exit file, checkpoint. It uses an executor only through this trait. The end of a worker is read from its exit
//! file ([`Ending`](crate::workspace::Ending)), never from the executor. What the system saw of the end ([`SystemEnd`])
//! explains a crash.
//!
//! # How to add an executor
//!
//! 1. Write `exec/NAME.rs` with an implementation of [`Executor`]. `tests/executor.rs` has one of 100 lines, with
//!    workers that outlive the process that submitted them.
//! 2. Let `cli/run.rs` choose it.
//!
//! A worker needs the run directory under the same path, its job's name
//! ([`JOB_VARIABLE`](crate::workspace::JOB_VARIABLE)) and the variables of [`Submission::environment`]. The variable
//! [`SUPERVISOR_VARIABLE`](crate::workspace::SUPERVISOR_VARIABLE) is for workers that must end with their dispatcher.

use super::ExecError;
use super::orphans::Orphans;
use crate::workspace::Job;
use std::path::{Path, PathBuf};
use std::pin::Pin;

/// An interface that starts, observes and stops workers.
pub trait Executor: Send {
    /// Starts a worker for each submission and returns the results in their order. An error concerns one submission.
    fn submit(&mut self, batch: &[Submission]) -> Vec<Result<(), ExecError>>;

    /// Returns the state of each of `jobs`, in their order.
    ///
    /// # Errors
    /// Fails if the state cannot be determined, now or later. An executor that can determine it later reports the jobs
    /// as active.
    fn poll(&mut self, jobs: &[Job]) -> Result<Vec<JobState>, ExecError>;

    /// Asks workers to stop, or kills them. Jobs that have ended are ignored.
    fn cancel(&mut self, jobs: &[Job], how: Cancel);

    /// Finds what a dispatcher that is gone left behind in each of these attempt directories, in their order.
    fn find(&mut self, attempt_dirs: &[&Path]) -> Vec<Option<Left>>;

    /// Resolves when the next [`poll`](Executor::poll) may report a change. The future can be dropped and requested
    /// again.
    fn changed<'a>(&'a mut self) -> Pin<Box<dyn Future<Output = ()> + Send + 'a>>;
}

/// A request to start a worker on an attempt.
#[derive(Clone, Debug)]
pub struct Submission {
    /// The name of the job, which the worker gets as [`JOB_VARIABLE`](crate::workspace::JOB_VARIABLE).
    pub job: Job,
    /// The attempt directory. The worker's output is appended to `worker.log` there.
    pub dir: PathBuf,
    /// The program that runs the stage.
    pub program: WorkerProgram,
    /// Additional environment variables of the worker.
    pub environment: Vec<(&'static str, String)>,
}

/// A program that is a worker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WorkerProgram {
    /// `orchestrate-worker`, which computes with libtorch.
    Engine,
    /// `orchestrate run-command-stage`, which runs the program of a `command` stage.
    CommandStage,
}

/// The state of a job.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum JobState {
    /// The worker runs or is going to run.
    Active,
    /// The worker is gone.
    Ended(SystemEnd),
}

/// The end of a worker as the system saw it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SystemEnd {
    /// The exit code, if the worker exited.
    pub code: Option<i32>,
    /// The signal that killed the worker.
    pub signal: Option<i32>,
}

/// A way to end a worker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cancel {
    /// The worker is asked to leave a resume point and stop.
    Stop,
    /// The worker is killed; its last resume point remains.
    Kill,
}

/// The remains of a dispatcher that is gone, on an attempt.
#[derive(Debug)]
pub enum Left {
    /// A job that continues without its dispatcher, to be followed as if it had been submitted here.
    Job(Job),
    /// Processes that must end before the stage can continue.
    Orphans(Orphans),
}
