//! Workers, and programs of `command` stages, whose run has died.

use super::executor::Cancel;
use super::process_group::ProcessGroup;
use crate::host;
use crate::workspace::{LeaseOwner, SUPERVISOR_VARIABLE, lease_holders, lease_owner};
use std::path::Path;

/// The processes of this machine that hold the lease of an attempt although their run is dead.
#[derive(Debug)]
pub struct Orphans {
    process: u32,
    whose: &'static str,
    groups: Vec<ProcessGroup>,
}

impl Orphans {
    /// Finds the orphans that hold the lease of the attempt directory `dir`.
    ///
    /// `None` when no process holds it, or when the run of a holder is alive. Processes of other hosts are unknown.
    pub(super) fn of(dir: &Path) -> Option<Self> {
        Self::among(&lease_owner(dir)?, &lease_holders(dir))
    }

    /// Finds the orphans among the `holders` of a lease.
    ///
    /// They are the worker that `owner` names, if its run no longer supervises it, or the remaining processes of a dead
    /// worker's program.
    fn among(owner: &LeaseOwner, holders: &[u32]) -> Option<Self> {
        let is_here = owner.host == host::host_name() && owner.boot_id == host::boot_id();
        // a worker that has just taken the lease is not yet recorded as the owner
        if !is_here || holders.iter().any(|&holder| Supervision::of(holder) == Supervision::Supervised) {
            return None;
        }
        let whose = if !holders.contains(&owner.pid) {
            "whose worker"
        } else if Supervision::of(owner.pid) == Supervision::Left {
            "whose run"
        } else {
            return None; // started by hand
        };
        let mut groups = Vec::new();
        for group in holders.iter().filter_map(|&holder| ProcessGroup::of_member(holder)) {
            if !groups.contains(&group) {
                groups.push(group);
            }
        }
        Some(Self { process: *holders.first()?, whose, groups })
    }

    /// The first of the orphaned processes.
    pub fn process(&self) -> u32 {
        self.process
    }

    /// The part that has died, for messages: `whose run` or `whose worker`.
    pub fn whose(&self) -> &'static str {
        self.whose
    }

    /// Ends the orphans' process groups.
    pub fn end(&self, how: Cancel) {
        self.groups.iter().for_each(|group| group.end(how));
    }
}

/// The relation of a worker to the process that started it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Supervision {
    /// The process that started the worker is still its parent.
    Supervised,
    /// The worker has another parent: when a parent ends, its children get another one.
    Left,
    /// The process was not started as a worker, or is gone.
    Unknown,
}

impl Supervision {
    fn of(process: u32) -> Self {
        let supervisor = host::environment_variable(process, SUPERVISOR_VARIABLE);
        match (supervisor.and_then(|id| id.parse::<u32>().ok()), host::parent(process)) {
            (Some(supervisor), Some(parent)) if supervisor == parent => Self::Supervised,
            (Some(_), Some(_)) => Self::Left,
            _ => Self::Unknown,
        }
    }
}
