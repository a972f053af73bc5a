//! Checks the keys of a GRPO stage that concern rewards: keys that require each other, and keys without an effect.

use crate::recipe::resolve::resolver::Resolver;
use crate::recipe::spec::{OverlongSpec, RewardAggregation, ScaleRewards, ZeroStd};
use crate::recipe::tables::stage::{GrpoTable, ZeroStdName};
use crate::recipe::text::located::KeyPath;

impl Resolver<'_> {
    pub(in crate::recipe) fn check_aggregation(&mut self, key: &KeyPath, table: &GrpoTable) {
        let normalizes_itself = table.reward_aggregation == RewardAggregation::NormalizeThenSum;
        if normalizes_itself && table.scale_rewards != ScaleRewards::Group {
            let key = key.key("scale_rewards");
            let message = format!("`{key}` has no effect with `reward_aggregation = \"normalize_then_sum\"`");
            let help = "each component is divided by its own deviation within the group, their sum by the rollout's";
            self.problem(&key, message, "no effect", help);
        }
    }

    pub(in crate::recipe) fn overlong(&mut self, key: &KeyPath, table: &GrpoTable) -> Option<OverlongSpec> {
        let Some(buffer_tokens) = table.overlong_buffer_tokens else {
            if table.overlong_penalty.is_some() {
                self.no_effect(&key.key("overlong_penalty"), "overlong_buffer_tokens");
            }
            return None;
        };
        if buffer_tokens > table.sampling.max_new_tokens {
            let message = format!(
                "`{key}.overlong_buffer_tokens` is {buffer_tokens}, more than `max_new_tokens` ({})",
                table.sampling.max_new_tokens
            );
            let help = "the penalty grows over the last tokens before the limit; a fifth of it is usual";
            self.problem(&key.key("overlong_buffer_tokens"), message, "longer than a completion", help);
        }
        if table.rewards.contains_key(OverlongSpec::PART) {
            let rewards = key.key("rewards").key(OverlongSpec::PART);
            let message = format!("`{rewards}` has the name of the length penalty");
            let help = "rename the component: `overlong_buffer_tokens` adds a part called `overlong`";
            self.problem(&rewards, message, "taken", help);
        }
        Some(OverlongSpec { buffer_tokens, penalty: table.overlong_penalty.unwrap_or_default() })
    }

    pub(in crate::recipe) fn zero_std(&mut self, key: &KeyPath, table: &GrpoTable) -> Option<ZeroStd> {
        let at = key.key("max_resampled_prompts");
        match (table.zero_std, table.max_resampled_prompts) {
            (ZeroStdName::Resample, Some(max_prompts)) => return Some(ZeroStd::Resample { max_prompts }),
            (ZeroStdName::Resample, None) => {
                let message = format!("`{key}.zero_std` is `resample`, which needs `max_resampled_prompts`");
                let help =
                    "how many further prompts a step may draw; as many as `prompts_per_step` double its work at worst";
                self.problem(&key.key("zero_std"), message, "how many at most?", help);
                return None;
            }
            (_, Some(_)) => self.no_effect(&at, "zero_std = \"resample\""),
            (_, None) => {}
        }
        Some(if matches!(table.zero_std, ZeroStdName::Drop) { ZeroStd::Drop } else { ZeroStd::Keep })
    }
}
