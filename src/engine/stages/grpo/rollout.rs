//! The rollout of a step: groups of completions for prompts in the data's order, rated, and what becomes of groups that
//! teach nothing.
//!
//! A completion's seed comes from its prompt's position in the data order and its own index in the group, so a rollout depends
//! on the policy and on where in that order it begins, and on nothing else.

use super::super::scoring::{Answer, score, truncation_metrics};
use crate::data::{Example, Mixture};
use crate::loss::{Column, advantages, gdpo_advantages, has_spread, overlong_penalty};
use crate::policy::Policy;
use crate::rollout::{Request, Stop, sample};
use crate::seed;
use orchestrate::event::Part;
use orchestrate::recipe::spec::{GrpoSpec, OverlongSpec, RewardAggregation, ZeroStd};
use orchestrate::rewards::{Rubric, Score};
use std::collections::BTreeMap;
use std::time::Instant;

/// What rollouts are drawn from.
pub(super) struct Source<'a> {
    policy: &'a Policy<'a>,
    examples: &'a Mixture<Example>,
    stop: Stop<'a>,
    /// The stage's.
    seed: u64,
    spec: &'a GrpoSpec,
}

impl<'a> Source<'a> {
    pub(super) fn new(policy: &'a Policy<'a>, examples: &'a Mixture<Example>, seed: u64, spec: &'a GrpoSpec) -> Self {
        Self { policy, examples, stop: Stop::new(&policy.tokenizer, &spec.sampling), seed, spec }
    }
}

/// Seconds that the parts of a rollout took.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Timing {
    pub(super) prefill_s: f64,
    pub(super) decode_s: f64,
    /// Reading prompts, decoding, and turning tokens into text.
    pub(super) rollout_s: f64,
    /// Rating.
    pub(super) reward_s: f64,
}

/// The completions of one prompt.
struct Group<'a> {
    answers: Vec<Answer<'a>>,
    scores: Vec<Score>,
    /// Whether they were rated differently.
    has_spread: bool,
}

/// The groups of a step.
#[derive(Default)]
pub(super) struct Rollout<'a> {
    /// Those that take part, in the order of the data.
    kept: Vec<Group<'a>>,
    /// Those without spread that take no part.
    discarded: Vec<Group<'a>>,
    /// Prompts drawn beyond the step's share.
    resampled: usize,
    /// Places of the step that no group with spread was found for.
    dropped: usize,
    /// Texts that reward components cut, by the metric's name.
    truncated: BTreeMap<String, f64>,
    pub(super) timing: Timing,
}

impl<'a> Rollout<'a> {
    /// Samples and rates completions for the prompts from `first` on, counted in the data's order.
    pub(super) fn draw(source: &Source<'a>, rubric: &mut Rubric, first: u64) -> Self {
        let spec = source.spec;
        let mut rollout = Self::default();
        let mut budget = match spec.zero_std {
            ZeroStd::Keep | ZeroStd::Drop => 0,
            ZeroStd::Resample { max_prompts } => max_prompts,
        };
        let mut wanted = spec.prompts_per_step;
        loop {
            let from = first + rollout.prompts();
            for group in rollout.groups(source, rubric, from..from + wanted as u64) {
                if group.has_spread || spec.zero_std == ZeroStd::Keep {
                    rollout.kept.push(group);
                } else {
                    rollout.discarded.push(group);
                }
            }
            rollout.dropped = spec.prompts_per_step - rollout.kept.len();
            wanted = rollout.dropped.min(budget);
            if wanted == 0 {
                return rollout;
            }
            budget -= wanted;
            rollout.resampled += wanted;
        }
    }

    fn groups(&mut self, source: &Source<'a>, rubric: &mut Rubric, positions: std::ops::Range<u64>) -> Vec<Group<'a>> {
        let &Source { policy, examples, ref stop, seed, spec } = source;
        let started = Instant::now();
        let chosen: Vec<&Example> = positions.clone().map(|position| examples.at(seed, position)).collect();
        let requests: Vec<Request<'_>> = positions
            .zip(&chosen)
            .map(|(position, example)| Request {
                prompt_ids: &example.prompt_ids,
                seeds: (0..spec.group_size)
                    .map(|i| seed::derive(seed, &["rollout", &position.to_string(), &i.to_string()]))
                    .collect(),
            })
            .collect();
        let stop_ids = policy.tokenizer.stop_ids();
        let sampled = sample(&policy.decoder, &requests, &spec.sampling, stop);
        let mut answers: Vec<Answer<'a>> = sampled
            .into_iter()
            .enumerate()
            .map(|(i, sampled)| {
                let (group, index) = (i / spec.group_size, i % spec.group_size);
                Answer::new(chosen[group], index, sampled, &policy.tokenizer, stop_ids)
            })
            .collect();
        self.timing.rollout_s += started.elapsed().as_secs_f64();

        let started = Instant::now();
        let mut scores = score(rubric, &answers);
        for (name, count) in truncation_metrics(rubric) {
            *self.truncated.entry(name).or_default() += count;
        }
        if let Some(overlong) = &spec.overlong {
            for (answer, score) in answers.iter().zip(&mut scores) {
                let tokens = answer.sampled.ids.len();
                let value = overlong_penalty(tokens, spec.sampling.max_new_tokens, overlong.buffer_tokens);
                add_part(score, OverlongSpec::PART, overlong.penalty, value);
            }
        }
        let mut groups = Vec::with_capacity(chosen.len());
        while !answers.is_empty() {
            let group = scores.drain(..spec.group_size).collect::<Vec<Score>>();
            groups.push(Group {
                answers: answers.drain(..spec.group_size).collect(),
                has_spread: group_has_spread(&group, spec.reward_aggregation),
                scores: group,
            });
        }
        self.timing.reward_s += started.elapsed().as_secs_f64();
        groups
    }

    /// Prompts drawn.
    pub(super) fn prompts(&self) -> u64 {
        (self.kept.len() + self.discarded.len()) as u64
    }

    /// Counts of groups: without spread, those that were replaced included; drawn beyond the step's share; and places of
    /// the step that stayed empty.
    pub(super) fn metrics(&self) -> BTreeMap<String, f64> {
        let flat = self.kept.iter().chain(&self.discarded).filter(|group| !group.has_spread).count();
        let counts = [
            ("grpo/zero_std_groups", flat),
            ("grpo/resampled_groups", self.resampled),
            ("grpo/dropped_groups", self.dropped),
        ];
        let mut metrics = self.truncated.clone();
        metrics.extend(counts.map(|(name, count)| (name.to_owned(), count as f64)));
        metrics
    }

    /// All completions with their scores and advantages; those of discarded groups come last and have no advantage.
    pub(super) fn advantages(self, spec: &GrpoSpec) -> (Vec<Answer<'a>>, Vec<Score>, Vec<Option<f64>>) {
        let mut answers = Vec::new();
        let mut scores = Vec::new();
        for group in self.kept {
            answers.extend(group.answers);
            scores.extend(group.scores);
        }
        let mut advantages = match spec.reward_aggregation {
            RewardAggregation::SumThenNormalize => {
                advantages(&totals(&scores), spec.group_size, spec.loss.scale_rewards)
            }
            RewardAggregation::NormalizeThenSum => gdpo_advantages(&columns(&scores), spec.group_size),
        };
        for group in self.discarded {
            answers.extend(group.answers);
            scores.extend(group.scores);
        }
        advantages.resize(answers.len(), None);
        (answers, scores, advantages)
    }
}

/// Adds a part that the reward mix knows nothing of.
fn add_part(score: &mut Score, name: &str, weight: f64, value: f64) {
    score.total = score.total.map(|total| total + weight * value);
    score.parts.insert(name.to_owned(), Part { value: Some(value), weight, missing: None });
}

fn group_has_spread(scores: &[Score], aggregation: RewardAggregation) -> bool {
    match aggregation {
        RewardAggregation::SumThenNormalize => has_spread(&totals(scores)),
        RewardAggregation::NormalizeThenSum => {
            let complete: Vec<Score> = scores.iter().filter(|score| score.total.is_some()).cloned().collect();
            columns(&complete).iter().any(|column| column.weight != 0.0 && has_spread(&column.values))
        }
    }
}

fn totals(scores: &[Score]) -> Vec<Option<f64>> {
    scores.iter().map(|score| score.total).collect()
}

/// The components that have a weight; a held-out one is neither normalized nor needed.
fn columns(scores: &[Score]) -> Vec<Column> {
    let Some(first) = scores.first() else { return Vec::new() };
    let column = |(name, part): (&String, &Part)| Column {
        weight: part.weight,
        values: scores.iter().map(|score| score.parts[name].value).collect(),
    };
    first.parts.iter().filter(|(_, part)| part.weight != 0.0).map(column).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_held_out_part_changes_no_advantage() {
        let part = |value: Option<f64>, weight| Part { value, weight, missing: None };
        let rated = |held_out: Option<f64>| {
            let scores: Vec<Score> = [0.0, 1.0, 3.0]
                .into_iter()
                .map(|value| {
                    let parts = [("format", part(Some(value), 1.0)), ("rouge", part(held_out, 0.0))];
                    Score { total: Some(value), parts: parts.map(|(name, part)| (name.to_owned(), part)).into() }
                })
                .collect();
            gdpo_advantages(&columns(&scores), 3)
        };
        assert_eq!(rated(None), rated(Some(0.5)));
        assert!(rated(None).iter().all(Option::is_some), "{:?}", rated(None));
    }
}
