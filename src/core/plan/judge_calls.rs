//! How many requests judges will get.

use crate::recipe::spec::{ArenaJudge, ArenaSpec, Component, Pairing, StageSpec, Work, ZeroStd};
use std::collections::BTreeMap;

/// Requests that a `grpo` stage or an arena sends to each judge, by its name, when no two completions are equal, none is empty, and no
/// answer is kept from before; prompts that may be drawn in addition are counted. Retries are not. An evaluation's data sets
/// are not counted before they are read, so nothing is said of it, nor of an arena that asks all questions.
pub fn judge_calls(spec: &StageSpec) -> BTreeMap<String, u64> {
    let grpo = match &spec.work {
        Work::Grpo(grpo) => grpo,
        Work::Arena(arena) => return of_arena(arena),
        Work::Cpt(_) | Work::Sft(_) | Work::Eval(_) | Work::Command(_) => return BTreeMap::new(),
    };
    let further = match grpo.zero_std {
        ZeroStd::Resample { max_prompts } => max_prompts,
        ZeroStd::Keep | ZeroStd::Drop => 0,
    };
    let groups = grpo.steps.div_ceil(grpo.updates_per_rollout) * (grpo.prompts_per_step + further) as u64;
    let mut calls = BTreeMap::new();
    for reward in grpo.rewards.values() {
        let Component::Judge(judge) = &reward.component else { continue };
        for name in &judge.judges {
            *calls.entry(name.clone()).or_default() += groups * judge.requests(grpo.group_size as u64);
        }
    }
    calls
}

/// Every pair of players in both orders on every question, or as many as the budget has.
fn of_arena(arena: &ArenaSpec) -> BTreeMap<String, u64> {
    let sizes: Vec<u64> = arena.players.iter().map(|player| player.models.len() as u64).collect();
    let all: u64 = sizes.iter().sum();
    let of_different_players = (all * all - sizes.iter().map(|size| size * size).sum::<u64>()) / 2;
    let everything = arena.questions.map(|questions| questions as u64 * of_different_players);
    let comparisons = match arena.pairing {
        Pairing::Full => everything,
        Pairing::Adaptive { max_comparisons } => {
            Some(everything.map_or(max_comparisons as u64, |all| all.min(max_comparisons as u64)))
        }
    };
    let Some(comparisons) = comparisons else { return BTreeMap::new() };
    let mut calls = BTreeMap::new();
    for judge in arena.judges.values() {
        let ArenaJudge::Models { judges, .. } = judge else { continue };
        for name in judges {
            *calls.entry(name.clone()).or_default() += 2 * comparisons;
        }
    }
    calls
}
