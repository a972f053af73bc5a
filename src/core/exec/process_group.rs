//! Process groups of workers.

use super::executor::Cancel;
use rustix::process::{Pid, Signal, getpgid, kill_process_group};

/// A worker's process group. Signals to one that is gone do nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct ProcessGroup(Pid);

impl ProcessGroup {
    /// The group that the process with this id leads.
    pub(super) fn of_leader(process: u32) -> Option<Self> {
        i32::try_from(process).ok().and_then(Pid::from_raw).map(Self)
    }

    /// The group of the process with this id; absent when there is no such process.
    pub(super) fn of_member(process: u32) -> Option<Self> {
        let process = i32::try_from(process).ok().and_then(Pid::from_raw)?;
        getpgid(Some(process)).ok().map(Self)
    }

    /// Sends SIGTERM or SIGKILL.
    pub(super) fn end(self, how: Cancel) {
        let signal = match how {
            Cancel::Stop => Signal::TERM,
            Cancel::Kill => Signal::KILL,
        };
        // the only failure that can happen to a group of our own child is that it is gone already
        let _ = kill_process_group(self.0, signal);
    }
}
