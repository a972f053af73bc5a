//! The costs of stages, and the savings by the cache.

use crate::digest::Digest;
use crate::event::MemoryUse;
use crate::stage::StageKind;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::ops::AddAssign;

/// The costs of some runs.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Cost {
    /// Every stage of the runs, in the order of the plans. A stage that several variants or runs share is listed once.
    pub stages: Vec<StageCost>,
    /// The costs of every variant.
    pub variants: Vec<VariantCost>,
    /// The spending of the runs: each stage as often as it was worked on, shared stages once.
    pub spent: Spending,
    /// The original cost of the stages that were found in the cache.
    pub saved_by_cache: Spending,
    /// The additional cost that the variants would have had if each had run its own copy of shared stages.
    pub saved_by_sharing: Spending,
}

/// The costs of one stage.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StageCost {
    /// The stage's name in the recipe.
    pub stage: String,
    /// The stage's kind.
    pub kind: StageKind,
    /// The stage's cache key.
    pub key: Digest,
    /// The labels of the variants that share the stage.
    pub variants: Vec<String>,
    /// The spending of these runs, including attempts that failed or were stopped; empty where the stage was in the
    /// cache.
    pub spent: Spending,
    /// The number of these runs that found the stage in the cache.
    pub hits: u32,
    /// The original cost of the stage's result, in whichever run made it.
    pub made: Spending,
    /// The stage's memory, in these runs or when its result was made; the largest of several attempts.
    #[serde(default)]
    pub memory: Option<MemoryUse>,
}

/// The costs of one variant.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct VariantCost {
    /// The variant's label.
    pub variant: String,
    /// The number of stages, without the arena, which all variants share.
    pub stages: usize,
    /// The number of stages that other variants need too.
    pub shared: usize,
    /// The original cost of all the variant's stages, as if it had run alone.
    pub made: Spending,
    /// The part of `made` that the variant shares with no other.
    pub own: Spending,
}

/// An amount spent. Unmeasured quantities are absent, never 0; a sum covers the measured ones.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Spending {
    /// The wall-clock time from start to end of each worker, in seconds.
    pub seconds: Option<f64>,
    /// The number of trained tokens (`cpt`, `sft`).
    pub trained_tokens: Option<u64>,
    /// The number of sampled tokens (`grpo`, `eval`).
    pub sampled_tokens: Option<u64>,
    /// The energy of the devices while workers ran on them, in joules; absent where devices do not report it.
    pub energy_j: Option<f64>,
    /// The use of judges, by the names of their models.
    pub judges: BTreeMap<String, JudgeCost>,
}

/// The use of one judge.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct JudgeCost {
    /// The number of requests sent.
    pub calls: u64,
    /// The number of answers found in the judge cache.
    pub cache_hits: u64,
    /// The number of prompt tokens.
    pub prompt_tokens: u64,
    /// The number of completion tokens.
    pub completion_tokens: u64,
    /// The cost in US dollars; absent where the recipe states no price.
    pub cost_usd: Option<f64>,
}

impl Spending {
    /// The cost of all judges in US dollars; absent where none has a price.
    pub fn cost_usd(&self) -> Option<f64> {
        self.judges.values().filter_map(|judge| judge.cost_usd).reduce(|sum, cost| sum + cost)
    }

    /// The number of requests to all judges; absent where none was asked.
    pub fn judge_calls(&self) -> Option<u64> {
        self.judges.values().map(|judge| judge.calls).reduce(|sum, calls| sum + calls)
    }

    /// Returns the spending multiplied by `count`.
    #[must_use]
    pub fn times(&self, count: u32) -> Self {
        let mut sum = Self::default();
        (0..count).for_each(|_| sum += self);
        sum
    }
}

impl AddAssign<&Self> for Spending {
    fn add_assign(&mut self, other: &Self) {
        fn add<T: Copy + std::ops::Add<Output = T>>(sum: &mut Option<T>, more: Option<T>) {
            *sum = match (*sum, more) {
                (Some(sum), Some(more)) => Some(sum + more),
                (sum, more) => sum.or(more),
            };
        }
        let Self { seconds, trained_tokens, sampled_tokens, energy_j, judges } = other;
        add(&mut self.seconds, *seconds);
        add(&mut self.trained_tokens, *trained_tokens);
        add(&mut self.sampled_tokens, *sampled_tokens);
        add(&mut self.energy_j, *energy_j);
        for (model, more) in judges {
            let JudgeCost { calls, cache_hits, prompt_tokens, completion_tokens, cost_usd } = *more;
            let judge = self.judges.entry(model.clone()).or_default();
            judge.calls += calls;
            judge.cache_hits += cache_hits;
            judge.prompt_tokens += prompt_tokens;
            judge.completion_tokens += completion_tokens;
            add(&mut judge.cost_usd, cost_usd);
        }
    }
}

impl StageCost {
    /// Whether the stage is common to all variants, so that no variant would have a copy of its own.
    fn is_of_all(&self) -> bool {
        self.kind == StageKind::Arena
    }
}

impl Cost {
    /// Sums the costs of `stages` by variant and in total. `variants` are labels with the keys of their stages.
    pub fn of(stages: Vec<StageCost>, variants: &[(String, Vec<Digest>)]) -> Self {
        let mut cost = Self::default();
        for stage in &stages {
            cost.spent += &stage.spent;
            cost.saved_by_cache += &stage.made.times(stage.hits);
            if !stage.is_of_all() {
                let others = u32::try_from(stage.variants.len().saturating_sub(1)).unwrap_or(u32::MAX);
                cost.saved_by_sharing += &stage.made.times(others);
            }
        }
        for (label, keys) in variants {
            let own_stages = || stages.iter().filter(|stage| keys.contains(&stage.key) && !stage.is_of_all());
            let mut variant = VariantCost {
                variant: label.clone(),
                stages: own_stages().count(),
                shared: own_stages().filter(|stage| stage.variants.len() > 1).count(),
                made: Spending::default(),
                own: Spending::default(),
            };
            for stage in own_stages() {
                variant.made += &stage.made;
                if stage.variants.len() <= 1 {
                    variant.own += &stage.made;
                }
            }
            cost.variants.push(variant);
        }
        cost.stages = stages;
        cost
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spending(seconds: Option<f64>) -> Spending {
        Spending { seconds, ..Spending::default() }
    }

    fn stage(name: &str, variants: &[&str], spent: Option<f64>, hits: u32, made: Option<f64>) -> StageCost {
        StageCost {
            stage: name.to_owned(),
            kind: StageKind::Sft,
            key: Digest::of(name.as_bytes()),
            variants: variants.iter().map(|&label| label.to_owned()).collect(),
            spent: spending(spent),
            hits,
            made: spending(made),
            memory: None,
        }
    }

    #[test]
    fn shared_stages_count_once_in_the_sum_and_whole_in_every_variant() {
        let stages = vec![
            stage("base", &["r/a", "r/b", "r/c"], Some(100.0), 0, Some(100.0)),
            stage("a", &["r/a"], Some(10.0), 0, Some(10.0)),
            stage("b", &["r/b"], None, 1, Some(20.0)),
            stage("c", &["r/c"], None, 0, None),
        ];
        let key = |name: &str| Digest::of(name.as_bytes());
        let variants: Vec<(String, Vec<Digest>)> =
            ["a", "b", "c"].iter().map(|name| (format!("r/{name}"), vec![key("base"), key(name)])).collect();
        let cost = Cost::of(stages, &variants);
        assert_eq!(cost.spent.seconds, Some(110.0));
        assert_eq!(cost.saved_by_cache.seconds, Some(20.0));
        assert_eq!(cost.saved_by_sharing.seconds, Some(200.0));
        let seconds: Vec<_> = cost.variants.iter().map(|one| (one.made.seconds, one.own.seconds)).collect();
        assert_eq!(seconds, [(Some(110.0), Some(10.0)), (Some(120.0), Some(20.0)), (Some(100.0), None)]);
        assert_eq!((cost.variants[0].stages, cost.variants[0].shared), (2, 1));
        assert_eq!(cost.spent.energy_j, None, "what nobody measured is not 0");
    }

    #[test]
    fn an_arena_is_nobodys_own_and_shared_with_nobody() {
        let arena = StageCost { kind: StageKind::Arena, ..stage("arena", &["r/a", "r/b"], Some(60.0), 0, Some(60.0)) };
        let own = stage("a", &["r/a"], Some(10.0), 0, Some(10.0));
        let keys = vec![own.key.clone(), arena.key.clone()];
        let cost = Cost::of(vec![own, arena], &[("r/a".to_owned(), keys)]);
        assert_eq!((cost.spent.seconds, cost.saved_by_sharing.seconds), (Some(70.0), None));
        assert_eq!((cost.variants[0].made.seconds, cost.variants[0].stages), (Some(10.0), 1));
    }

    #[test]
    fn prices_are_summed_where_they_are_stated() {
        let judge = |calls, cost_usd| JudgeCost { calls, cost_usd, ..JudgeCost::default() };
        let priced = Spending { judges: [("a".to_owned(), judge(3, Some(0.5)))].into(), ..Spending::default() };
        let free = Spending { judges: [("b".to_owned(), judge(4, None))].into(), ..Spending::default() };
        let mut sum = priced.times(2);
        sum += &free;
        assert_eq!((sum.judge_calls(), sum.cost_usd()), (Some(10), Some(1.0)));
        assert_eq!((free.judge_calls(), free.cost_usd()), (Some(4), None));
        assert_eq!((Spending::default().judge_calls(), Spending::default().times(0)), (None, Spending::default()));
    }
}
