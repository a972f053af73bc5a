//! The rollout of a step: groups of completions for prompts in the data's order, with their rewards. Groups without
//! spread have no gradient and are kept, dropped or replaced.
//!
//! A completion's seed is derived from its prompt's position in the data order and its own index in the group. A
//! rollout therefore depends only on the policy and on its first position in that order.

use super::super::Context;
use super::super::scoring::{RatingMetrics, SampledCompletion, draws, score};
use crate::data::pools::{Pools, PromptPlace};
use crate::data::{Example, Mixture};
use crate::error::StageResult;
use crate::generation::{Request, Sampled, Stop, sample_groups};
use crate::loss::{Column, RunningStd, advantages, gdpo_advantages, has_spread, overlong_penalty};
use crate::models::Decoding;
use crate::policy::Policy;
use crate::seed;
use orchestrate_core::event::{ComponentScore, EventKind, StepPart};
use orchestrate_core::recipe::spec::{GrpoLossSpec, GrpoSpec, OverlongSpec, RewardAggregation, ZeroStd};
use orchestrate_core::rewards::{RewardMix, RewardScore};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::mpsc;
use std::time::Instant;

/// The source of rollouts: policy, prompts, and sampling settings.
pub(super) struct Source<'p, 'a> {
    policy: &'p Policy<'a>,
    examples: &'a Mixture<Example>,
    stop: Stop<'p>,
    /// The stage's seed.
    seed: u64,
    spec: &'p GrpoSpec,
}

impl<'p, 'a> Source<'p, 'a> {
    pub(super) fn new(policy: &'p Policy<'a>, examples: &'a Mixture<Example>, seed: u64, spec: &'p GrpoSpec) -> Self {
        Self { policy, examples, stop: Stop::new(&policy.tokenizer, &spec.sampling), seed, spec }
    }
}

/// Duration of a rollout's parts, in seconds. Groups are rated while others are decoded, so the sum may exceed the
/// elapsed time.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Timing {
    pub(super) prefill: f64,
    pub(super) decode: f64,
    /// Seconds spent on reading prompts, decoding, and converting tokens to text.
    pub(super) sampling: f64,
    pub(super) rating: f64,
    /// Seconds from the beginning until every group was rated.
    pub(super) rollout: f64,
}

/// The completions of one prompt, with their scores.
struct Group<'a> {
    answers: Vec<SampledCompletion<'a>>,
    scores: Vec<RewardScore>,
    /// Whether the rewards of the group differ.
    has_spread: bool,
    /// The position of the group's request in the rollout.
    request: usize,
}

/// The groups of a step.
#[derive(Default)]
pub(super) struct Rollout<'a> {
    /// Groups that take part in the update, in the order of the data.
    kept: Vec<Group<'a>>,
    /// Groups without spread, which take no part.
    discarded: Vec<Group<'a>>,
    /// Number of prompts drawn beyond `prompts_per_step`.
    resampled: usize,
    /// Number of places of the step for which no group with spread was found.
    dropped: usize,
    /// The difficulty of the prompts, with `sampler = "pools"`.
    pub(super) pools: Option<Pools>,
    /// The prompts that were drawn from pools.
    drawn: Vec<PromptPlace>,
    /// Metrics of the rating.
    rating: RatingMetrics,
    pub(super) timing: Timing,
}

impl<'a> Rollout<'a> {
    /// Samples and rates completions for the prompts from position `first` of the data's order, or of `pools`. Returns
    /// `None` if the stage was requested to stop meanwhile.
    ///
    /// # Errors
    /// Returns an error of a component that cannot be expressed as a missing value.
    pub(super) fn draw(
        context: &mut Context<'_>,
        source: &Source<'_, 'a>,
        reward_mix: &mut RewardMix,
        (first, pools): (u64, Option<Pools>),
        step: u64,
    ) -> StageResult<Option<Self>> {
        let spec = source.spec;
        let counts = || Pools::new(source.examples.counts());
        let pools = spec.pools.as_ref().map(|_| pools.unwrap_or_else(counts));
        let mut rollout = Self { pools, ..Self::default() };
        let mut budget = match spec.zero_std {
            ZeroStd::Keep | ZeroStd::Drop => 0,
            ZeroStd::Resample { max_prompts } => max_prompts,
        };
        let mut wanted = spec.prompts_per_step;
        loop {
            let from = first + rollout.prompts();
            let positions = from..from + wanted as u64;
            let Some(groups) = rollout.groups(context, source, reward_mix, positions, step)? else { return Ok(None) };
            for group in groups {
                if group.has_spread || spec.zero_std == ZeroStd::Keep {
                    rollout.kept.push(group);
                } else {
                    rollout.discarded.push(group);
                }
            }
            rollout.dropped = spec.prompts_per_step - rollout.kept.len();
            wanted = rollout.dropped.min(budget);
            if wanted == 0 {
                rollout.estimate(spec);
                return Ok(Some(rollout));
            }
            budget -= wanted;
            rollout.resampled += wanted;
        }
    }

    /// Samples and rates the groups at these positions. A separate thread rates each group as soon as its last
    /// completion has ended, while others are still decoded. Each group is its own batch, so its scores do not depend
    /// on timing.
    fn groups(
        &mut self,
        context: &mut Context<'_>,
        source: &Source<'_, 'a>,
        reward_mix: &mut RewardMix,
        positions: std::ops::Range<u64>,
        step: u64,
    ) -> StageResult<Option<Vec<Group<'a>>>> {
        let &Source { policy, ref stop, seed, spec, .. } = source;
        let started = Instant::now();
        let before = usize::try_from(self.prompts()).unwrap_or(usize::MAX);
        let chosen: Vec<&'a Example> = positions.clone().map(|position| self.prompt(source, position)).collect();
        let requests: Vec<Request<'_>> = positions
            .zip(&chosen)
            .map(|(position, example)| Request {
                prompt_ids: &example.prompt_ids,
                seeds: (0..spec.group_size)
                    .map(|i| seed::derive(seed, &["rollout", &position.to_string(), &i.to_string()]))
                    .collect(),
            })
            .collect();
        let (ended, to_rate) = mpsc::channel();
        let answers = |request: usize, group: Vec<Sampled>| -> Vec<SampledCompletion<'a>> {
            let (tokenizer, stop_ids) = (&policy.tokenizer, policy.tokenizer.stop_ids());
            let answer =
                |(index, sampled)| SampledCompletion::new(chosen[request], index, sampled, tokenizer, stop_ids);
            group.into_iter().enumerate().map(answer).collect()
        };
        let (seconds, rated) = std::thread::scope(|scope| {
            let rating = &mut self.rating;
            let rater = scope.spawn(move || rate_all(reward_mix, rating, spec, to_rate));
            let batch_size = spec.rollout_batch_size;
            let hand_over = |request, group| {
                // the receiver is gone only if rating failed, which its result reports
                let _ = ended.send((request, answers(request, group)));
            };
            let (decoder, draws) = (&policy.decoder, draws(&spec.sampling, &spec.rewards));
            // sampling is about half of a step
            let part =
                |share: f64| StepPart { step, total_steps: spec.steps, share: share / 2.0, share_of_stage: None };
            let seconds = context.until_stopped(part, |go_on| {
                sample_groups(Decoding::new, decoder, &requests, draws, stop, batch_size, hand_over, go_on)
            });
            drop(ended);
            self.timing.sampling += started.elapsed().as_secs_f64();
            (seconds, rater.join().expect("rating does not panic"))
        });
        let Some(seconds) = seconds? else { return Ok(None) };
        self.timing.prefill += seconds.prefill;
        self.timing.decode += seconds.decode;
        self.timing.rating += rated.seconds;
        self.timing.rollout += started.elapsed().as_secs_f64();
        for warning in rated.warnings {
            context.emit(&EventKind::Warning(warning))?;
        }
        let Some(mut groups) = rated.groups? else { return Ok(None) };
        groups.sort_by_key(|(request, _)| *request);
        Ok(Some(groups.into_iter().map(|(request, group)| Group { request: before + request, ..group }).collect()))
    }

    /// Returns the prompt of a position, and counts its draw from a pool.
    fn prompt(&mut self, source: &Source<'_, 'a>, position: u64) -> &'a Example {
        let &Source { examples, seed, spec, .. } = source;
        let (Some(pools), Some(spec)) = (&mut self.pools, &spec.pools) else { return examples.at(seed, position) };
        let taken: BTreeSet<PromptPlace> = self.drawn.iter().copied().collect();
        let place = pools.draw(spec, seed, (examples.set_at(seed, position), position), &taken);
        self.drawn.push(place);
        examples.item(place)
    }

    /// Adds the groups' values to the pass rates of their prompts, in the order of the draws. A value that is missing
    /// changes no estimate.
    fn estimate(&mut self, spec: &GrpoSpec) {
        let (Some(pools), Some(spec)) = (&mut self.pools, &spec.pools) else { return };
        let mut groups: Vec<&Group<'_>> = self.kept.iter().chain(&self.discarded).collect();
        groups.sort_by_key(|group| group.request);
        for (group, place) in groups.into_iter().zip(&self.drawn) {
            let value = |score: &RewardScore| match &spec.component {
                None => score.total,
                Some(name) => score.parts.get(name)?.value,
            };
            let values: Vec<f64> = group.scores.iter().filter_map(value).collect();
            if !values.is_empty() {
                pools.add(spec, *place, values.iter().sum::<f64>() / values.len() as f64);
            }
        }
    }

    /// The number of prompts drawn.
    pub(super) fn prompts(&self) -> u64 {
        (self.kept.len() + self.discarded.len()) as u64
    }

    /// The number of completions in groups that take part, which [`Rollout::advantages`] returns first.
    pub(super) fn taking_part(&self) -> usize {
        self.kept.iter().map(|group| group.answers.len()).sum()
    }

    /// Returns the rating's metrics, those of the pools, and the numbers of groups: without spread, including replaced
    /// ones; drawn beyond `prompts_per_step`; and missing from the step.
    pub(super) fn metrics(&mut self, spec: &GrpoSpec) -> BTreeMap<String, f64> {
        let flat = self.kept.iter().chain(&self.discarded).filter(|group| !group.has_spread).count();
        let counts = [
            ("grpo/zero_std_groups", flat),
            ("grpo/resampled_groups", self.resampled),
            ("grpo/dropped_groups", self.dropped),
        ];
        let mut metrics = std::mem::take(&mut self.rating).finish();
        metrics.extend(counts.map(|(name, count)| (name.to_owned(), count as f64)));
        if let (Some(pools), Some(spec)) = (&self.pools, &spec.pools) {
            metrics.extend(pools.metrics(spec));
        }
        metrics
    }

    /// Returns all completions with their scores and advantages. Those of discarded groups come last and have no
    /// advantage. `running` has the running deviations of the components, to which those of this rollout are added.
    pub(super) fn advantages(
        self,
        spec: &GrpoSpec,
        running: &mut BTreeMap<String, RunningStd>,
    ) -> (Vec<SampledCompletion<'a>>, Vec<RewardScore>, Vec<Option<f64>>) {
        let mut answers = Vec::new();
        let mut scores = Vec::new();
        for group in self.kept {
            answers.extend(group.answers);
            scores.extend(group.scores);
        }
        let mut advantages = match spec.reward_aggregation {
            RewardAggregation::SumThenNormalize => {
                let GrpoLossSpec { scale_rewards, advantage_baseline, .. } = spec.loss;
                advantages(&totals(&scores), spec.group_size, scale_rewards, advantage_baseline)
            }
            RewardAggregation::NormalizeThenSum => {
                gdpo_advantages(&columns(&scores), spec.group_size, spec.component_std, running)
            }
        };
        for group in self.discarded {
            answers.extend(group.answers);
            scores.extend(group.scores);
        }
        advantages.resize(answers.len(), None);
        (answers, scores, advantages)
    }
}

/// The result of rating.
struct Rating<'a> {
    /// The groups with the positions of their requests, in the order of rating; `None` if rating was requested to stop.
    groups: StageResult<Option<Vec<(usize, Group<'a>)>>>,
    warnings: Vec<String>,
    seconds: f64,
}

/// Rates groups in the order of arrival, until the channel closes or a group cannot be rated.
fn rate_all<'a>(
    reward_mix: &mut RewardMix,
    metrics: &mut RatingMetrics,
    spec: &GrpoSpec,
    to_rate: mpsc::Receiver<(usize, Vec<SampledCompletion<'a>>)>,
) -> Rating<'a> {
    let mut rating = Rating { groups: Ok(Some(Vec::new())), warnings: Vec::new(), seconds: 0.0 };
    for (request, answers) in to_rate {
        let started = Instant::now();
        let (scores, warnings) = score(reward_mix, &answers);
        metrics.add(reward_mix);
        rating.warnings.extend(warnings);
        rating.seconds += started.elapsed().as_secs_f64();
        match (scores, &mut rating.groups) {
            (Ok(Some(scores)), Ok(Some(groups))) => groups.push((request, Group::new(answers, scores, spec))),
            (Ok(None), groups) => {
                *groups = Ok(None);
                return rating;
            }
            (Err(error), groups) => {
                *groups = Err(error);
                return rating;
            }
            (Ok(Some(_)), _) => unreachable!("rating ends with the first error or request to stop"),
        }
    }
    rating
}

impl<'a> Group<'a> {
    /// Creates a group of rated answers, with the penalty for overlong ones as a part of their scores.
    fn new(answers: Vec<SampledCompletion<'a>>, mut scores: Vec<RewardScore>, spec: &GrpoSpec) -> Self {
        if let Some(overlong) = &spec.overlong {
            for (answer, score) in answers.iter().zip(&mut scores) {
                let tokens = answer.sampled.ids.len();
                let value = overlong_penalty(tokens, spec.sampling.max_new_tokens, overlong.buffer_tokens);
                add_part(score, OverlongSpec::PART, overlong.penalty, value);
            }
        }
        Self { has_spread: group_has_spread(&scores, spec.reward_aggregation), answers, scores, request: 0 }
    }
}

/// Adds a part to a score that is not a component of the reward mix.
fn add_part(score: &mut RewardScore, name: &str, weight: f64, value: f64) {
    score.total = score.total.map(|total| total + weight * value);
    score.parts.insert(name.to_owned(), ComponentScore { value: Some(value), weight, missing: None });
}

fn group_has_spread(scores: &[RewardScore], aggregation: RewardAggregation) -> bool {
    match aggregation {
        RewardAggregation::SumThenNormalize => has_spread(&totals(scores)),
        RewardAggregation::NormalizeThenSum => {
            let complete: Vec<RewardScore> = scores.iter().filter(|score| score.total.is_some()).cloned().collect();
            columns(&complete).iter().any(|column| column.weight != 0.0 && has_spread(&column.values))
        }
    }
}

fn totals(scores: &[RewardScore]) -> Vec<Option<f64>> {
    scores.iter().map(|score| score.total).collect()
}

/// Returns the components with a weight other than 0. A held-out component is neither normalized nor required.
fn columns(scores: &[RewardScore]) -> Vec<Column> {
    let Some(first) = scores.first() else { return Vec::new() };
    let column = |(name, part): (&String, &ComponentScore)| Column {
        name: name.clone(),
        weight: part.weight,
        values: scores.iter().map(|score| score.parts[name].value).collect(),
    };
    first.parts.iter().filter(|(_, part)| part.weight != 0.0).map(column).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use orchestrate_core::recipe::spec::ComponentStd;

    #[test]
    fn a_missing_held_out_part_changes_no_advantage() {
        let part = |value: Option<f64>, weight| ComponentScore { value, weight, missing: None };
        let rated = |held_out: Option<f64>| {
            let scores: Vec<RewardScore> = [0.0, 1.0, 3.0]
                .into_iter()
                .map(|value| {
                    let parts = [("format", part(Some(value), 1.0)), ("rouge", part(held_out, 0.0))];
                    RewardScore { total: Some(value), parts: parts.map(|(name, part)| (name.to_owned(), part)).into() }
                })
                .collect();
            gdpo_advantages(&columns(&scores), 3, ComponentStd::Group, &mut BTreeMap::new())
        };
        assert_eq!(rated(None), rated(Some(0.5)));
        assert!(rated(None).iter().all(Option::is_some), "{:?}", rated(None));
    }
}
