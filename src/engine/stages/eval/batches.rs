//! The batches of an evaluation, and the fraction of the work in each.

use crate::data::{Example, Options, Sequence};
use orchestrate_core::recipe::spec::EvalSpec;

/// Questions of a batch for each row that is decoded at a time. New questions take the places of short answers, so few
/// rows wait for the longest.
pub(in crate::stages) const QUESTIONS_PER_ROW: usize = 4;

/// A batch of an evaluation, which is one step.
pub(super) enum Batch<'a> {
    /// Questions to answer, with the options of each if there are any.
    Questions(&'a [Example], &'a [Options]),
    /// Sequences whose likelihood is measured, and whether they are documents.
    Likelihood(&'a [Sequence], bool),
}

/// Returns the batches of a stage: questions first, then sequences whose likelihood is measured.
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

/// The approximate fractions of the stage's work in its batches. A sampled token takes about as long as two tokens that
/// are read.
pub(super) struct Shares {
    /// Work of all batches before each one, and last the work of all batches.
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

    /// Returns the fraction of the stage that is done when `share` of the batch after `step` batches is done.
    pub(super) fn of_stage(&self, step: u64, share: f64) -> f64 {
        let step = usize::try_from(step).unwrap_or(usize::MAX);
        let (Some(before), Some(after)) = (self.before.get(step), self.before.get(step + 1)) else { return 1.0 };
        (before + share * (after - before)) / self.before[self.before.len() - 1].max(1.0)
    }
}

/// Returns the tokens that are read for the likelihoods of options. A prompt is read once, with all its options.
fn option_tokens(questions: &[Example], options: &[Options]) -> f64 {
    let tokens = |(question, options): (&Example, &Options)| {
        question.prompt_ids.len() + options.ids.iter().map(Vec::len).sum::<usize>()
    };
    questions.iter().zip(options).map(tokens).sum::<usize>() as f64
}

/// Returns the work of answering, in tokens that are read, if each answer has the maximum length.
fn sampling_work(questions: &[Example], spec: &EvalSpec) -> f64 {
    let prompts: usize = questions.iter().map(|question| question.prompt_ids.len()).sum();
    let sampled = questions.len() * spec.samples_per_question * spec.sampling.max_new_tokens;
    prompts as f64 + 2.0 * sampled as f64
}

/// Returns the fraction of a batch of questions that the likelihoods of their options take.
pub(super) fn options_share(questions: &[Example], options: &[Options], spec: &EvalSpec) -> f64 {
    let options = option_tokens(questions, options);
    options / (options + sampling_work(questions, spec)).max(1.0)
}
