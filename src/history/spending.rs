//! Costs of past runs, from their logs and the events of their stages.

use crate::digest::Digest;
use crate::event::{Measurement, MemoryUse};
use crate::evidence::{Cost, JudgeCost, Spending, StageCost};
use crate::history::checkpoints::checkpoint_dir;
use crate::history::past_runs::PastRun;
use crate::history::run_log::LoggedPlan;
use crate::run_event::RunEventKind;
use crate::workspace::{EventLog, Workspace, WorkspaceError};
use std::collections::{BTreeMap, HashMap};
use std::ops::AddAssign;

/// The work of one run on one stage.
#[derive(Clone, Debug, Default)]
struct Worked {
    /// Seconds and joules of all tries.
    spent: Spending,
    /// Whether the run made the result.
    made: bool,
    /// Whether the run found the result in the cache.
    hit: bool,
    /// The memory of the largest try.
    memory: Option<MemoryUse>,
}

impl AddAssign<&Self> for Worked {
    fn add_assign(&mut self, other: &Self) {
        self.spent += &other.spent;
        self.made |= other.made;
        self.hit |= other.hit;
        self.memory = self.memory.into_iter().chain(other.memory).reduce(MemoryUse::larger);
    }
}

/// Returns the cost of `runs`. `all` are all existing runs, among them those that made the cached results.
///
/// # Errors
/// A log cannot be read.
pub fn gather_cost(workspace: &Workspace, runs: &[&PastRun], all: &[PastRun]) -> Result<Cost, WorkspaceError> {
    let mut stages: Vec<StageCost> = Vec::new();
    let mut place: HashMap<Digest, usize> = HashMap::new();
    let mut variants: Vec<(String, Vec<Digest>)> = Vec::new();
    let mut worked_here: HashMap<Digest, Vec<Worked>> = HashMap::new();
    for past in runs {
        let plan = LoggedPlan::load(&past.log_dir)?;
        for stage in &plan.stages {
            let position = *place.entry(stage.key.clone()).or_insert_with(|| {
                stages.push(StageCost {
                    stage: stage.stage.clone(),
                    kind: stage.kind,
                    key: stage.key.clone(),
                    variants: Vec::new(),
                    spent: Spending::default(),
                    hits: 0,
                    made: Spending::default(),
                    memory: None,
                });
                stages.len() - 1
            });
            let known = &mut stages[position].variants;
            known.extend(stage.variants.iter().filter(|label| !known.contains(label)).cloned().collect::<Vec<_>>());
        }
        for variant in plan.variants {
            let keys: Vec<Digest> = variant.stages.into_values().collect();
            if !variants.iter().any(|(label, known)| *label == variant.label && *known == keys) {
                variants.push((variant.label, keys));
            }
        }
        for (key, worked) in worked(past)? {
            worked_here.entry(key).or_default().push(worked);
        }
    }
    let made_elsewhere = made_elsewhere(runs, all, &worked_here)?;
    for stage in &mut stages {
        let here = worked_here.remove(&stage.key).unwrap_or_default();
        let mut in_all = Worked::default();
        for worked in &here {
            in_all += worked;
        }
        stage.hits = u32::try_from(here.iter().filter(|worked| worked.hit).count()).unwrap_or(u32::MAX);
        stage.made = recorded(workspace, &stage.key)?;
        stage.memory = in_all.memory;
        if in_all.made {
            stage.made += &in_all.spent;
            stage.spent = stage.made.clone();
        } else {
            if let Some(elsewhere) = made_elsewhere.get(&stage.key) {
                stage.made += &elsewhere.spent;
                stage.memory = stage.memory.or(elsewhere.memory);
            }
            stage.spent = in_all.spent;
        }
    }
    Ok(Cost::of(stages, &variants))
}

/// Returns the work of `past` on each of its stages.
fn worked(past: &PastRun) -> Result<HashMap<Digest, Worked>, WorkspaceError> {
    let mut found: HashMap<Digest, Worked> = HashMap::new();
    for event in past.events()? {
        let mut add = |key: Digest, more: Worked| *found.entry(key).or_default() += &more;
        let took = |seconds: f64, made: bool| {
            let spent = Spending { seconds: Some(seconds), ..Spending::default() };
            Worked { spent, made, ..Worked::default() }
        };
        match event.kind {
            RunEventKind::StageDone { key, seconds, .. } => add(key, took(seconds, true)),
            RunEventKind::StageFailed { key, seconds, .. }
            | RunEventKind::StageRetried { key, seconds, .. }
            | RunEventKind::StageStopped { key, seconds } => add(key, took(seconds, false)),
            RunEventKind::StageEnergy { key, joules } => {
                let spent = Spending { energy_j: Some(joules), ..Spending::default() };
                add(key, Worked { spent, ..Worked::default() });
            }
            RunEventKind::StageMemory { key, memory } => {
                add(key, Worked { memory: Some(memory), ..Worked::default() });
            }
            RunEventKind::StageHit { key } => add(key, Worked { hit: true, ..Worked::default() }),
            _ => {}
        }
    }
    Ok(found)
}

/// Returns the work of all other runs on the stages of `runs`, where one of them made the result.
///
/// The result is empty if `runs` had no cache hits.
fn made_elsewhere(
    runs: &[&PastRun],
    all: &[PastRun],
    here: &HashMap<Digest, Vec<Worked>>,
) -> Result<HashMap<Digest, Worked>, WorkspaceError> {
    let mut found: HashMap<Digest, Worked> = HashMap::new();
    if here.values().flatten().any(|worked| worked.hit) {
        for past in all.iter().filter(|past| !runs.iter().any(|own| own.run == past.run)) {
            for (key, worked) in worked(past)?.into_iter().filter(|(key, _)| here.contains_key(key)) {
                *found.entry(key).or_default() += &worked;
            }
        }
    }
    found.retain(|_, worked| worked.made);
    Ok(found)
}

/// Returns the costs in the events of the stage with this key; empty without a result.
fn recorded(workspace: &Workspace, key: &Digest) -> Result<Spending, WorkspaceError> {
    let directory = checkpoint_dir(workspace, key);
    if !directory.is_dir() {
        return Ok(Spending::default());
    }
    let log = EventLog::open(&directory)?;
    let mut trained: Option<f64> = None;
    for step in log.steps()? {
        // The metric counts from the beginning of the stage.
        trained = step?.metrics.get("train/tokens").copied().or(trained);
    }
    let mut sampled: Option<u64> = None;
    for completion in log.completions(..)? {
        let Ok(completion) = completion else { return Ok(Spending::default()) };
        sampled = Some(sampled.unwrap_or(0) + completion.tokens as u64);
    }
    let judges = judges(log.results());
    Ok(Spending { seconds: None, trained_tokens: trained.map(whole), sampled_tokens: sampled, energy_j: None, judges })
}

/// Collects `judge/MODEL/calls` and the related metrics. Names of models may contain slashes.
fn judges(measurements: &BTreeMap<String, Measurement>) -> BTreeMap<String, JudgeCost> {
    let mut judges: BTreeMap<String, JudgeCost> = BTreeMap::new();
    for (name, measured) in measurements {
        let Some((model, what)) = name.strip_prefix("judge/").and_then(|rest| rest.rsplit_once('/')) else { continue };
        let judge = judges.entry(model.to_owned()).or_default();
        match what {
            "calls" => judge.calls = whole(measured.value),
            "cache_hits" => judge.cache_hits = whole(measured.value),
            "prompt_tokens" => judge.prompt_tokens = whole(measured.value),
            "completion_tokens" => judge.completion_tokens = whole(measured.value),
            "cost_usd" => judge.cost_usd = Some(measured.value),
            _ => {}
        }
    }
    judges
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "counts, written as floating point")]
fn whole(count: f64) -> u64 {
    count as u64
}
