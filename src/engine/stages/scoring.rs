//! Rating of sampled completions with a reward mix.

use super::{Context, cache_error};
use crate::classifier::Classifier;
use crate::completions::{Origin, write_completions};
use crate::data::{Example, row_fields, row_texts};
use crate::encoder::Encoder;
use crate::error::{StageError, StageResult};
use crate::generation::{Draws, Sampled};
use crate::policy;
use crate::tokenizer::Tokenizer;
use orchestrate_core::digest::Digest;
use orchestrate_core::event::{Completion, FailureClass, Measurement};
use orchestrate_core::metric::Aggregate;
use orchestrate_core::recipe::spec::{ClassifierInput, Dtype, RewardSpec, Sampling};
use orchestrate_core::rewards::{
    Columns, ComponentMetric, CountTokens, EncoderError, Expenses, JudgeAccess, PolicyStats, RewardContext,
    RewardError, RewardMix, RewardMixError, RewardScore, Sample, StopCheck, TextClassifier, TextEncoder,
};
use orchestrate_core::workspace::{Assignment, COMPLETIONS, EventLog};
use std::collections::{BTreeMap, BTreeSet};
use std::error::Error;
use std::path::Path;
use std::sync::Arc;
use tch::Device;

/// Loads the reward mix of a stage with its encoders.
pub(super) fn reward_mix(
    context: &Context<'_>,
    assignment: &Assignment,
    rewards: &BTreeMap<String, RewardSpec>,
) -> StageResult<RewardMix> {
    reward_mix_without(&BTreeSet::new(), context, assignment, rewards)
}

/// Loads the reward mix of a stage without the components in `known`, whose values the stage has for all completions.
pub(super) fn reward_mix_without(
    known: &BTreeSet<String>,
    context: &Context<'_>,
    assignment: &Assignment,
    rewards: &BTreeMap<String, RewardSpec>,
) -> StageResult<RewardMix> {
    let attempt = &*context.attempt;
    let (cache, stop) = (attempt.judge_cache_dir(), context.supervisor.stop_check());
    let judges = judge_access(assignment, &cache, attempt.dir(), &stop);
    load_without(known, assignment, rewards, context.device, judges)
}

/// Loads a reward mix, inside or outside of a stage.
///
/// # Errors
/// Returns an error for an encoder or a judge that cannot be used.
pub(crate) fn load_reward_mix(
    assignment: &Assignment,
    rewards: &BTreeMap<String, RewardSpec>,
    device: Device,
    judges: JudgeAccess<'_>,
) -> StageResult<RewardMix> {
    load_without(&BTreeSet::new(), assignment, rewards, device, judges)
}

fn load_without(
    known: &BTreeSet<String>,
    assignment: &Assignment,
    rewards: &BTreeMap<String, RewardSpec>,
    device: Device,
    judges: JudgeAccess<'_>,
) -> StageResult<RewardMix> {
    let mut encoder =
        |digest: &Digest, dtype: Dtype, prompt: Option<&str>| -> Result<Box<dyn TextEncoder>, EncoderError> {
            let encoder = Encoder::load(policy::input(assignment, digest)?, device, policy::kind(dtype))?;
            let mut encoder = match prompt {
                Some(prompt) => encoder.with_prompt(prompt.to_owned())?,
                None => encoder,
            };
            if device != Device::Cpu {
                // its kernels and cuBLAS's handle need memory, which a rollout would take from them
                encoder.embed(&["warm up"])?;
            }
            Ok(Box::new(encoder))
        };
    let mut classifier =
        |digest: &Digest, dtype: Dtype, input: ClassifierInput| -> Result<Box<dyn TextClassifier>, EncoderError> {
            let dir = policy::input(assignment, digest)?;
            let mut classifier = Classifier::load(dir, input, device, policy::kind(dtype))?;
            if device != Device::Cpu {
                // as for encoders
                classifier.logits(&[("warm", "up")])?;
            }
            Ok(Box::new(classifier))
        };
    let count_tokens = || -> Result<CountTokens, EncoderError> {
        let tokenizer = policy::tokenizer(assignment)?;
        Ok(Box::new(move |text| Ok(tokenizer.encode(text)?.len())))
    };
    let file = |digest: &Digest| assignment.inputs.get(digest).cloned();
    let total = assignment.spec.work.total();
    RewardMix::without(
        known,
        rewards,
        RewardContext {
            encoder: &mut encoder,
            classifier: &mut classifier,
            count_tokens: &count_tokens,
            judges,
            file: &file,
            endpoints: &assignment.runtime.endpoints,
            total: &total,
            seed: assignment.spec.seed,
            rows: &|| Ok(row_texts(assignment)?),
            row_fields: &|| Ok(Arc::new(row_fields(assignment)?)),
        },
    )
    .map_err(|error| unbuilt(&error))
}

/// Returns the access to the judges of `assignment`. Their answers are cached in `cache` and their expenses recorded in
/// `ledgers`. `stop` ends waiting for them.
pub(crate) fn judge_access<'a>(
    assignment: &'a Assignment,
    cache: &'a Path,
    ledgers: &'a Path,
    stop: &'a StopCheck,
) -> JudgeAccess<'a> {
    let variable = &|name: &str| std::env::var(name).ok();
    JudgeAccess { servers: &assignment.runtime.judges, cache, ledgers, variable, stop }
}

/// Converts an error of the construction of a mix.
pub(crate) fn unbuilt(error: &RewardMixError) -> StageError {
    StageError::input(format!("the reward mix cannot be built: {}", with_sources(error)))
}

/// Joins the message of `error` and those of all its sources.
fn with_sources(error: &dyn Error) -> String {
    let sources = std::iter::successors(Some(error), |error| (*error).source());
    sources.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}

/// Returns the settings of draws whose completions `rewards` rate. Entropies are computed if a component reads them.
pub(super) fn draws<'a>(sampling: &'a Sampling, rewards: &BTreeMap<String, RewardSpec>) -> Draws<'a> {
    let entropies = rewards.values().any(|reward| reward.component.measure().reads_the_policy());
    Draws { sampling, entropies }
}

/// Returns the statistics of a completion's distributions, if they were kept.
pub(super) fn policy_stats(sampled: &Sampled) -> Option<PolicyStats> {
    let tokens = sampled.entropies.len();
    let mean = |numbers: &[f32]| numbers.iter().copied().map(f64::from).sum::<f64>() / tokens as f64;
    (tokens > 0).then(|| PolicyStats {
        tokens,
        mean_logprob: mean(&sampled.logprobs),
        mean_entropy: mean(&sampled.entropies),
    })
}

/// A sampled completion with its text and its example.
pub(super) struct SampledCompletion<'a> {
    pub(super) example: &'a Example,
    /// Index among the completions of the example.
    pub(super) index: usize,
    pub(super) sampled: Sampled,
    pub(super) text: String,
}

impl<'a> SampledCompletion<'a> {
    /// Decodes `sampled` up to its stop token.
    pub(super) fn new(
        example: &'a Example,
        index: usize,
        sampled: Sampled,
        tokenizer: &Tokenizer,
        stop_ids: &BTreeSet<i64>,
    ) -> Self {
        let end = sampled.ids.iter().position(|id| stop_ids.contains(id)).unwrap_or(sampled.ids.len());
        let text = tokenizer.decode(&sampled.ids[..end]);
        Self { example, index, sampled, text }
    }

    /// The number of words of the text, separated by white space.
    pub(super) fn words(&self) -> usize {
        self.text.split_whitespace().count()
    }

    pub(super) fn sample(&self) -> Sample<'_> {
        Sample {
            prompt: &self.example.prompt,
            completion: &self.text,
            reference: self.example.reference.as_deref(),
            answer: self.example.answer.as_deref(),
            index: self.index,
            policy: policy_stats(&self.sampled),
            row: Some(&self.example.id),
        }
    }

    /// Returns the record of the completion.
    pub(super) fn completion(&self, step: u64, score: &RewardScore, advantage: Option<f64>) -> Completion {
        Completion {
            step,
            row: self.example.row,
            index: self.index,
            prompt: self.example.prompt.clone(),
            completion: self.text.clone(),
            reference: self.example.reference.clone(),
            answer: self.example.answer.clone(),
            tokens: self.sampled.ids.len(),
            stop_reason: self.sampled.stop_reason,
            player: None,
            reward: score.total,
            advantage,
            parts: score.parts.clone(),
            eval: None,
        }
    }
}

/// Returns one score for each answer, in order, and warnings for the user. The scores are `None` if rating was
/// requested to stop.
pub(super) fn score(
    reward_mix: &mut RewardMix,
    answers: &[SampledCompletion<'_>],
) -> (StageResult<Option<Vec<RewardScore>>>, Vec<String>) {
    score_with(reward_mix, &mut Columns::new(), answers)
}

/// Returns the same as [`score`]. Components whose values are in `columns` are not asked; the values of the others are
/// added.
pub(super) fn score_with(
    reward_mix: &mut RewardMix,
    columns: &mut Columns,
    answers: &[SampledCompletion<'_>],
) -> (StageResult<Option<Vec<RewardScore>>>, Vec<String>) {
    let samples: Vec<Sample<'_>> = answers.iter().map(SampledCompletion::sample).collect();
    (or_stopped(reward_mix.score_with(columns, &samples).map_err(unrated)), reward_mix.warnings())
}

/// Returns `None` if rating was requested to stop.
pub(super) fn or_stopped<T>(rated: StageResult<T>) -> StageResult<Option<T>> {
    match rated {
        Err(error) if error.class == FailureClass::Interrupted => Ok(None),
        rated => rated.map(Some),
    }
}

/// Converts a component's error, which ends the stage.
pub(crate) fn unrated(RewardError { message, hint, class }: RewardError) -> StageError {
    StageError { class, message, hint }
}

/// Returns an error if more than the fraction `limit` of the `scores` lack their total. Training on the rest would be
/// biased.
pub(super) fn check_missing(
    scores: &[RewardScore],
    rewards: &BTreeMap<String, RewardSpec>,
    limit: f64,
    step: u64,
) -> StageResult<()> {
    let missing = scores.iter().filter(|score| score.total.is_none()).count();
    if missing as f64 <= limit * scores.len() as f64 {
        return Ok(());
    }
    let (name, reason) = commonest(scores, |_, weight| weight != 0.0).expect("a score without a total lacks a part");
    let count = scores.len();
    let message =
        format!("step {step}: {missing} of {count} completions have no reward, mostly because of `{name}`: {reason}");
    Err(too_much_missing(message, &rewards[name]))
}

/// Returns an error if a component lacks a value for more than the fraction `limit` of the `scores`. Its mean over the
/// rest would be biased.
pub(super) fn check_measured(
    scores: &[RewardScore],
    rewards: &BTreeMap<String, RewardSpec>,
    limit: f64,
    step: u64,
) -> StageResult<()> {
    for (name, reward) in rewards {
        let lacks = |score: &&RewardScore| score.parts.get(name).is_some_and(|part| part.missing.is_some());
        let (missing, count) = (scores.iter().filter(lacks).count(), scores.len());
        if missing as f64 <= limit * count as f64 {
            continue;
        }
        let (_, reason) = commonest(scores, |part, _| part == name).expect("a value that is missing has a reason");
        let message = format!("step {step}: {missing} of {count} completions have no `{name}`: {reason}");
        return Err(too_much_missing(message, reward));
    }
    Ok(())
}

/// Returns the component and the reason with the most missing values, among components for which `counted` (name and
/// weight) is true.
fn commonest(scores: &[RewardScore], counted: impl Fn(&str, f64) -> bool) -> Option<(&str, &str)> {
    let mut reasons: BTreeMap<(&str, &str), usize> = BTreeMap::new();
    for (name, part) in scores.iter().flat_map(|score| &score.parts) {
        if let Some(reason) = part.missing.as_ref().filter(|_| counted(name, part.weight)) {
            *reasons.entry((name, reason)).or_default() += 1;
        }
    }
    reasons.into_iter().max_by_key(|(_, count)| *count).map(|(most, _)| most)
}

/// Returns the failure of a stage in which mostly `reward` is missing.
fn too_much_missing(message: String, reward: &RewardSpec) -> StageError {
    let asks = reward.component.measure().asks_a_server();
    let class = if asks { FailureClass::JudgeUnavailable } else { FailureClass::Input };
    let hint =
        "`max_missing_fraction` sets the share that may be missing; fix the cause, then run `orchestrate resume`";
    StageError { class, message, hint: Some(hint.to_owned()) }
}

/// Writes every completion in the stage's events beside its result, if there are any. All completions of a stage have
/// the same reward components.
pub(super) fn save_completions(context: &mut Context<'_>) -> StageResult<()> {
    let log = EventLog::open(context.attempt.dir()).map_err(cache_error)?;
    let first = log.completions(..).map_err(cache_error)?.next().transpose().map_err(cache_error)?;
    let Some(first) = first else { return Ok(()) };
    let origin = Origin::of(&first);
    let components: Vec<String> = first.parts.into_keys().collect();
    let path = context.attempt.out_dir().map_err(cache_error)?.join(COMPLETIONS);
    write_completions(&path, &components, origin, log.completions(..).map_err(cache_error)?)
}

/// Returns the number and the cost of judge calls over all attempts at the stage: `judge/MODEL/calls`, `cache_hits`,
/// `prompt_tokens`, `completion_tokens` and, if the recipe has a price, `cost_usd`. They are reported but not part of
/// the result, since a cached answer costs nothing.
pub(super) fn judge_expenses(reward_mix: &RewardMix) -> BTreeMap<String, Measurement> {
    expenses(reward_mix.expenses())
}

/// Returns the expenses of judges, by name, as measurements.
pub(super) fn expenses(of_judges: BTreeMap<String, Expenses>) -> BTreeMap<String, Measurement> {
    let mut measurements = BTreeMap::new();
    for (model, expenses) in of_judges {
        let Expenses { calls, cache_hits, prompt_tokens, completion_tokens, cost_usd } = expenses;
        let counts = [
            ("calls", calls),
            ("cache_hits", cache_hits),
            ("prompt_tokens", prompt_tokens),
            ("completion_tokens", completion_tokens),
        ];
        let counts = counts.map(|(what, count)| (what, count as f64));
        for (what, value) in counts.into_iter().chain(cost_usd.map(|cost| ("cost_usd", cost))) {
            let measurement = Measurement { value, interval: None, count: None };
            measurements.insert(format!("judge/{model}/{what}"), measurement);
        }
    }
    measurements
}

/// The metrics of rating over several batches: `reward/NAME_truncated`, the number of distinct texts that a component
/// truncated at its length limit, if any, and the components' own metrics (`reward/NAME_calls`, ...). Counts are added
/// up; means, such as `reward/NAME_latency_s`, are averaged.
#[derive(Default)]
pub(super) struct RatingMetrics {
    counts: BTreeMap<String, f64>,
    means: BTreeMap<String, (f64, f64)>,
}

impl RatingMetrics {
    /// Adds the metrics of the batch that `reward_mix` scored last.
    pub(super) fn add(&mut self, reward_mix: &RewardMix) {
        for (name, count) in reward_mix.truncated() {
            *self.counts.entry(format!("{name}_truncated")).or_default() += count as f64;
        }
        for ComponentMetric { name, value, over_batches } in reward_mix.metrics() {
            let name = name.into_owned();
            match over_batches {
                Aggregate::Sum => *self.counts.entry(name).or_default() += value,
                Aggregate::Mean => {
                    let (sum, batches) = self.means.entry(name).or_default();
                    *sum += value;
                    *batches += 1.0;
                }
                Aggregate::Last => drop(self.counts.insert(name, value)),
            }
        }
    }

    /// Returns all metrics by name.
    pub(super) fn finish(self) -> BTreeMap<String, f64> {
        let means = self.means.into_iter().map(|(name, (sum, batches))| (name, sum / batches));
        self.counts.into_iter().chain(means).map(|(name, value)| (format!("reward/{name}"), value)).collect()
    }
}
