//! The process of a run, and whether it lives.
//!
//! A run locks `log/<run>/lock` for as long as it lives. No other process can imitate that, whereas a name, a process
//! id and a host name may be reused. On a file system without locks the file does not exist. The run then counts as
//! alive while a process with its start time exists. On a network file system, locks of other machines may be
//! invisible. The state of such a run is unknown.

use crate::host::{FileLock, boot_id, host_name, network_file_system};
use crate::run_event::RunProcess;
use crate::workspace::{NETWORK_FAULT, is_asked_for};
use rustix::process::{Pid, Signal, kill_process};
use std::io;
use std::path::{Path, PathBuf};

/// Whether a run's process lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Liveness {
    /// The process lives.
    Alive,
    /// The process has ended.
    Ended,
    /// The process was started on another machine, whose processes and locks cannot be seen from here.
    Unknown,
}

/// Returns the path of the file that the run with this log directory locks.
fn lock_path(log_dir: &Path) -> PathBuf {
    log_dir.join("lock")
}

/// Takes the lock of a run for as long as the result is kept; absent on a file system without locks.
pub(super) fn lock_run(log_dir: &Path) -> io::Result<Option<FileLock>> {
    let path = lock_path(log_dir);
    let file = fs_err::OpenOptions::new().create_new(true).append(true).open(&path)?;
    let lock = FileLock::try_exclusive(file).ok().flatten();
    if lock.is_none() {
        fs_err::remove_file(path)?; // without it, the start time decides
    }
    Ok(lock)
}

/// Whether the run with this log directory holds its lock.
pub(super) fn is_locked(log_dir: &Path) -> bool {
    FileLock::is_held(&lock_path(log_dir))
}

/// Returns whether the run with this log directory, started by `process`, is alive.
pub(super) fn liveness(log_dir: &Path, process: Option<&RunProcess>) -> Liveness {
    if is_locked(log_dir) {
        return Liveness::Alive;
    }
    let Some(process) = process else { return Liveness::Ended };
    if process.host != host_name() && process.boot_id != boot_id() && is_on_a_network(log_dir) {
        Liveness::Unknown
    } else if !lock_path(log_dir).exists() && process.is_there() {
        Liveness::Alive
    } else {
        Liveness::Ended
    }
}

/// Sends a signal to the process of a living run. Returns false if the process cannot be seen from here.
pub(super) fn signal_run(log_dir: &Path, process: &RunProcess, signal: Signal) -> io::Result<bool> {
    let lock = lock_path(log_dir);
    let proved = if lock.exists() {
        FileLock::holders(&lock)
    } else {
        Vec::from_iter(process.is_there().then_some(process.pid))
    };
    for &pid in &proved {
        let Some(pid) = i32::try_from(pid).ok().and_then(Pid::from_raw) else { continue };
        match kill_process(pid, signal) {
            Ok(()) | Err(rustix::io::Errno::SRCH) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(!proved.is_empty() || !FileLock::is_held(&lock))
}

/// Whether another machine may hold an invisible lock on a file in this directory.
fn is_on_a_network(directory: &Path) -> bool {
    is_asked_for(NETWORK_FAULT) || network_file_system(directory).is_some()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn other_boot(host: &str) -> RunProcess {
        RunProcess { host: host.to_owned(), boot_id: "another".to_owned(), ..RunProcess::this_process() }
    }

    #[test]
    fn a_run_is_alive_while_its_lock_is_held_whoever_its_log_names() {
        let dir = tempfile::tempdir().unwrap();
        let lock = lock_run(dir.path()).unwrap().expect("this file system has locks");
        for process in [None, Some(RunProcess::this_process()), Some(other_boot("elsewhere"))] {
            assert_eq!(liveness(dir.path(), process.as_ref()), Liveness::Alive);
        }
        drop(lock);
        // This process lives but is not the run: its process id was reused, or the host was renamed.
        for process in [None, Some(RunProcess::this_process()), Some(other_boot("elsewhere"))] {
            assert_eq!(liveness(dir.path(), process.as_ref()), Liveness::Ended);
        }
    }

    #[test]
    fn without_locks_a_process_of_the_same_start_time_is_the_run() {
        let dir = tempfile::tempdir().unwrap();
        let this = RunProcess::this_process();
        let later = RunProcess { start_ticks: this.start_ticks.map(|ticks| ticks + 1), ..this.clone() };
        let of_earlier_version = RunProcess { start_ticks: None, boot_id: String::new(), ..this.clone() };
        for (process, expected) in [
            (&this, Liveness::Alive),
            (&later, Liveness::Ended),
            (&other_boot(&this.host), Liveness::Ended),
            (&of_earlier_version, Liveness::Ended),
        ] {
            assert_eq!(liveness(dir.path(), Some(process)), expected, "{process:?}");
        }
    }
}
