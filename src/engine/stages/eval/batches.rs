//! The units of work of an evaluation, and how much of it each one is.

use crate::data::{Example, Options, Sequence};
use orchestrate_core::recipe::spec::EvalSpec;

/// Questions of a batch for each row that is decoded at a time: who has a short answer makes room for the next, so that few
/// rows wait for the longest.
pub(in crate::stages) const QUESTIONS_PER_ROW: usize = 4;

/// One unit of work.
pub(super) enum Batch<'a> {
    /// Questions to answer, and the options of each if they have any.
    Questions(&'a [Example], &'a [Options]),
    /// Sequences whose likelihood is measured, and whether they are documents.
    Likelihood(&'a [Sequence], bool),
}

/// The batches of a stage: questions first, then what its likelihood is measured of.
pub(super) fn batches<'a>(
    spec: &EvalSpec,
    questions: &'a [Example],
    options: &'a [Options],
    completions: &'a [Sequence],
    documents: &'a [Sequence],
) -> Vec<Batch<'a>> {
    let questions_per_batch = (QUESTIONS_PER_ROW * spec.batch_size / spec.samples_per_question).max(1);
    questions
        .chunks(questions_per_batch)
        .zip(options.chunks(questions_per_batch).chain(std::iter::repeat(&[][..])))
        .map(|(questions, options)| Batch::Questions(questions, options))
        .chain(completions.chunks(spec.batch_size).map(|s| Batch::Likelihood(s, false)))
        .chain(documents.chunks(spec.batch_size).map(|s| Batch::Likelihood(s, true)))
        .collect()
}

/// Which shares of the stage's work its batches are, about: a token that is sampled takes as long as two that are read.
pub(super) struct Shares {
    /// Of the work of all batches before each one, and of all.
    before: Vec<f64>,
}

impl Shares {
    pub(super) fn of(batches: &[Batch<'_>], spec: &EvalSpec) -> Self {
        let work = |batch: &Batch<'_>| match batch {
            Batch::Questions(questions, options) => option_tokens(questions, options) + sampling_work(questions, spec),
            Batch::Likelihood(sequences, _) => sequences.iter().map(|sequence| sequence.ids.len() as f64).sum(),
        };
        let mut before = vec![0.0];
        for batch in batches {
            before.push(before[before.len() - 1] + work(batch));
        }
        Self { before }
    }

    /// How far the stage is when `share` of the batch after `step` batches is done.
    pub(super) fn of_stage(&self, step: u64, share: f64) -> f64 {
        let step = usize::try_from(step).unwrap_or(usize::MAX);
        let (Some(before), Some(after)) = (self.before.get(step), self.before.get(step + 1)) else { return 1.0 };
        (before + share * (after - before)) / self.before[self.before.len() - 1].max(1.0)
    }
}

/// Tokens that are read to tell the likelihoods of options: a prompt once, with all its options.
fn option_tokens(questions: &[Example], options: &[Options]) -> f64 {
    let tokens = |(question, options): (&Example, &Options)| {
        question.prompt_ids.len() + options.ids.iter().map(Vec::len).sum::<usize>()
    };
    questions.iter().zip(options).map(tokens).sum::<usize>() as f64
}

/// What answering takes, in tokens that are read, where each answer is as long as it may be.
fn sampling_work(questions: &[Example], spec: &EvalSpec) -> f64 {
    let prompts: usize = questions.iter().map(|question| question.prompt_ids.len()).sum();
    let sampled = questions.len() * spec.samples_per_question * spec.sampling.max_new_tokens;
    prompts as f64 + 2.0 * sampled as f64
}

/// The share of a batch of questions that the likelihoods of their options take.
pub(super) fn options_share(questions: &[Example], options: &[Options], spec: &EvalSpec) -> f64 {
    let options = option_tokens(questions, options);
    options / (options + sampling_work(questions, spec)).max(1.0)
}
