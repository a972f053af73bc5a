//! Decides which stage may start next. The scheduler is pure: it has no clocks, threads or processes.
//!
//! ```text
//! waiting -> ready -> running -> ended
//!              ^         |
//!              +- paused-+     worked on by another process, waiting for a retry, or being looked up
//! ```
//!
//! Of the ready stages, the one with the longest path of costs below it starts first, if its resources are free
//! ([`super::resources`]). So the plan's longest chain is not left to the end.

use super::resources::{Capacity, StageNeed, Tally};
use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

/// The outcome of a stage.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The stage has a result.
    Succeeded,
    /// The stage ran without a result.
    Failed,
    /// The stage did not run, because a stage that it needs has no result.
    Skipped,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Waiting,
    Ready,
    Running,
    Paused,
    Ended(Outcome),
}

/// A stage to be started.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Start {
    /// The index of the stage.
    pub stage: usize,
    /// The stage's slot in [`Capacity::gpus`], if it runs on a GPU.
    pub gpu: Option<usize>,
}

/// The urgency of a ready stage; the most urgent one sorts first.
type Urgency = (Reverse<u64>, usize);

/// The states of a plan's stages.
#[derive(Clone, Debug)]
pub struct Scheduler {
    children: Vec<Vec<usize>>,
    /// The number of parents without a result, by stage.
    missing: Vec<usize>,
    priorities: Vec<u64>,
    needs: Vec<StageNeed>,
    capacity: Capacity,
    states: Vec<State>,
    ready: BTreeSet<Urgency>,
    /// Those of them that have not been looked for in the cache yet.
    fresh: BTreeSet<Urgency>,
    /// The running stages with their slots.
    running: BTreeMap<usize, Option<usize>>,
}

impl Scheduler {
    /// Creates a scheduler in which all stages wait. `parents[i]` are the stages that stage `i` needs, each smaller
    /// than `i`, as in [`super::Plan`]. `costs[i]` is any estimate of its time, and `needs[i]` its resources while it
    /// runs.
    ///
    /// # Panics
    ///
    /// When the lists differ in length, a parent does not come before its child, or a stage needs a GPU that does not
    /// exist.
    pub fn new(parents: &[Vec<usize>], costs: &[u64], needs: Vec<StageNeed>, capacity: Capacity) -> Self {
        assert_eq!(parents.len(), costs.len(), "each stage has a cost");
        assert_eq!(parents.len(), needs.len(), "each stage has a need");
        for need in &needs {
            let alone = Tally::of(&capacity, std::iter::empty()).place(need);
            assert!(alone.is_some(), "a stage that is alone has what it needs");
        }
        let mut priorities = costs.to_vec();
        let mut children = vec![Vec::new(); parents.len()];
        for (stage, needed) in parents.iter().enumerate().rev() {
            for &parent in needed {
                assert!(parent < stage, "parents come before children");
                priorities[parent] = priorities[parent].max(costs[parent].saturating_add(priorities[stage]));
                children[parent].push(stage);
            }
        }
        let missing = parents.iter().map(Vec::len).collect();
        let states = vec![State::Waiting; parents.len()];
        let (ready, fresh, running) = (BTreeSet::new(), BTreeSet::new(), BTreeMap::new());
        let mut scheduler = Self { children, missing, priorities, needs, capacity, states, ready, fresh, running };
        for stage in 0..scheduler.states.len() {
            if scheduler.missing[stage] == 0 {
                scheduler.make_ready(stage);
                scheduler.fresh.insert(scheduler.urgency(stage));
            }
        }
        scheduler
    }

    /// Returns the resources of the machine.
    pub fn capacity(&self) -> &Capacity {
        &self.capacity
    }

    /// Returns the most urgent ready stage that this function has not returned before. Its result may be in the cache.
    pub fn next_fresh(&mut self) -> Option<usize> {
        self.fresh.pop_first().map(|(_, stage)| stage)
    }

    /// Takes the most urgent ready stage and allocates its resources. The caller starts it.
    pub fn start_next(&mut self) -> Option<Start> {
        let running = self.running.iter().map(|(stage, slot)| (&self.needs[*stage], *slot));
        let mut tally = Tally::of(&self.capacity, running);
        if tally.is_full() {
            return None;
        }
        let placed = |&(_, stage): &Urgency| tally.place(&self.needs[stage]).map(|room| Start { stage, gpu: room.gpu });
        let start = self.ready.iter().find_map(placed)?;
        self.leave_ready(start.stage);
        self.states[start.stage] = State::Running;
        self.running.insert(start.stage, start.gpu);
        Some(start)
    }

    /// Holds back a ready stage until [`Self::wake`], while its result is looked up in the cache.
    ///
    /// # Panics
    ///
    /// When the stage is not ready.
    pub fn hold(&mut self, stage: usize) {
        assert_eq!(self.states[stage], State::Ready, "only a ready stage is held");
        self.leave_ready(stage);
        self.states[stage] = State::Paused;
    }

    /// Pauses a running stage until [`Self::wake`] and releases its resources.
    ///
    /// # Panics
    ///
    /// When the stage does not run.
    pub fn pause(&mut self, stage: usize) {
        assert_eq!(self.states[stage], State::Running, "only a running stage pauses");
        self.running.remove(&stage);
        self.states[stage] = State::Paused;
    }

    /// Makes a paused stage ready.
    ///
    /// # Panics
    ///
    /// When the stage is not paused.
    pub fn wake(&mut self, stage: usize) {
        assert_eq!(self.states[stage], State::Paused, "only a paused stage wakes");
        self.make_ready(stage);
    }

    /// Ends a stage that runs, is paused or is ready with a result.
    ///
    /// # Panics
    ///
    /// When the stage is in another state.
    pub fn finish(&mut self, stage: usize) {
        self.end(stage, Outcome::Succeeded);
        for child in self.children[stage].clone() {
            self.missing[child] -= 1;
            if self.missing[child] == 0 && self.states[child] == State::Waiting {
                self.make_ready(child);
                self.fresh.insert(self.urgency(child));
            }
        }
    }

    /// Fails a stage that runs or is paused. Returns the stages that cannot run any more, which are exactly its
    /// descendants that had not ended.
    ///
    /// # Panics
    ///
    /// When the stage is in another state.
    pub fn fail(&mut self, stage: usize) -> Vec<usize> {
        self.end(stage, Outcome::Failed);
        let mut cut_off: BTreeSet<usize> = self.children[stage].iter().copied().collect();
        let mut skipped = Vec::new();
        while let Some(below) = cut_off.pop_first() {
            if self.states[below] == State::Waiting {
                self.states[below] = State::Ended(Outcome::Skipped);
                skipped.push(below);
                cut_off.extend(self.children[below].iter().copied());
            }
        }
        skipped
    }

    /// Returns the time until everything has ended, if nothing fails and each stage `i` takes `left[i]` from now on.
    pub fn time_left(&self, left: &[u64]) -> u64 {
        let mut ahead = self.clone();
        for stage in 0..ahead.states.len() {
            if ahead.states[stage] == State::Paused {
                ahead.wake(stage);
            }
        }
        let mut ends: BTreeSet<(u64, usize)> = ahead.running.keys().map(|&stage| (left[stage], stage)).collect();
        let mut now = 0;
        loop {
            while let Some(Start { stage, .. }) = ahead.start_next() {
                ends.insert((now + left[stage], stage));
            }
            let Some((at, stage)) = ends.pop_first() else { return now };
            now = at;
            ahead.finish(stage);
        }
    }

    /// Returns the number of stages that have ended, and the number of all stages.
    pub fn ended(&self) -> (usize, usize) {
        let ended = self.states.iter().filter(|state| matches!(state, State::Ended(_))).count();
        (ended, self.states.len())
    }

    /// Returns the outcome of the stage, if it has ended.
    pub fn outcome(&self, stage: usize) -> Option<Outcome> {
        match self.states[stage] {
            State::Ended(outcome) => Some(outcome),
            _ => None,
        }
    }

    /// Returns the number of running stages.
    pub fn running(&self) -> usize {
        self.running.len()
    }

    /// Whether every stage has ended.
    pub fn is_done(&self) -> bool {
        self.states.iter().all(|state| matches!(state, State::Ended(_)))
    }

    fn end(&mut self, stage: usize, outcome: Outcome) {
        let state = self.states[stage];
        let began = matches!(state, State::Running | State::Paused);
        assert!(began || (state == State::Ready && outcome == Outcome::Succeeded), "a stage ends once, after it began");
        self.leave_ready(stage);
        self.running.remove(&stage);
        self.states[stage] = State::Ended(outcome);
    }

    fn make_ready(&mut self, stage: usize) {
        self.states[stage] = State::Ready;
        self.ready.insert(self.urgency(stage));
    }

    fn leave_ready(&mut self, stage: usize) {
        let urgency = self.urgency(stage);
        self.ready.remove(&urgency);
        self.fresh.remove(&urgency);
    }

    fn urgency(&self, stage: usize) -> Urgency {
        (Reverse(self.priorities[stage]), stage)
    }
}

#[cfg(test)]
#[path = "scheduler_tests.rs"]
mod tests;
