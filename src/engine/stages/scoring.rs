//! Rating sampled completions with a reward mix.

use super::{Context, cache_error};
use crate::completions::write_completions;
use crate::data::Example;
use crate::encoder::Encoder;
use crate::error::{StageError, StageResult};
use crate::policy;
use crate::rollout::Sampled;
use crate::tokenizer::Tokenizer;
use orchestrate::cache::{Assignment, COMPLETIONS, EventLog};
use orchestrate::digest::Digest;
use orchestrate::event::Completion;
use orchestrate::recipe::spec::RewardSpec;
use orchestrate::rewards::{EncoderError, Rubric, Sample, Score, TextEncoder};
use std::collections::{BTreeMap, BTreeSet};
use tch::{Device, Kind};

/// The reward mix of a stage, its encoders loaded in 32 bits.
pub(super) fn rubric(
    assignment: &Assignment,
    rewards: &BTreeMap<String, RewardSpec>,
    device: Device,
) -> StageResult<Rubric> {
    let mut encoder = |digest: &Digest, prompt: Option<&str>| -> Result<Box<dyn TextEncoder>, EncoderError> {
        let encoder = Encoder::load(policy::input(assignment, digest)?, device, Kind::Float)?;
        Ok(Box::new(match prompt {
            Some(prompt) => encoder.with_prompt(prompt.to_owned())?,
            None => encoder,
        }))
    };
    Rubric::new(rewards, &mut encoder).map_err(|e| StageError::input(format!("the reward mix cannot be built: {e}")))
}

/// A sampled completion with its text and the example it answers.
pub(super) struct Answer<'a> {
    pub(super) example: &'a Example,
    /// Which of the example's completions.
    pub(super) index: usize,
    pub(super) sampled: Sampled,
    pub(super) text: String,
}

impl<'a> Answer<'a> {
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

    fn sample(&self) -> Sample<'_> {
        Sample {
            prompt: &self.example.prompt,
            completion: &self.text,
            reference: self.example.reference.as_deref(),
            answer: self.example.answer.as_deref(),
        }
    }

    /// The record of this answer.
    pub(super) fn completion(&self, step: u64, score: &Score, advantage: Option<f64>) -> Completion {
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
            reward: score.total,
            advantage,
            parts: score.parts.clone(),
        }
    }
}

/// One score an answer, in order.
pub(super) fn score(rubric: &mut Rubric, answers: &[Answer<'_>]) -> Vec<Score> {
    let samples: Vec<Sample<'_>> = answers.iter().map(Answer::sample).collect();
    rubric.score(&samples)
}

/// Writes every completion that the stage's events tell of beside its result, if there is one. All of a stage's have the
/// same reward components.
pub(super) fn save_completions(context: &mut Context<'_>) -> StageResult<()> {
    let log = EventLog::open(context.attempt.dir()).map_err(cache_error)?;
    let first = log.completions(..).map_err(cache_error)?.next().transpose().map_err(cache_error)?;
    let Some(first) = first else { return Ok(()) };
    let components: Vec<String> = first.parts.into_keys().collect();
    let path = context.attempt.out_dir().map_err(cache_error)?.join(COMPLETIONS);
    write_completions(&path, &components, log.completions(..).map_err(cache_error)?)
}

/// Of each component that cut texts at a length limit in the batch scored last, how many distinct ones:
/// `reward/NAME_truncated`.
pub(super) fn truncation_metrics(rubric: &Rubric) -> impl Iterator<Item = (String, f64)> {
    rubric.truncated().map(|(name, count)| (format!("reward/{name}_truncated"), count as f64))
}
