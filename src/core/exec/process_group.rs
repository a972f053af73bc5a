//! Process groups of workers.

use super::executor::Cancel;
use rustix::process::{Pid, Signal, getpgid, kill_process_group};

/// A worker's process group. Signals to a group that is gone have no effect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct ProcessGroup(Pid);

impl ProcessGroup {
    /// Returns the group that the process with this id leads.
    pub(super) fn of_leader(process: u32) -> Option<Self> {
        i32::try_from(process).ok().and_then(Pid::from_raw).map(Self)
    }

    /// Returns the group of the process with this id; `None` when the process does not exist.
    pub(super) fn of_member(process: u32) -> Option<Self> {
        let process = i32::try_from(process).ok().and_then(Pid::from_raw)?;
        getpgid(Some(process)).ok().map(Self)
    }

    /// Sends SIGTERM or SIGKILL to the group.
    pub(super) fn end(self, how: Cancel) {
        let signal = match how {
            Cancel::Stop => Signal::TERM,
            Cancel::Kill => Signal::KILL,
        };
        // for a group of our own child, the only possible failure is that it is already gone
        let _ = kill_process_group(self.0, signal);
    }
}
