//! Workers as child processes on this machine.
//!
//! A worker ends by itself when its dispatcher is gone, so this executor never finds a job that continues. It finds
//! workers that do not end, and programs that outlive their worker, as [`Orphans`].

use super::command_stage::RUN_COMMAND_STAGE;
use super::executor::{Cancel, Executor, JobState, Left, Submission, SystemEnd, WorkerProgram};
use super::orphans::Orphans;
use super::process_group::ProcessGroup;
use super::{ExecError, WorkerBinary};
use crate::host::cores_are_busy;
use crate::workspace::{JOB_VARIABLE, Job, SUPERVISOR_VARIABLE};
use std::collections::BTreeMap;
use std::future::pending;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::process::{ExitStatus, Stdio};
use tokio::process::Command;
use tokio::task::JoinSet;

/// Starts workers as children of this process, each in a process group of its own.
#[derive(Debug, Default)]
pub struct LocalExecutor {
    /// The binary for stages that compute; found at the first submission if absent.
    engine: Option<WorkerBinary>,
    groups: BTreeMap<Job, ProcessGroup>,
    waits: JoinSet<(Job, io::Result<ExitStatus>)>,
    ended: BTreeMap<Job, io::Result<ExitStatus>>,
}

impl LocalExecutor {
    /// Creates an executor that runs stages with `engine`, or else with the binary found at the first submission.
    pub fn new(engine: Option<WorkerBinary>) -> Self {
        Self { engine, ..Self::default() }
    }

    /// Returns the command that runs `program`, without its argument, the attempt directory.
    fn command(&mut self, program: WorkerProgram) -> Result<Command, ExecError> {
        match program {
            WorkerProgram::CommandStage => {
                // without libtorch, it starts in a hundredth of the time
                let mut command = Command::new(std::env::current_exe().map_err(ExecError::CurrentExe)?);
                command.arg(RUN_COMMAND_STAGE);
                Ok(command)
            }
            WorkerProgram::Engine => {
                let engine = match &self.engine {
                    Some(engine) => engine,
                    None => self.engine.insert(WorkerBinary::find()?),
                };
                let mut command = Command::from(engine.command());
                command.envs(wait_policy(|name| std::env::var_os(name).is_some(), cores_are_busy));
                Ok(command)
            }
        }
    }

    fn start(&mut self, submission: &Submission) -> Result<(), ExecError> {
        let log = fs_err::OpenOptions::new().create(true).append(true).open(submission.dir.join("worker.log"));
        let log = match log {
            Err(error) if error.kind() == ErrorKind::NotFound => return Err(ExecError::AttemptGone),
            opened => opened.map_err(ExecError::Log)?.into_file(),
        };
        let errors = log.try_clone().map_err(ExecError::Log)?;
        let mut command = self.command(submission.program)?;
        command
            .arg(&submission.dir)
            .envs(submission.environment.iter().map(|(name, value)| (name, value)))
            .env(JOB_VARIABLE, submission.job.as_str())
            .env(SUPERVISOR_VARIABLE, std::process::id().to_string())
            .stdin(Stdio::null())
            .stdout(log)
            .stderr(errors)
            .process_group(0);
        let path = PathBuf::from(command.as_std().get_program());
        let mut child = command.spawn().map_err(|source| ExecError::Start { path, source })?;
        if let Some(group) = child.id().and_then(ProcessGroup::of_leader) {
            self.groups.insert(submission.job.clone(), group);
        }
        let job = submission.job.clone();
        self.waits.spawn(async move { (job, child.wait().await) });
        Ok(())
    }

    /// Records the end of a worker.
    fn note_end(&mut self, joined: Result<(Job, io::Result<ExitStatus>), tokio::task::JoinError>) {
        let (job, status) = joined.expect("waiting for a worker does not panic");
        self.groups.remove(&job);
        self.ended.insert(job, status);
    }
}

impl Executor for LocalExecutor {
    fn submit(&mut self, batch: &[Submission]) -> Vec<Result<(), ExecError>> {
        batch.iter().map(|submission| self.start(submission)).collect()
    }

    fn poll(&mut self, jobs: &[Job]) -> Result<Vec<JobState>, ExecError> {
        while let Some(joined) = self.waits.try_join_next() {
            self.note_end(joined);
        }
        let state = |job: &Job| match self.ended.remove(job) {
            None => Ok(JobState::Active),
            Some(status) => status.map(|status| JobState::Ended(SystemEnd::from(status))).map_err(ExecError::Wait),
        };
        jobs.iter().map(state).collect()
    }

    fn cancel(&mut self, jobs: &[Job], how: Cancel) {
        for group in jobs.iter().filter_map(|job| self.groups.get(job)) {
            group.end(how);
        }
    }

    fn find(&mut self, attempt_dirs: &[&Path]) -> Vec<Option<Left>> {
        attempt_dirs.iter().map(|dir| Orphans::of(dir).map(Left::Orphans)).collect()
    }

    fn changed<'a>(&'a mut self) -> Pin<Box<dyn Future<Output = ()> + Send + 'a>> {
        Box::pin(async {
            if !self.ended.is_empty() {
                return;
            }
            match self.waits.join_next().await {
                Some(joined) => self.note_end(joined),
                None => pending().await,
            }
        })
    }
}

/// Returns the environment variable that limits OpenMP's spinning, unless the user chose a wait policy.
///
/// By default, OpenMP's threads spin for milliseconds when they have no work. That is faster by a tenth on an idle
/// machine. Beside a busy process it halves the speed, because a spinning thread keeps a working thread off its core.
/// There, threads spin for some microseconds and then sleep.
fn wait_policy(
    is_set: impl Fn(&str) -> bool,
    cores_are_busy: impl FnOnce() -> bool,
) -> Option<(&'static str, &'static str)> {
    let chosen = ["GOMP_SPINCOUNT", "OMP_WAIT_POLICY"].into_iter().any(is_set);
    (!chosen && cores_are_busy()).then_some(("GOMP_SPINCOUNT", "1000"))
}

#[cfg(test)]
mod tests {
    use super::*;

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
