//! Checks the keys of a GRPO stage that concern rewards: keys that require each other, and keys without an effect.

use crate::recipe::resolve::resolver::Resolver;
use crate::recipe::spec::{
    AdvantageBaseline, ComponentStd, OverlongSpec, PoolsSpec, RewardAggregation, ScaleRewards, Total, ZeroStd,
};
use crate::recipe::tables::stage::{GrpoTable, SamplerName, TotalName, ZeroStdName};
use crate::recipe::text::located::KeyPath;
use crate::suggestion::did_you_mean;

impl Resolver<'_> {
    pub(in crate::recipe) fn check_aggregation(&mut self, key: &KeyPath, table: &GrpoTable) {
        let normalizes_itself = table.reward_aggregation == RewardAggregation::NormalizeThenSum;
        if normalizes_itself && table.scale_rewards != ScaleRewards::Group {
            let key = key.key("scale_rewards");
            let message = format!("`{key}` has no effect with `reward_aggregation = \"normalize_then_sum\"`");
            let help = "each component is divided by its own deviation within the group, their sum by the rollout's";
            self.problem(&key, message, "no effect", help);
        }
        if normalizes_itself && table.advantage_baseline != AdvantageBaseline::Group {
            let key = key.key("advantage_baseline");
            let message = format!("`{key}` has no effect with `reward_aggregation = \"normalize_then_sum\"`");
            let help = "each component is compared with its own mean within the group";
            self.problem(&key, message, "no effect", help);
        }
        if !normalizes_itself && table.component_std != ComponentStd::Group {
            self.no_effect(&key.key("component_std"), "reward_aggregation = \"normalize_then_sum\"");
        }
        self.check_schedules(key, table);
    }

    /// Reports components that begin to count after the stage's last step.
    fn check_schedules(&mut self, key: &KeyPath, table: &GrpoTable) {
        let rewards = key.key("rewards");
        for (name, reward) in &table.rewards {
            if let Some(start) = reward.common.start_step.filter(|start| *start > table.steps) {
                let key = rewards.key(name).key("start_step");
                let message = format!("`{key}` is {start}, but the stage has {} steps", table.steps);
                self.problem(&key, message, "never counts", "`weight = 0` measures a component without rewarding it");
            }
        }
    }

    /// Returns the rule of the total, or `None` after a reported problem.
    pub(in crate::recipe) fn total(&mut self, key: &KeyPath, table: &GrpoTable) -> Option<Total> {
        if table.total != TotalName::FloorMean && !table.floor.is_empty() {
            self.no_effect(&key.key("floor"), "total = \"floor_mean\"");
        }
        if table.total != TotalName::Sum && table.reward_aggregation == RewardAggregation::NormalizeThenSum {
            let key = key.key("total");
            let message = format!("`{key}` has no effect with `reward_aggregation = \"normalize_then_sum\"`");
            self.problem(
                &key,
                message,
                "no effect",
                "normalized components can only be added: remove one of both keys",
            );
        }
        let total = match table.total {
            TotalName::Sum => Total::Sum,
            TotalName::Min => Total::Min,
            TotalName::Product => Total::Product,
            TotalName::FloorMean if table.floor.is_empty() => {
                let message = format!("`{key}.total` is `floor_mean`, which needs `floor`");
                let help = "name the components that the reward does not exceed: `floor = [\"harmlessness\"]`";
                self.problem(&key.key("total"), message, "which floor?", help);
                return None;
            }
            TotalName::FloorMean => Total::FloorMean { floor: table.floor.iter().cloned().collect() },
        };
        let known: Vec<&str> = table.rewards.keys().map(String::as_str).collect();
        for (index, name) in table.floor.iter().enumerate() {
            let at = key.key("floor").index(index);
            match table.rewards.get(name) {
                None => {
                    let message = format!("no reward component is called `{name}`");
                    self.problem(&at, message, "no such component", did_you_mean(name, "components", &known));
                }
                Some(reward) if reward.common.weight.never_counts() => {
                    let message = format!("the reward `{name}` has the weight 0, so it bounds nothing");
                    self.problem(&at, message, "does not count", "give it a weight");
                }
                Some(_) => {}
            }
        }
        Some(total)
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

    /// Returns the pools of `sampler = "pools"`. Keys of pools without them are reported.
    pub(in crate::recipe) fn pools(&mut self, key: &KeyPath, table: &GrpoTable) -> Option<PoolsSpec> {
        let numbers = [
            ("easy_share", table.easy_share),
            ("hard_share", table.hard_share),
            ("easy_threshold", table.easy_threshold),
            ("hard_threshold", table.hard_threshold),
            ("pass_rate_decay", table.pass_rate_decay),
        ];
        if table.sampler == SamplerName::Uniform {
            let named = table.pass_rate_of.as_ref().map(|_| "pass_rate_of");
            let set = numbers.iter().filter(|(_, value)| value.is_some()).map(|(name, _)| *name);
            for name in set.chain(named) {
                self.no_effect(&key.key(name), "sampler = \"pools\"");
            }
            return None;
        }
        let [easy_share, hard_share, easy_threshold, hard_threshold, decay] =
            numbers.map(|(_, value)| value.unwrap_or_default());
        if easy_share + hard_share > 1.0 {
            let message = format!("the shares of easy and hard prompts in `{key}` are {easy_share} and {hard_share}");
            let help = "their sum is at most 1; the rest of the draws is from the other prompts";
            self.problem(&key.key("hard_share"), message, "more than all draws", help);
        }
        if hard_threshold >= easy_threshold {
            let message =
                format!("`{key}.hard_threshold` is {hard_threshold}, not below `easy_threshold` ({easy_threshold})");
            let help = "a prompt is hard up to one pass rate, and easy from a higher one on";
            self.problem(&key.key("hard_threshold"), message, "no prompt is in between", help);
        }
        if let Some(unknown) = table.pass_rate_of.as_ref().filter(|name| !table.rewards.contains_key(*name)) {
            let known: Vec<&str> = table.rewards.keys().map(String::as_str).collect();
            let message = format!("`{key}.pass_rate_of` names `{unknown}`, which `{key}.rewards` does not have");
            let help = did_you_mean(unknown, "components", &known);
            self.problem(&key.key("pass_rate_of"), message, "no such component", help);
        }
        let component = table.pass_rate_of.clone();
        Some(PoolsSpec { easy_threshold, hard_threshold, easy_share, hard_share, decay, component })
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
