//! Prompts drawn by their difficulty: from a pool of easy ones, one of hard ones, and one of all others.
//!
//! A group whose completions all succeed, or all fail, has no advantage and teaches nothing (DAPO, arXiv:2503.14476,
//! section 3.2). So prompts that are solved already, or that the policy cannot solve yet, are drawn less often, as by
//! the difficulty pools of prime-rl. A prompt's pass rate is an exponential average of its groups' mean values. Prompts
//! without an estimate are in the normal pool.
//!
//! A position of the data's order draws the pool at random, from a seed that is derived from the stage's seed and the
//! position, and then the prompt of the pool whose last draw is the oldest. Those that were never drawn come first, in
//! an order of the stage's seed. An empty pool is replaced by another. The data sets of a mixture keep their weights,
//! and each has pools of its own.
//!
//! The estimates are state: they are part of a resume point.

use super::order::mix;
use crate::seed;
use orchestrate_core::recipe::spec::PoolsSpec;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// A prompt: the index of its data set in the mixture, and its own in the data set.
pub type PromptPlace = (usize, usize);

/// The pool of a prompt.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Pool {
    /// The pass rate is at least `easy_threshold`.
    Easy,
    /// The pass rate is between the thresholds, or unknown.
    Normal,
    /// The pass rate is at most `hard_threshold`.
    Hard,
}

/// What is known about a prompt.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct PromptRecord {
    /// The number of times that the prompt was drawn.
    pub draws: u32,
    /// The position of the last draw, from 1 on; 0 before the first.
    pub last: u64,
    /// The estimated pass rate; absent until a group has a value. A 32-bit number survives a JSON file unchanged.
    pub pass_rate: Option<f32>,
}

impl PromptRecord {
    /// The pool that the prompt is in.
    pub fn pool(&self, spec: &PoolsSpec) -> Pool {
        match self.pass_rate.map(f64::from) {
            Some(rate) if rate >= spec.easy_threshold => Pool::Easy,
            Some(rate) if rate <= spec.hard_threshold => Pool::Hard,
            _ => Pool::Normal,
        }
    }
}

/// The records of all prompts.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Pools {
    /// The records by data set and prompt.
    records: Vec<Vec<PromptRecord>>,
}

impl Pools {
    /// Creates the pools of data sets with these numbers of prompts, none of which was drawn.
    pub fn new(prompts: impl Iterator<Item = usize>) -> Self {
        Self { records: prompts.map(|count| vec![PromptRecord::default(); count]).collect() }
    }

    /// The records by data set and prompt.
    pub fn records(&self) -> &[Vec<PromptRecord>] {
        &self.records
    }

    /// Draws the prompt of `position` from the data set `set`, and counts the draw. A prompt that is in `taken` is
    /// drawn again only if all are.
    pub fn draw(
        &mut self,
        spec: &PoolsSpec,
        seed: u64,
        (set, position): (usize, u64),
        taken: &BTreeSet<PromptPlace>,
    ) -> PromptPlace {
        let wanted = wanted(spec, seed::derive(seed, &["pool", &position.to_string()]));
        let order = seed::derive(seed, &["pools", &set.to_string()]);
        let records = &self.records[set];
        let item = [false, true]
            .into_iter()
            .flat_map(|again| {
                [wanted, Pool::Normal, Pool::Hard, Pool::Easy].map(|pool| {
                    let fits = move |item: &usize| {
                        records[*item].pool(spec) == pool && (again || !taken.contains(&(set, *item)))
                    };
                    (0..records.len()).filter(fits)
                })
            })
            .find_map(|pool| pool.min_by_key(|&item| (records[item].last, mix(order ^ item as u64), item)))
            .expect("a data set has prompts");
        let record = &mut self.records[set][item];
        record.draws += 1;
        record.last = position + 1;
        (set, item)
    }

    /// Adds the mean value of a group of the prompt's completions to its estimate.
    #[expect(clippy::cast_possible_truncation, reason = "an estimate of few digits")]
    pub fn add(&mut self, spec: &PoolsSpec, (set, item): PromptPlace, mean: f64) {
        let rate = &mut self.records[set][item].pass_rate;
        let kept = spec.decay;
        *rate = Some(rate.map_or(mean, |old| kept * f64::from(old) + (1.0 - kept) * mean) as f32);
    }

    /// Returns the sizes of the pools, the number of prompts without an estimate, and the mean of the estimates.
    pub fn metrics(&self, spec: &PoolsSpec) -> BTreeMap<String, f64> {
        let all = || self.records.iter().flatten();
        let size = |pool: Pool| all().filter(|record| record.pool(spec) == pool).count() as f64;
        let rates: Vec<f64> = all().filter_map(|record| record.pass_rate).map(f64::from).collect();
        let mut metrics = BTreeMap::from([
            ("grpo/pool_easy".to_owned(), size(Pool::Easy)),
            ("grpo/pool_normal".to_owned(), size(Pool::Normal)),
            ("grpo/pool_hard".to_owned(), size(Pool::Hard)),
            ("grpo/pool_unseen".to_owned(), (all().count() - rates.len()) as f64),
        ]);
        if !rates.is_empty() {
            metrics.insert("grpo/pass_rate".to_owned(), rates.iter().sum::<f64>() / rates.len() as f64);
        }
        metrics
    }
}

/// Returns the pool that a draw with this seed wants.
fn wanted(spec: &PoolsSpec, seed: u64) -> Pool {
    let share = (seed >> 11) as f64 / (1u64 << 53) as f64;
    if share < spec.easy_share {
        Pool::Easy
    } else if share < spec.easy_share + spec.hard_share {
        Pool::Hard
    } else {
        Pool::Normal
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::order::example_at;

    fn spec() -> PoolsSpec {
        PoolsSpec {
            easy_threshold: 0.8,
            hard_threshold: 0.2,
            easy_share: 0.1,
            hard_share: 0.1,
            decay: 0.5,
            component: None,
        }
    }

    /// Draws `count` prompts from `from` on, a step at a time, and returns them.
    fn drawn(pools: &mut Pools, seed: u64, from: u64, count: u64) -> Vec<usize> {
        let mut taken = BTreeSet::new();
        let mut draw = |position| {
            let place = pools.draw(&spec(), seed, (0, position), &taken);
            taken.insert(place);
            place.1
        };
        (from..from + count).map(&mut draw).collect()
    }

    #[test]
    fn without_estimates_every_epoch_visits_every_prompt_once_in_an_order_of_the_seed() {
        let mut pools = Pools::new([7].into_iter());
        let mut epochs: Vec<Vec<usize>> = (0..4).map(|epoch| drawn(&mut pools, 3, 7 * epoch, 7)).collect();
        let other = drawn(&mut Pools::new([7].into_iter()), 4, 0, 7);
        assert_ne!(epochs[0], other);
        for epoch in &mut epochs {
            epoch.sort_unstable();
            assert!(epoch.iter().copied().eq(0..7), "{epoch:?}");
        }
    }

    #[test]
    fn pools_have_their_shares_and_empty_ones_are_replaced() {
        let mut pools = Pools::new([300].into_iter());
        for item in 0..300 {
            pools.add(&spec(), (0, item), [1.0, 0.5, 0.0][item % 3]);
        }
        let mut counts = [0; 3];
        for step in 0..500 {
            for item in drawn(&mut pools, 1, step * 4, 4) {
                counts[item % 3] += 1;
            }
        }
        let [easy, normal, hard] = counts.map(|count| f64::from(count) / 2000.0);
        assert!((easy - 0.1).abs() < 0.03 && (hard - 0.1).abs() < 0.03 && normal > 0.75, "{counts:?}");
        // Without normal prompts the hard ones take their place, then the easy ones.
        let mut only_easy = Pools::new([3].into_iter());
        (0..3).for_each(|item| only_easy.add(&spec(), (0, item), 1.0));
        let mut found = drawn(&mut only_easy, 1, 0, 3);
        found.sort_unstable();
        assert_eq!(found, [0, 1, 2], "no prompt is drawn twice in a step while others are left");
        assert_eq!(drawn(&mut only_easy, 1, 3, 5).len(), 5, "a step may need more prompts than there are");
    }

    #[test]
    fn the_estimate_is_an_exponential_average() {
        let mut pools = Pools::new([2].into_iter());
        for mean in [1.0, 0.0, 0.5] {
            pools.add(&spec(), (0, 1), mean);
        }
        assert_eq!(pools.records()[0][1].pass_rate, Some(0.5), "((1 / 2) + 0) / 2 is 0.5, and 0.5 again");
        let metrics = pools.metrics(&spec());
        assert_eq!((metrics["grpo/pool_normal"], metrics["grpo/pool_unseen"]), (2.0, 1.0));
        assert!((metrics["grpo/pass_rate"] - 0.5).abs() < 1e-9);
    }

    #[test]
    fn draws_depend_on_state_and_position_alone_and_the_state_survives_a_file() {
        let mut whole = Pools::new([40].into_iter());
        let mut parted = whole.clone();
        let run = |pools: &mut Pools, steps: std::ops::Range<u64>| {
            steps
                .flat_map(|step| {
                    let items = drawn(pools, 9, step * 3, 3);
                    for &item in &items {
                        pools.add(&spec(), (0, item), item as f64 / 39.0 / 3.0);
                    }
                    items
                })
                .collect::<Vec<usize>>()
        };
        let all = run(&mut whole, 0..60);
        let mut parts = run(&mut parted, 0..23);
        let mut reread: Pools = serde_json::from_str(&serde_json::to_string(&parted).unwrap()).unwrap();
        assert_eq!(reread, parted);
        parts.extend(run(&mut reread, 23..60));
        assert_eq!((parts, reread), (all, whole));
    }

    /// Returns the number of groups until the mean pass rate of a simulated policy over all prompts is 0.62.
    ///
    /// A quarter of the prompts is solved and a quarter unsolvable. The others are passed in 3 of 10 tries at first, so
    /// the mean is 0.4. A group of 8 completions raises its prompt's pass rate only if the completions differ.
    fn groups_until_learnt(seed: u64, mut draw: impl FnMut(u64, &mut dyn FnMut(usize) -> f64)) -> u64 {
        const PROMPTS: usize = 80;
        let start = |item: usize| [1.0, 0.0, 0.3, 0.3][item % 4];
        let mut skill: Vec<f64> = (0..PROMPTS).map(start).collect();
        for group in 0..100_000 {
            let mut sample = |item: usize| {
                let passed = (0..8).filter(|completion: &u64| {
                    let own = seed::derive(seed, &["completion", &group.to_string(), &completion.to_string()]);
                    ((own >> 11) as f64 / (1u64 << 53) as f64) < skill[item]
                });
                let rate = passed.count() as f64 / 8.0;
                if rate > 0.0 && rate < 1.0 {
                    skill[item] = (skill[item] + 0.1).min(0.95);
                }
                rate
            };
            draw(group, &mut sample);
            if skill.iter().sum::<f64>() >= 0.62 * PROMPTS as f64 {
                return group + 1;
            }
        }
        panic!("the policy never learns");
    }

    #[test]
    fn pools_need_fewer_samples_than_the_uniform_order_where_half_of_the_prompts_teach_nothing() {
        for seed in 0..5 {
            let uniform = groups_until_learnt(seed, |group, sample| {
                sample(example_at(seed, group, 80));
            });
            let mut pools = Pools::new([80].into_iter());
            let pooled = groups_until_learnt(seed, |group, sample| {
                let place = pools.draw(&spec(), seed, (0, group), &BTreeSet::new());
                pools.add(&spec(), place, sample(place.1));
            });
            assert!(pooled * 20 < uniform * 17, "{pooled} groups with pools, {uniform} without");
        }
    }
}
