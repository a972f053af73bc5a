//! What stages cost, and what the cache saved.

use crate::digest::Digest;
use crate::event::MemoryUse;
use crate::stage::StageKind;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::ops::AddAssign;

/// What some runs cost.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Cost {
    /// Every stage of the runs, once, however many variants and runs share it; in the order of the plans.
    pub stages: Vec<StageCost>,
    /// Every variant.
    pub variants: Vec<VariantCost>,
    /// What the runs spent: each stage as often as it was worked on, shared ones once.
    pub spent: Spending,
    /// What the stages that were in the cache had cost when they were made.
    pub saved_by_cache: Spending,
    /// What the variants would have cost more had each run its own copy of the stages it shares with others.
    pub saved_by_sharing: Spending,
}

/// What one stage cost.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StageCost {
    /// Its name in the recipe.
    pub stage: String,
    /// Its kind.
    pub kind: StageKind,
    /// Its cache key.
    pub key: Digest,
    /// Labels of the variants that share it.
    pub variants: Vec<String>,
    /// What these runs spent on it, tries that failed or were stopped included; nothing where it was in the cache.
    pub spent: Spending,
    /// In how many of these runs it was in the cache.
    pub hits: u32,
    /// What making its result had cost, whichever run did it.
    pub made: Spending,
    /// The memory it took, in these runs or when its result was made; of several tries the largest.
    #[serde(default)]
    pub memory: Option<MemoryUse>,
}

/// What one variant cost.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct VariantCost {
    /// Its label.
    pub variant: String,
    /// Its stages but for the arena, which is of all variants.
    pub stages: usize,
    /// Those that other variants need too.
    pub shared: usize,
    /// What making all its stages had cost: as if it had run alone.
    pub made: Spending,
    /// The part of `made` that no other variant has a share in.
    pub own: Spending,
}

/// What something cost. What was not measured is absent, never 0; a sum is of what was measured.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Spending {
    /// Seconds of wall clock, from start to end of each worker.
    pub seconds: Option<f64>,
    /// Tokens that were trained on (`cpt`, `sft`).
    pub trained_tokens: Option<u64>,
    /// Tokens that were sampled (`grpo`, `eval`).
    pub sampled_tokens: Option<u64>,
    /// Joules that the devices took while workers ran on them, as far as they tell.
    pub energy_j: Option<f64>,
    /// What judges were asked, by the names of their models.
    pub judges: BTreeMap<String, JudgeCost>,
}

/// What one judge was asked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct JudgeCost {
    /// Requests that were sent.
    pub calls: u64,
    /// Answers that were on disk already.
    pub cache_hits: u64,
    /// Tokens of questions.
    pub prompt_tokens: u64,
    /// Tokens of answers.
    pub completion_tokens: u64,
    /// US dollars; absent where the recipe states no price.
    pub cost_usd: Option<f64>,
}

impl Spending {
    /// US dollars for all judges; absent where none has a price.
    pub fn cost_usd(&self) -> Option<f64> {
        self.judges.values().filter_map(|judge| judge.cost_usd).reduce(|sum, cost| sum + cost)
    }

    /// Requests to all judges; absent where none was asked.
    pub fn judge_calls(&self) -> Option<u64> {
        self.judges.values().map(|judge| judge.calls).reduce(|sum, calls| sum + calls)
    }

    /// As often.
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
    /// Whether there is one for all variants, which no variant would have for itself.
    fn is_of_all(&self) -> bool {
        self.kind == StageKind::Arena
    }
}

impl Cost {
    /// The costs of `stages`, summed up by variant and in all. `variants` are labels with the keys of their stages.
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
