//! Planning of `grpo` stages.

use super::{DECODING, PlannedWork, encoders_of};
use crate::digest::Digest;
use crate::plan::memory::{MemoryEstimate, StageModel};
use crate::recipe::spec::{Component, CorrectnessSpec, Dtype, GrpoSpec, Match, RewardSpec, ZeroStd};
use serde_json::{Value, json};
use std::collections::BTreeMap;

impl PlannedWork for GrpoSpec {
    fn version(&self) -> u32 {
        let reads_letters = |reward: &RewardSpec| {
            matches!(&reward.component, Component::Correctness(CorrectnessSpec { matching: Match::Choice, .. }))
        };
        // 2: letters are read from prose more carefully
        if self.rewards.values().any(reads_letters) { 2 } else { 1 }
    }

    fn work_size(&self, _data_bytes: u64) -> f64 {
        let completions = (self.prompts_per_step * self.group_size * self.sampling.max_new_tokens) as f64;
        self.steps as f64 * completions * (1.0 + DECODING / self.updates_per_rollout.max(1) as f64)
    }

    fn memory(&self, model: &StageModel<'_>) -> Option<MemoryEstimate> {
        let Self { sampling, prompts_per_step, group_size, micro_batch_size, rollout_batch_size, .. } = self;
        let completions = prompts_per_step * group_size;
        let rows = if *rollout_batch_size == 0 { completions } else { completions.min(*rollout_batch_size) };
        let prompts_read = prompts_of(rows, *group_size).min(*prompts_per_step);
        let prompts = prompts_of(*micro_batch_size, *group_size);
        let tokens = prompts * sampling.max_prompt_tokens + micro_batch_size * sampling.max_new_tokens;
        let passes = model.supervised(tokens, &self.optimizer);
        let prefixes = model.prefixes(micro_batch_size * sampling.max_prompt_tokens);
        Some(MemoryEstimate {
            training: model.training(&self.optimizer, self.needs_reference()),
            activations: passes.activations + prefixes,
            kv_cache: model.kv_cache(sampling, rows, prompts_read),
            logits: model.logits(micro_batch_size * sampling.max_new_tokens),
            ..passes
        })
    }

    fn encoders(&self) -> Vec<(&Digest, Dtype)> {
        encoders_of(&self.rewards)
    }

    fn reads(&self) -> Value {
        json!(["grpo", self.data, self.sampling.max_prompt_tokens])
    }

    fn judge_calls(&self) -> BTreeMap<String, u64> {
        let further = match self.zero_std {
            ZeroStd::Resample { max_prompts } => max_prompts,
            ZeroStd::Keep | ZeroStd::Drop => 0,
        };
        let groups = self.steps.div_ceil(self.updates_per_rollout) * (self.prompts_per_step + further) as u64;
        let mut calls = BTreeMap::new();
        for reward in self.rewards.values() {
            let Component::Judge(judge) = &reward.component else { continue };
            for name in &judge.judges {
                *calls.entry(name.clone()).or_default() += groups * judge.requests(self.group_size as u64);
            }
        }
        calls
    }
}

/// Returns the maximum number of prompts in a micro-batch of adjacent completions, which share them. The first and the
/// last group may be incomplete. Completions that are left out of the loss make groups smaller, which this ignores.
fn prompts_of(micro_batch_size: usize, group_size: usize) -> usize {
    micro_batch_size.saturating_sub(1).div_ceil(group_size) + 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_micro_batch_has_no_more_prompts_than_groups_it_touches() {
        for (micro_batch_size, group_size) in (1..20).flat_map(|m| (2..9).map(move |g| (m, g))) {
            let touched = (0..group_size).map(|first| (first + micro_batch_size - 1) / group_size + 1).max();
            assert_eq!(Some(prompts_of(micro_batch_size, group_size)), touched, "{micro_batch_size} of {group_size}");
        }
    }
}
