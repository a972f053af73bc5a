//! Workers, and programs of `command` stages, whose run has died.

use super::executor::Cancel;
use super::process_group::ProcessGroup;
use crate::host;
use crate::workspace::{LeaseOwner, SUPERVISOR_VARIABLE, lease_holders, lease_owner};
use std::path::Path;

/// Processes of this machine that hold the lease of an attempt although their run is dead.
#[derive(Debug)]
pub struct Orphans {
    process: u32,
    whose: &'static str,
    groups: Vec<ProcessGroup>,
}

impl Orphans {
    /// Those that hold the lease of the attempt directory `dir`; absent when no process does, or when one does whose run
    /// lives. Of another host's processes nothing is known.
    pub(super) fn of(dir: &Path) -> Option<Self> {
        Self::among(&lease_owner(dir)?, &lease_holders(dir))
    }

    /// Those among the `holders` of a lease: the worker that `owner` names, if its run no longer supervises it, or what
    /// is left of the program of a worker that is dead itself.
    fn among(owner: &LeaseOwner, holders: &[u32]) -> Option<Self> {
        let is_here = owner.host == host::host_name() && owner.boot_id == host::boot_id();
        // a worker that has just taken the lease is not yet the owner by name
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

    /// The first of them.
    pub fn process(&self) -> u32 {
        self.process
    }

    /// What of theirs has died: `whose run` or `whose worker`.
    pub fn whose(&self) -> &'static str {
        self.whose
    }

    /// Ends them.
    pub fn end(&self, how: Cancel) {
        self.groups.iter().for_each(|group| group.end(how));
    }
}

/// Whether the process that started a worker looks after it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Supervision {
    /// It is the worker's parent.
    Supervised,
    /// It is not any more: when a parent ends, its children become another's.
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
