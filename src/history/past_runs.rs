//! Past runs, read from their logs.

use crate::digest::Digest;
use crate::history::run_log::{Invocation, LogDamage, LoggedPlan, append_end, read_events};
use crate::history::run_process::{Liveness, is_locked, liveness, signal_run};
use crate::run_event::{RunEventKind, RunProcess};
use crate::stage::RunStatus;
use crate::workspace::{Workspace, WorkspaceError};
use rustix::process::Signal;
use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};
use ulid::Ulid;

/// A past run.
#[derive(Clone, Debug)]
pub struct PastRun {
    /// The run's id.
    pub run: String,
    /// The run's log directory.
    pub log_dir: PathBuf,
    /// The run's status.
    pub status: RunStatus,
    /// The run's invocation.
    pub invocation: Invocation,
    /// The process that runs the stages; absent if it was killed before it was recorded.
    pub process: Option<RunProcess>,
    /// The number of lines of `run.jsonl` that are not valid events.
    pub unreadable_lines: usize,
}

/// The runs with a log, and the damage of logs.
#[derive(Clone, Debug, Default)]
pub struct PastRuns {
    /// The runs whose logs can be read, newest first.
    pub runs: Vec<PastRun>,
    /// The logs that cannot be read.
    pub damage: Vec<LogDamage>,
}

/// An error while a run is asked to stop.
#[derive(Debug, thiserror::Error)]
pub enum CancelError {
    /// The process is on another machine, in another container, or another user's.
    #[error("process {pid} on the host `{host}` cannot be seen from here")]
    OutOfSight {
        /// The host of the process.
        host: String,
        /// The process id.
        pid: u32,
    },
    /// The signal cannot be sent.
    #[error("its process cannot be signalled")]
    Signal(#[source] io::Error),
}

impl PastRuns {
    /// Reads all runs with a log below `runs`. Leaves out a run that was killed before its first stage.
    pub fn all(runs: &Path) -> io::Result<Self> {
        let directory = runs.join("log");
        let mut found = Self::default();
        if !directory.is_dir() {
            return Ok(found);
        }
        let mut names = Vec::new();
        for entry in fs_err::read_dir(&directory)? {
            names.extend(entry?.file_name().into_string());
        }
        names.sort_unstable_by(|a, b| b.cmp(a)); // ids begin with the time
        for run in names {
            match PastRun::read(run, &directory) {
                Ok(past) => found.runs.extend(past),
                Err(damage) => found.damage.push(damage),
            }
        }
        Ok(found)
    }
}

impl PastRun {
    /// Reads the run with this id, if it has a log. Returns `None` for an invalid id.
    ///
    /// # Errors
    /// The run's log is damaged.
    pub fn named(runs: &Path, id: &str) -> Result<Option<Self>, LogDamage> {
        let Ok(id) = Ulid::from_string(id) else { return Ok(None) };
        Self::read(id.to_string(), &runs.join("log"))
    }

    /// Returns the keys of the stages that the run was to repeat (`--force`) and did not.
    pub fn still_forced(&self) -> io::Result<Vec<Digest>> {
        let done: BTreeSet<Digest> = self
            .events()?
            .into_iter()
            .filter_map(|event| match event.kind {
                RunEventKind::StageDone { key, .. } => Some(key),
                _ => None,
            })
            .collect();
        Ok(self.invocation.forced.iter().filter(|key| !done.contains(key)).cloned().collect())
    }

    /// Reads a run. Returns `None` for a run that was killed before it recorded its invocation.
    fn read(run: String, directory: &Path) -> Result<Option<Self>, LogDamage> {
        let log_dir = directory.join(&run);
        let has = |name: &str| log_dir.join(name).exists();
        if !has("run.jsonl") && !has("invocation.json") {
            return Ok(None);
        }
        let was_alive = is_locked(&log_dir); // before the events are read: the run may end meanwhile and record that
        let invocation = LogDamage::of(&log_dir.join("invocation.json"), Invocation::load(&log_dir))?;
        let events = if has("run.jsonl") { read_events(&log_dir) } else { Ok(Default::default()) };
        let (events, unreadable_lines) = LogDamage::of(&log_dir.join("run.jsonl"), events)?;
        let process = events.iter().find_map(|event| match &event.kind {
            RunEventKind::RunStarted { process, .. } => Some(process.clone()),
            _ => None,
        });
        let status = match events.last().map(|event| &event.kind) {
            Some(RunEventKind::RunEnded { status }) => *status,
            _ if was_alive || liveness(&log_dir, process.as_ref()) != Liveness::Ended => RunStatus::Running,
            None => return Ok(None),
            Some(_) => RunStatus::Interrupted,
        };
        Ok(Some(Self { run, log_dir, status, invocation, process, unreadable_lines }))
    }

    /// Returns the number of planned stages; absent if the plan cannot be read.
    pub fn planned_stages(&self) -> Option<usize> {
        Some(LoggedPlan::load(&self.log_dir).ok()?.stages.len())
    }

    /// Reads the run's current status.
    pub fn status_now(&self) -> RunStatus {
        let now = self.log_dir.parent().map(|directory| Self::read(self.run.clone(), directory));
        now.and_then(|now| now.ok().flatten()).map_or(self.status, |now| now.status)
    }

    /// Checks whether the run's process is alive now.
    pub fn liveness(&self) -> Liveness {
        liveness(&self.log_dir, self.process.as_ref())
    }

    /// Marks the run as interrupted, for a run of another machine whose state is unknown ([`Liveness::Unknown`]).
    pub fn take_over(&self) -> io::Result<()> {
        append_end(&self.log_dir, RunStatus::Interrupted)
    }

    /// Asks the run's dispatcher to stop, as Ctrl-C does. With `now`, acts as a second Ctrl-C does. A process that has
    /// ended is not an error. Only a process that is proved to be the run gets a signal.
    pub fn cancel(&self, now: bool) -> Result<(), CancelError> {
        let Some(process) = &self.process else { return Ok(()) };
        let out_of_sight = || CancelError::OutOfSight { host: process.host.clone(), pid: process.pid };
        if self.liveness() == Liveness::Unknown {
            return Err(out_of_sight());
        }
        // Two signals of one kind may arrive as one.
        let signals = if now { &[Signal::INT, Signal::TERM][..] } else { &[Signal::INT] };
        for signal in signals {
            if !signal_run(&self.log_dir, process, *signal).map_err(CancelError::Signal)? {
                return Err(out_of_sight());
            }
        }
        Ok(())
    }
}

/// Why the record of a run cannot be removed.
#[derive(Debug)]
pub enum RemovalRefusal {
    /// The run is running.
    Running,
    /// The run was started on another machine, and its state is unknown here.
    Unknown {
        /// The machine's host name.
        host: String,
    },
    /// The files could not be moved.
    Workspace(WorkspaceError),
}

/// Removes the record of the run with this id, even an unreadable one. The run's results stay in the cache.
///
/// # Errors
/// The run may be alive, or its files cannot be moved.
pub fn remove_run(workspace: &Workspace, run: &str) -> Result<(), RemovalRefusal> {
    let log_dir = workspace.root().join("log").join(run);
    // Keeps processes that count the uses of results from seeing a half-removed record.
    let lock = workspace.lock_for_removal().map_err(RemovalRefusal::Workspace)?;
    if is_locked(&log_dir) {
        return Err(RemovalRefusal::Running);
    }
    if let Ok(Some(past)) = PastRun::named(workspace.root(), run) {
        match (past.liveness(), past.process) {
            (Liveness::Alive, _) => return Err(RemovalRefusal::Running),
            (Liveness::Unknown, Some(process)) if past.status == RunStatus::Running => {
                return Err(RemovalRefusal::Unknown { host: process.host });
            }
            _ => {}
        }
    }
    workspace.throw_away_log(&lock, &log_dir).map_err(RemovalRefusal::Workspace)?;
    Ok(())
}

/// Whether a run without a recorded end has died.
pub(super) fn has_died(runs: &Path, run: &str) -> bool {
    match PastRun::named(runs, run) {
        Ok(Some(past)) => past.status == RunStatus::Interrupted,
        Ok(None) => true,
        Err(_) => !is_locked(&runs.join("log").join(run)),
    }
}

/// Returns the newest run that failed or was interrupted and was not resumed by another run.
pub fn resumable(runs: &[PastRun]) -> Option<&PastRun> {
    let resumed = |run: &PastRun| runs.iter().any(|other| other.invocation.resumes.as_ref() == Some(&run.run));
    runs.iter().find(|run| matches!(run.status, RunStatus::Failed | RunStatus::Interrupted) && !resumed(run))
}

#[cfg(test)]
mod tests {
    use super::*;
    use RunStatus::{Failed, Interrupted, Ok, Running};

    fn past(run: &str, status: RunStatus, resumes: Option<&str>) -> PastRun {
        let invocation = Invocation { resumes: resumes.map(str::to_owned), ..Invocation::default() };
        PastRun { run: run.into(), log_dir: PathBuf::new(), status, invocation, process: None, unreadable_lines: 0 }
    }

    fn resumes(runs: &[PastRun]) -> Option<&str> {
        resumable(runs).map(|run| run.run.as_str())
    }

    #[test]
    fn the_newest_run_that_did_not_end_well_is_resumed() {
        let runs = [past("c", Ok, None), past("b", Interrupted, None), past("a", Failed, None)];
        assert_eq!(resumes(&runs), Some("b"));
    }

    #[test]
    fn a_run_that_was_resumed_is_left_to_the_one_that_did() {
        assert_eq!(resumes(&[past("b", Ok, Some("a")), past("a", Interrupted, None)]), None);
        assert_eq!(resumes(&[past("b", Failed, Some("a")), past("a", Interrupted, None)]), Some("b"));
    }

    #[test]
    fn a_running_run_is_not_resumed() {
        assert_eq!(resumes(&[past("a", Running, None)]), None);
    }
}
