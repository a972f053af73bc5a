//! Which stage may start next: pure, without clocks, threads or processes.

/// How a stage ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Its result is there.
    Succeeded,
    /// It was tried and gave no result.
    Failed,
    /// It was not tried, because a stage it needs gave no result or the run stopped.
    Skipped,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Waiting,
    Running,
    Ended(Outcome),
}

/// The states of a plan's stages. The stage with the longest path of costs below it starts first, so that the plan's
/// longest chain is not left to the end.
#[derive(Clone, Debug)]
pub struct Scheduler {
    parents: Vec<Vec<usize>>,
    priorities: Vec<u64>,
    states: Vec<State>,
}

impl Scheduler {
    /// All stages waiting. `parents[i]` are the stages that stage `i` needs, each smaller than `i`, as in
    /// [`super::Plan`]; `costs[i]` is any estimate of its time.
    ///
    /// # Panics
    ///
    /// When the lists differ in length or a parent does not come before its child.
    pub fn new(parents: Vec<Vec<usize>>, costs: &[u64]) -> Self {
        assert_eq!(parents.len(), costs.len(), "each stage has a cost");
        let mut priorities = costs.to_vec();
        for (stage, needed) in parents.iter().enumerate().rev() {
            for &parent in needed {
                assert!(parent < stage, "parents come before children");
                priorities[parent] = priorities[parent].max(costs[parent].saturating_add(priorities[stage]));
            }
        }
        let states = vec![State::Waiting; parents.len()];
        Self { parents, priorities, states }
    }

    /// The stages that may start now, the most urgent first.
    pub fn ready(&self) -> Vec<usize> {
        let mut ready: Vec<usize> = (0..self.states.len()).filter(|stage| self.is_ready(*stage)).collect();
        ready.sort_by_key(|stage| (std::cmp::Reverse(self.priorities[*stage]), *stage));
        ready
    }

    fn is_ready(&self, stage: usize) -> bool {
        let has_succeeded = |parent: &usize| self.states[*parent] == State::Ended(Outcome::Succeeded);
        self.states[stage] == State::Waiting && self.parents[stage].iter().all(has_succeeded)
    }

    /// Takes the most urgent stage that may start; the caller starts it.
    pub fn start_next(&mut self) -> Option<usize> {
        let stage = *self.ready().first()?;
        self.states[stage] = State::Running;
        Some(stage)
    }

    /// Starts this stage.
    ///
    /// # Panics
    ///
    /// When it is not in [`Self::ready`].
    pub fn start(&mut self, stage: usize) {
        assert!(self.is_ready(stage), "only a ready stage can start");
        self.states[stage] = State::Running;
    }

    /// A running stage has its result (or a ready one was found in the cache).
    ///
    /// # Panics
    ///
    /// When the stage neither runs nor is ready.
    pub fn finish(&mut self, stage: usize) {
        assert!(self.states[stage] == State::Running || self.is_ready(stage), "only a running or ready stage finishes");
        self.states[stage] = State::Ended(Outcome::Succeeded);
    }

    /// A running stage failed. Returns the stages that cannot run any more: exactly its descendants that had not ended.
    ///
    /// # Panics
    ///
    /// When the stage does not run.
    pub fn fail(&mut self, stage: usize) -> Vec<usize> {
        assert_eq!(self.states[stage], State::Running, "only a running stage fails");
        self.states[stage] = State::Ended(Outcome::Failed);
        let mut skipped = Vec::new();
        for below in stage + 1..self.states.len() {
            let is_cut_off = self.parents[below].iter().any(|parent| *parent == stage || skipped.contains(parent));
            if is_cut_off && self.states[below] == State::Waiting {
                self.states[below] = State::Ended(Outcome::Skipped);
                skipped.push(below);
            }
        }
        skipped
    }

    /// Nothing more is to start. Returns the stages that were still waiting.
    pub fn skip_waiting(&mut self) -> Vec<usize> {
        let waiting: Vec<usize> =
            (0..self.states.len()).filter(|stage| self.states[*stage] == State::Waiting).collect();
        for stage in &waiting {
            self.states[*stage] = State::Ended(Outcome::Skipped);
        }
        waiting
    }

    /// How the stage ended, if it has.
    pub fn outcome(&self, stage: usize) -> Option<Outcome> {
        match self.states[stage] {
            State::Ended(outcome) => Some(outcome),
            State::Waiting | State::Running => None,
        }
    }

    /// Stages that run now.
    pub fn running(&self) -> usize {
        self.states.iter().filter(|state| **state == State::Running).count()
    }

    /// Whether every stage has ended.
    pub fn is_done(&self) -> bool {
        self.states.iter().all(|state| matches!(state, State::Ended(_)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    /// A graph whose stages need some of the stages before them, with costs, failing stages and choices of who ends
    /// next.
    fn graphs() -> impl Strategy<Value = (Vec<Vec<usize>>, Vec<u64>, Vec<bool>, Vec<usize>)> {
        (1..12_usize).prop_flat_map(|count| {
            let parents = (0..count)
                .map(|stage| proptest::collection::btree_set(0..stage.max(1), 0..=stage.min(3)))
                .map(|set| set.prop_map(|set| set.into_iter().collect::<Vec<usize>>()))
                .collect::<Vec<_>>();
            (
                parents.prop_map(|mut parents| {
                    parents[0].clear();
                    parents
                }),
                proptest::collection::vec(0..100_u64, count),
                proptest::collection::vec(proptest::bool::weighted(0.2), count),
                proptest::collection::vec(0..count, count * 2),
            )
        })
    }

    fn descendants(parents: &[Vec<usize>], roots: &BTreeSet<usize>) -> BTreeSet<usize> {
        let mut below = BTreeSet::new();
        for (stage, needed) in parents.iter().enumerate() {
            if needed.iter().any(|parent| roots.contains(parent) || below.contains(parent)) {
                below.insert(stage);
            }
        }
        below
    }

    proptest! {
        #[test]
        fn every_stage_ends_once_after_its_parents_and_failure_skips_exactly_the_descendants(
            (parents, costs, fails, choices) in graphs(),
            slots in 1..4_usize,
        ) {
            let mut scheduler = Scheduler::new(parents.clone(), &costs);
            let mut running: Vec<usize> = Vec::new();
            let mut succeeded = BTreeSet::new();
            let mut failed = BTreeSet::new();
            let mut skipped = BTreeSet::new();
            let mut choices = choices.into_iter().cycle();
            while !scheduler.is_done() {
                while running.len() < slots {
                    let Some(stage) = scheduler.start_next() else { break };
                    prop_assert!(parents[stage].iter().all(|parent| succeeded.contains(parent)));
                    prop_assert!(!running.contains(&stage) && scheduler.outcome(stage).is_none());
                    running.push(stage);
                }
                prop_assert_eq!(scheduler.running(), running.len());
                prop_assert!(!running.is_empty(), "nothing runs and nothing is done");
                let stage = running.swap_remove(choices.next().unwrap_or(0) % running.len());
                if fails[stage] {
                    failed.insert(stage);
                    for cut_off in scheduler.fail(stage) {
                        prop_assert!(skipped.insert(cut_off), "skipped twice");
                    }
                } else {
                    succeeded.insert(stage);
                    scheduler.finish(stage);
                }
            }
            prop_assert_eq!(&skipped, &descendants(&parents, &failed));
            prop_assert_eq!(succeeded.len() + failed.len() + skipped.len(), parents.len());
            for stage in 0..parents.len() {
                let expected = if failed.contains(&stage) {
                    Outcome::Failed
                } else if skipped.contains(&stage) {
                    Outcome::Skipped
                } else {
                    Outcome::Succeeded
                };
                prop_assert_eq!(scheduler.outcome(stage), Some(expected));
            }
        }
    }

    #[test]
    fn the_longest_chain_starts_first() {
        // 0 alone and long; 1 -> 2 -> 3 longer together.
        let scheduler = Scheduler::new(vec![vec![], vec![], vec![1], vec![2]], &[10, 1, 1, 9]);
        assert_eq!(scheduler.ready(), [1, 0]);
    }

    #[test]
    fn a_ready_stage_found_in_the_cache_finishes_without_running() {
        let mut scheduler = Scheduler::new(vec![vec![], vec![0]], &[1, 1]);
        scheduler.finish(0);
        assert_eq!(scheduler.ready(), [1]);
    }

    #[test]
    fn stopping_skips_what_waits_and_lets_what_runs_end() {
        let mut scheduler = Scheduler::new(vec![vec![], vec![], vec![0]], &[2, 1, 1]);
        assert_eq!(scheduler.start_next(), Some(0));
        assert_eq!(scheduler.skip_waiting(), [1, 2]);
        assert!(!scheduler.is_done());
        scheduler.finish(0);
        assert!(scheduler.is_done());
    }
}
