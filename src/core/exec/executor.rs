//! Where workers run: the seam between the run loop and a machine or a cluster.
//!
//! The run loop prepares attempt directories, submits them in batches, and follows each attempt by its files: events, log,
//! exit file, checkpoint. Of an executor it needs no more than this trait. How a worker ended is never the executor's to
//! say ([`Ending`](crate::workspace::Ending)); what its system saw of the end ([`SystemEnd`]) explains a crash.

//!
//! # How to add an executor
//!
//! 1. Write `exec/NAME.rs` with an implementation of [`Executor`]. `tests/executor.rs` has one of 100 lines whose workers outlive
//!    the process that submitted them.
//! 2. Let `cli/run.rs` choose it.
//!
//! A worker needs the run directory under the same path, its job's name ([`JOB_VARIABLE`](crate::workspace::JOB_VARIABLE)) and
//! what [`Submission::environment`] says. The variable
//! [`SUPERVISOR_VARIABLE`](crate::workspace::SUPERVISOR_VARIABLE) is for workers that are to end with their dispatcher.

use super::ExecError;
use super::orphans::Orphans;
use crate::workspace::Job;
use std::path::{Path, PathBuf};
use std::pin::Pin;

/// Runs workers.
pub trait Executor: Send {
    /// Starts a worker for each submission. The results are in their order; an error concerns its submission alone.
    fn submit(&mut self, batch: &[Submission]) -> Vec<Result<(), ExecError>>;

    /// The state of each of `jobs`, in their order.
    ///
    /// # Errors
    /// When the executor cannot tell, now or later. One that can tell later says that the jobs are active.
    fn poll(&mut self, jobs: &[Job]) -> Result<Vec<JobState>, ExecError>;

    /// Asks workers to stop, or ends them. Jobs that have ended are passed over.
    fn cancel(&mut self, jobs: &[Job], how: Cancel);

    /// What a dispatcher that is gone left behind on each of these attempt directories, in their order.
    fn find(&mut self, attempt_dirs: &[&Path]) -> Vec<Option<Left>>;

    /// Resolves when the next [`poll`](Executor::poll) may say something new. It can be dropped and called again.
    fn changed<'a>(&'a mut self) -> Pin<Box<dyn Future<Output = ()> + Send + 'a>>;
}

/// An attempt for which a worker is to be started.
#[derive(Clone, Debug)]
pub struct Submission {
    /// The name of the job, which the worker learns as [`JOB_VARIABLE`](crate::workspace::JOB_VARIABLE).
    pub job: Job,
    /// The attempt directory. The worker's output is appended to `worker.log` there.
    pub dir: PathBuf,
    /// The program that can run the stage.
    pub program: WorkerProgram,
    /// More variables for the worker.
    pub environment: Vec<(&'static str, String)>,
}

/// The programs that are workers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WorkerProgram {
    /// `orchestrate-worker`, which computes with libtorch.
    Engine,
    /// `orchestrate run-command-stage`, which runs the program of a `command` stage.
    CommandStage,
}

/// What has become of a job.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum JobState {
    /// Its worker runs, or will.
    Active,
    /// Its worker is gone.
    Ended(SystemEnd),
}

/// What the system saw of a worker's end.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SystemEnd {
    /// The exit code of one that exited.
    pub code: Option<i32>,
    /// The signal that killed it.
    pub signal: Option<i32>,
}

/// How a worker is ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cancel {
    /// It is asked to leave a resume point and stop.
    Stop,
    /// It is ended now; its last resume point is what is left.
    Kill,
}

/// What a dispatcher that is gone left on an attempt.
#[derive(Debug)]
pub enum Left {
    /// A job that goes on without it, to be followed as if it had been submitted here.
    Job(Job),
    /// Processes that must end before the stage can go on.
    Orphans(Orphans),
}
