//! Stages that need not run, because their results are in the cache.
//!
//! What the cache has is looked up once, on all cores, when the run begins; what it did not have then is looked for again
//! when its turn comes, as another process may have made it since. A result that a stage of this run starts from is read
//! whole before it is used: a flipped bit must not reach another result. That takes as long as the disk takes, so it is
//! done beside the loop.

use super::run_loop::Loop;
use crate::digest::Digest;
use crate::parallel;
use crate::plan::{Plan, PlannedStage};
use crate::run::{RunError, StageEnd};
use crate::run_update::RunUpdate;
use crate::workspace::{Lookup, Workspace, WorkspaceError};
use std::collections::BTreeSet;
use tokio::task::{JoinSet, spawn_blocking};

/// Stages, and what was found when all of their results were read.
pub(super) type Checked = Result<Vec<(usize, Lookup)>, WorkspaceError>;

/// What the cache had when the run began, and what is being read of it.
pub(in crate::run) struct Cached {
    /// By stage: what a first look found, until its turn comes.
    first_looks: Vec<Option<Lookup>>,
    /// Stages whose results, if they are cached, a stage of this run starts from.
    read_here: BTreeSet<usize>,
    /// Those whose results are being read whole.
    pub(super) checks: JoinSet<Checked>,
}

impl Cached {
    /// Looks for the results of all stages of `plan` but the `forced` ones.
    pub(in crate::run) fn look(
        plan: &Plan,
        workspace: &Workspace,
        forced: &BTreeSet<usize>,
    ) -> Result<Self, WorkspaceError> {
        let stages: Vec<(usize, &PlannedStage)> = plan.stages.iter().enumerate().collect();
        let look = |(index, stage): &(usize, &PlannedStage)| {
            if forced.contains(index) { Ok(None) } else { workspace.lookup(&stage.key).map(Some) }
        };
        let first_looks = parallel::map(&stages, look).into_iter().collect::<Result<Vec<_>, _>>()?;
        let runs = |&(index, _): &(usize, &PlannedStage)| !matches!(first_looks[index], Some(Lookup::Hit(_)));
        let read_here = stages.into_iter().filter(runs).flat_map(|(_, stage)| stage.parents.iter().copied()).collect();
        Ok(Self { first_looks, read_here, checks: JoinSet::new() })
    }

    /// Whether all results were there at the first look.
    pub(in crate::run) fn is_everything(&self) -> bool {
        self.first_looks.iter().all(|look| matches!(look, Some(Lookup::Hit(_))))
    }
}

impl Loop<'_> {
    /// Passes over ready stages whose results are cached, and over those that become ready by that.
    pub(super) async fn pass_over_cached(&mut self) -> Result<(), RunError> {
        let mut hits = Vec::new();
        let mut to_check: Vec<(usize, Digest)> = Vec::new();
        while let Some(stage) = self.scheduler.next_fresh() {
            if self.dispatch.forced.contains(&stage) {
                continue;
            }
            let first_look = self.cached.first_looks[stage].take();
            let key = &self.dispatch.plan.stages[stage].key;
            let found = match first_look {
                Some(Lookup::Miss) | None => self.dispatch.workspace.lookup(key)?,
                Some(found) => found,
            };
            if self.cached.read_here.contains(&stage) && matches!(found, Lookup::Hit(_)) {
                to_check.push((stage, key.clone()));
                self.scheduler.hold(stage);
            } else if self.is_usable(&found).await {
                self.scheduler.finish(stage);
                hits.push(stage);
            }
        }
        if !to_check.is_empty() {
            let workspace = self.dispatch.workspace.clone();
            self.cached.checks.spawn(async move {
                let check = spawn_blocking(move || check(&workspace, &to_check));
                check.await.expect("reading does not panic")
            });
        }
        self.hits(&hits).await;
        Ok(())
    }

    /// The results of stages have been read: those that are whole are used, the others run.
    pub(super) async fn checked(&mut self, checked: Checked) -> Result<(), RunError> {
        let mut hits = Vec::new();
        for (stage, found) in checked? {
            if self.is_usable(&found).await {
                self.scheduler.finish(stage);
                hits.push(stage);
            } else {
                self.scheduler.wake(stage);
            }
        }
        self.hits(&hits).await;
        Ok(())
    }

    /// Whether the stage's result is there now; one that is damaged is reported and moved away.
    pub(super) async fn is_cached(&mut self, stage: usize) -> Result<bool, RunError> {
        let found = self.dispatch.workspace.lookup(&self.dispatch.plan.stages[stage].key)?;
        Ok(self.is_usable(&found).await)
    }

    /// Whether what was found can be used.
    async fn is_usable(&mut self, found: &Lookup) -> bool {
        match found {
            Lookup::Hit(_) => true,
            Lookup::Miss => false,
            Lookup::Quarantined { reason, dir } => {
                let dir = dir.display();
                let message = format!("a damaged result was moved to {dir} and is made again: {reason}");
                self.dispatch.tell(RunUpdate::Warning { message }).await;
                false
            }
        }
    }

    /// Stages that the scheduler knows to be finished had their results in the cache.
    pub(super) async fn hits(&mut self, stages: &[usize]) {
        if stages.is_empty() {
            return;
        }
        self.dispatch.tell(RunUpdate::Cached { stages: stages.to_vec() }).await;
        self.ends.extend(stages.iter().map(|&stage| (stage, StageEnd::Hit)));
    }
}

/// Reads all of the results of these stages.
fn check(workspace: &Workspace, stages: &[(usize, Digest)]) -> Checked {
    let keys: Vec<&Digest> = stages.iter().map(|(_, key)| key).collect();
    let found = workspace.verify_all(&keys, parallel::cores(), &|_| {})?;
    Ok(stages.iter().map(|(stage, _)| *stage).zip(found).collect())
}
