//! Stages that another process works on.
//!
//! **A run that was killed** (`kill -9`, a lost node) cannot stop its workers. No other run takes them over; each of
//! them ends by itself. A worker checks whether its parent is still the process that started it
//! (`workspace::supervisor`). If not, the worker leaves a resume point at its next step and ends. So it works on for at
//! most a step, and no work is lost.
//!
//! Another run that needs the same key finds its lease held and waits. If the worker hangs, that run sends it SIGTERM,
//! and kills it after the recipe's `stop_grace_s`. Only then is the lease free, and the stage continues from the resume
//! point. No two workers ever work on one key.
//!
//! A killed worker of a `command` stage may leave its program behind, which holds the lease as well. The program is
//! ended in the same way. The executor finds these processes. On a cluster, workers outlive their dispatcher; the
//! executor then finds a job instead, which is followed (`Left::Job`).

use super::run_loop::Loop;
use crate::exec::{Cancel, Left};
use crate::run::RunError;
use crate::run_update::RunUpdate;
use crate::workspace::{LEASE_LOOKED_AT, fault_point};
use std::time::{Duration, Instant};

/// How often a lease that another process holds is checked.
const POLL_EVERY: Duration = Duration::from_secs(1);

/// A stage that another process works on.
pub(super) struct Waiting {
    looked_at: Instant,
    /// When the worker of a dead run was asked to end.
    asked_at: Option<Instant>,
}

impl Loop<'_> {
    pub(super) async fn wait_for(&mut self, stage: usize, owner: &str) {
        self.scheduler.pause(stage);
        self.dispatch.tell(RunUpdate::Waiting { stage, owner: owner.to_owned() }).await;
        self.waiting.insert(stage, Waiting { looked_at: Instant::now(), asked_at: None });
    }

    /// Continues with stages whose lease is free or whose checkpoint another process has committed.
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
            } else if self.dispatch.workspace.holder(key).is_some() {
                self.end_orphans(stage, now).await;
                fault_point(LEASE_LOOKED_AT);
            } else {
                self.waiting.remove(&stage);
                self.scheduler.wake(stage);
            }
        }
        Ok(())
    }

    /// Ends the processes that hold the lease if they belong to a dead run.
    async fn end_orphans(&mut self, stage: usize, now: Instant) {
        let Some(waiting) = self.waiting.get_mut(&stage) else { return };
        waiting.looked_at = now;
        let planned = &self.dispatch.plan.stages[stage];
        let dir = self.dispatch.workspace.attempt_dir(&planned.key);
        let Some(Some(Left::Orphans(orphans))) = self.dispatch.executor.find(&[&dir]).pop() else { return };
        let grace = Duration::from_secs_f64(planned.runtime.stop_grace_s);
        let (process, whose) = (orphans.process(), orphans.whose());
        let message = match waiting.asked_at {
            None => {
                waiting.asked_at = Some(now);
                orphans.end(Cancel::Stop);
                format!("asking process {process} to end, {whose} has died")
            }
            Some(asked_at) if now - asked_at >= grace => {
                orphans.end(Cancel::Kill);
                format!("killing process {process}, which did not end in {} s", grace.as_secs_f64())
            }
            Some(_) => return,
        };
        self.dispatch.note(stage, message).await;
    }
}
