//! Stages that another process works on.
//!
//! **A run that was killed** (`kill -9`, a lost node) cannot stop its workers, and nobody takes them over: each of them ends
//! by itself. A worker whose parent is no longer the process that started it (`cache::supervisor`) leaves a resume
//! point at its next step and ends, so it works on for a step at most, and nothing of it is lost. Whoever needs the same key
//! meanwhile finds its lease held and waits; a worker that does not end, because it hangs, is asked to (SIGTERM) and, when
//! the recipe's `stop_grace_s` is over, killed. Only then is the lease free, and the stage goes on from the resume point:
//! no two workers are ever at one key. A worker of a `command` stage that was killed too may leave its program behind,
//! which holds the lease as well: it is ended in the same way.
//!
//! Taking such a worker over instead was weighed and left: only a parent learns how its child ended, so an adopter would have
//! to guess it from files, to save the seconds that loading the model takes.

use super::Loop;
use crate::cache::{LeaseOwner, SUPERVISOR_VARIABLE};
use crate::exec::WorkerGroup;
use crate::host;
use crate::orchestrate::RunError;
use crate::run_update::RunUpdate;
use std::time::{Duration, Instant};

/// How often a lease that another process holds is looked at.
const POLL_EVERY: Duration = Duration::from_secs(1);

/// A stage that another process works on.
pub(super) struct Waiting {
    looked_at: Instant,
    /// When the worker of a dead run was asked to end.
    asked_at: Option<Instant>,
}

impl Loop<'_> {
    pub(super) async fn wait_for(&mut self, stage: usize, whom: &str) {
        self.scheduler.pause(stage);
        self.dispatch.tell(RunUpdate::Waiting { stage, owner: whom.to_owned() }).await;
        self.waiting.insert(stage, Waiting { looked_at: Instant::now(), asked_at: None });
    }

    /// Goes on with stages whose lease has become free or whose checkpoint another process has committed.
    pub(super) async fn look_at_leases(&mut self) -> Result<(), RunError> {
        let now = Instant::now();
        let is_due = |waiting: &Waiting| now - waiting.looked_at >= POLL_EVERY;
        let due: Vec<usize> =
            self.waiting.iter().filter(|(_, waiting)| is_due(waiting)).map(|(&stage, _)| stage).collect();
        for stage in due {
            let key = &self.dispatch.plan.stages[stage].key;
            if !self.dispatch.forced.contains(&stage) && self.is_cached(stage).await? {
                self.waiting.remove(&stage);
                self.scheduler.finish(stage);
                self.hits(&[stage]).await;
            } else if let Some(owner) = self.dispatch.cache.holder(key) {
                self.end_orphans(stage, &owner, now).await;
            } else {
                self.waiting.remove(&stage);
                self.scheduler.wake(stage);
            }
        }
        Ok(())
    }

    /// Ends what holds the lease if it belongs to a run that is dead.
    async fn end_orphans(&mut self, stage: usize, owner: &LeaseOwner, now: Instant) {
        let Some(waiting) = self.waiting.get_mut(&stage) else { return };
        waiting.looked_at = now;
        let planned = &self.dispatch.plan.stages[stage];
        let holders = self.dispatch.cache.lease_holders(&planned.key);
        let Some(orphans) = Orphans::of(owner, &holders) else { return };
        let grace = Duration::from_secs_f64(planned.runtime.stop_grace_s);
        let process = orphans.process;
        let message = match waiting.asked_at {
            None => {
                waiting.asked_at = Some(now);
                orphans.groups.iter().for_each(|group| group.stop());
                format!("asking process {process} to end, {} has died", orphans.whose)
            }
            Some(asked_at) if now - asked_at >= grace => {
                orphans.groups.iter().for_each(|group| group.kill());
                format!("killing process {process}, which did not end in {} s", grace.as_secs_f64())
            }
            Some(_) => return,
        };
        self.dispatch.note(stage, message).await;
    }
}

/// What holds a lease although its run is dead.
struct Orphans {
    /// The first of the processes.
    process: u32,
    /// What of theirs has died.
    whose: &'static str,
    /// Their process groups.
    groups: Vec<WorkerGroup>,
}

impl Orphans {
    /// Those among the `holders` of a lease: the worker that `owner` names, if its run no longer supervises it, or what
    /// is left of the program of a worker that is dead itself. Of another host's owner nothing is known.
    fn of(owner: &LeaseOwner, holders: &[u32]) -> Option<Self> {
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
        for group in holders.iter().filter_map(|&holder| WorkerGroup::of(holder)) {
            if !groups.contains(&group) {
                groups.push(group);
            }
        }
        Some(Self { process: *holders.first()?, whose, groups })
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
