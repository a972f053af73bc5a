//! How many requests judges will get.

use crate::recipe::spec::{Component, StageSpec, Work, ZeroStd};
use std::collections::BTreeMap;

/// Requests that a `grpo` stage sends to each judge, by its name, when no two completions are equal, none is empty, and no
/// answer is kept from before; prompts that may be drawn in addition are counted. Retries are not. An evaluation's data sets
/// are not counted before they are read, so nothing is said of it.
pub fn judge_calls(spec: &StageSpec) -> BTreeMap<String, u64> {
    let Work::Grpo(grpo) = &spec.work else { return BTreeMap::new() };
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
