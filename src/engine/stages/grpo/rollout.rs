//! The rollout of a step: groups of completions for prompts in the data's order, rated, and what becomes of groups that
//! teach nothing.
//!
//! A completion's seed comes from its prompt's position in the data order and its own index in the group, so a rollout depends
//! on the policy and on where in that order it begins, and on nothing else.

use super::super::Context;
use super::super::scoring::{RatingMetrics, SampledCompletion, score};
use crate::data::{Example, Mixture};
use crate::error::StageResult;
use crate::generation::{Request, Sampled, Stop, sample_groups};
use crate::loss::{Column, advantages, gdpo_advantages, has_spread, overlong_penalty};
use crate::models::Decoding;
use crate::policy::Policy;
use crate::seed;
use orchestrate_core::event::{ComponentScore, EventKind, StepPart};
use orchestrate_core::recipe::spec::{GrpoSpec, OverlongSpec, RewardAggregation, ZeroStd};
use orchestrate_core::rewards::{RewardMix, RewardScore};
use std::collections::BTreeMap;
use std::sync::mpsc;
use std::time::Instant;

/// What rollouts are drawn from.
pub(super) struct Source<'p, 'a> {
    policy: &'p Policy<'a>,
    examples: &'a Mixture<Example>,
    stop: Stop<'p>,
    /// The stage's.
    seed: u64,
    spec: &'p GrpoSpec,
}

impl<'p, 'a> Source<'p, 'a> {
    pub(super) fn new(policy: &'p Policy<'a>, examples: &'a Mixture<Example>, seed: u64, spec: &'p GrpoSpec) -> Self {
        Self { policy, examples, stop: Stop::new(&policy.tokenizer, &spec.sampling), seed, spec }
    }
}

/// Seconds that the parts of a rollout took. A group is rated while others are decoded, so they may add up to more than passed.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Timing {
    pub(super) prefill: f64,
    pub(super) decode: f64,
    /// Reading prompts, decoding, and turning tokens into text.
    pub(super) sampling: f64,
    pub(super) rating: f64,
    /// From the beginning until every group was rated.
    pub(super) rollout: f64,
}

/// The completions of one prompt.
struct Group<'a> {
    answers: Vec<SampledCompletion<'a>>,
    scores: Vec<RewardScore>,
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
    /// What rating took.
    rating: RatingMetrics,
    pub(super) timing: Timing,
}

impl<'a> Rollout<'a> {
    /// Samples and rates completions for the prompts from `first` on, counted in the data's order.
    ///
    /// Nothing when the stage was asked to stop meanwhile.
    ///
    /// # Errors
    /// What no component can say as a missing value.
    pub(super) fn draw(
        context: &mut Context<'_>,
        source: &Source<'_, 'a>,
        reward_mix: &mut RewardMix,
        first: u64,
        step: u64,
    ) -> StageResult<Option<Self>> {
        let spec = source.spec;
        let mut rollout = Self::default();
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
                return Ok(Some(rollout));
            }
            budget -= wanted;
            rollout.resampled += wanted;
        }
    }

    /// The groups at these positions. A group is rated as soon as its last completion has ended, on a thread of its own, while
    /// the others are still decoded: each group is a batch by itself, so its scores depend on no timing.
    fn groups(
        &mut self,
        context: &mut Context<'_>,
        source: &Source<'_, 'a>,
        reward_mix: &mut RewardMix,
        positions: std::ops::Range<u64>,
        step: u64,
    ) -> StageResult<Option<Vec<Group<'a>>>> {
        let &Source { policy, examples, ref stop, seed, spec } = source;
        let started = Instant::now();
        let chosen: Vec<&'a Example> = positions.clone().map(|position| examples.at(seed, position)).collect();
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
                // the rater ends early only when it failed, which its result tells
                let _ = ended.send((request, answers(request, group)));
            };
            let (decoder, sampling) = (&policy.decoder, &spec.sampling);
            // sampling is about half of a step
            let part =
                |share: f64| StepPart { step, total_steps: spec.steps, share: share / 2.0, share_of_stage: None };
            let seconds = context.until_stopped(part, |go_on| {
                sample_groups(Decoding::new, decoder, &requests, sampling, stop, batch_size, hand_over, go_on)
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
        Ok(Some(groups.into_iter().map(|(_, group)| group).collect()))
    }

    /// Prompts drawn.
    pub(super) fn prompts(&self) -> u64 {
        (self.kept.len() + self.discarded.len()) as u64
    }

    /// Completions of the groups that take part, which [`Rollout::advantages`] puts first.
    pub(super) fn taking_part(&self) -> usize {
        self.kept.iter().map(|group| group.answers.len()).sum()
    }

    /// Counts of groups: without spread, those that were replaced included; drawn beyond the step's share; and places of
    /// the step that stayed empty.
    pub(super) fn metrics(&mut self) -> BTreeMap<String, f64> {
        let flat = self.kept.iter().chain(&self.discarded).filter(|group| !group.has_spread).count();
        let counts = [
            ("grpo/zero_std_groups", flat),
            ("grpo/resampled_groups", self.resampled),
            ("grpo/dropped_groups", self.dropped),
        ];
        let mut metrics = std::mem::take(&mut self.rating).finish();
        metrics.extend(counts.map(|(name, count)| (name.to_owned(), count as f64)));
        metrics
    }

    /// All completions with their scores and advantages; those of discarded groups come last and have no advantage.
    pub(super) fn advantages(
        self,
        spec: &GrpoSpec,
    ) -> (Vec<SampledCompletion<'a>>, Vec<RewardScore>, Vec<Option<f64>>) {
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

/// What came of rating.
struct Rating<'a> {
    /// With their requests' positions, in the order they were rated; nothing when rating was asked to stop.
    groups: StageResult<Option<Vec<(usize, Group<'a>)>>>,
    warnings: Vec<String>,
    seconds: f64,
}

/// Rates groups in the order they come, until no more come or one cannot be rated.
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
    /// Rated answers, with the penalty of those that are too long among their parts.
    fn new(answers: Vec<SampledCompletion<'a>>, mut scores: Vec<RewardScore>, spec: &GrpoSpec) -> Self {
        if let Some(overlong) = &spec.overlong {
            for (answer, score) in answers.iter().zip(&mut scores) {
                let tokens = answer.sampled.ids.len();
                let value = overlong_penalty(tokens, spec.sampling.max_new_tokens, overlong.buffer_tokens);
                add_part(score, OverlongSpec::PART, overlong.penalty, value);
            }
        }
        Self { has_spread: group_has_spread(&scores, spec.reward_aggregation), answers, scores }
    }
}

/// Adds a part that the reward mix knows nothing of.
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

/// The components that have a weight; a held-out one is neither normalized nor needed.
fn columns(scores: &[RewardScore]) -> Vec<Column> {
    let Some(first) = scores.first() else { return Vec::new() };
    let column = |(name, part): (&String, &ComponentScore)| Column {
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
        let part = |value: Option<f64>, weight| ComponentScore { value, weight, missing: None };
        let rated = |held_out: Option<f64>| {
            let scores: Vec<RewardScore> = [0.0, 1.0, 3.0]
                .into_iter()
                .map(|value| {
                    let parts = [("format", part(Some(value), 1.0)), ("rouge", part(held_out, 0.0))];
                    RewardScore { total: Some(value), parts: parts.map(|(name, part)| (name.to_owned(), part)).into() }
                })
                .collect();
            gdpo_advantages(&columns(&scores), 3)
        };
        assert_eq!(rated(None), rated(Some(0.5)));
        assert!(rated(None).iter().all(Option::is_some), "{:?}", rated(None));
    }
}
