//! Stages that need not run, because their results are in the cache.
//!
//! The cache is searched once, on all cores, when the run begins. A result that is missing then is searched again when
//! the stage's turn comes, because another process may have made it since. A parent's result is verified completely
//! before a stage uses it, so that a flipped bit does not affect another result. Verification takes as long as reading
//! from the disk does, so it runs beside the loop.

use super::run_loop::Loop;
use crate::digest::Digest;
use crate::parallel;
use crate::plan::{Plan, PlannedStage};
use crate::run::{RunError, StageEnd};
use crate::run_update::RunUpdate;
use crate::workspace::{Lookup, Workspace, WorkspaceError};
use std::collections::BTreeSet;
use tokio::task::{JoinSet, spawn_blocking};

/// The outcome of verifying the results of stages.
pub(super) type Checked = Result<Vec<(usize, Lookup)>, WorkspaceError>;

/// The state of the cache when the run began, and the verifications in progress.
pub(in crate::run) struct Cached {
    /// By stage: the outcome of the first search, until the stage's turn comes.
    first_looks: Vec<Option<Lookup>>,
    /// Stages whose results, if cached, a stage of this run starts from.
    read_here: BTreeSet<usize>,
    /// Verifications in progress.
    pub(super) checks: JoinSet<Checked>,
}

impl Cached {
    /// Searches the results of all stages of `plan` except the `forced` ones.
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

    /// Whether the first search found all results.
    pub(in crate::run) fn is_everything(&self) -> bool {
        self.first_looks.iter().all(|look| matches!(look, Some(Lookup::Hit(_))))
    }
}

impl Loop<'_> {
    /// Passes over ready stages whose results are cached, and over stages that become ready as a consequence.
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

    /// Continues after verification: whole results are used, and the other stages run.
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

    /// Whether the stage's result is in the cache now. A damaged result is reported and moved away.
    pub(super) async fn is_cached(&mut self, stage: usize) -> Result<bool, RunError> {
        let found = self.dispatch.workspace.lookup(&self.dispatch.plan.stages[stage].key)?;
        Ok(self.is_usable(&found).await)
    }

    /// Whether the search found a usable result. Reports a damaged one.
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

    /// Records cache hits, for stages that the scheduler already counts as finished.
    pub(super) async fn hits(&mut self, stages: &[usize]) {
        if stages.is_empty() {
            return;
        }
        self.dispatch.tell(RunUpdate::Cached { stages: stages.to_vec() }).await;
        self.ends.extend(stages.iter().map(|&stage| (stage, StageEnd::Hit)));
    }
}

/// Verifies all files of the results of these stages.
fn check(workspace: &Workspace, stages: &[(usize, Digest)]) -> Checked {
    let keys: Vec<&Digest> = stages.iter().map(|(_, key)| key).collect();
    let found = workspace.verify_all(&keys, parallel::cores(), &|_| {})?;
    Ok(stages.iter().map(|(stage, _)| *stage).zip(found).collect())
}
