//! The questions of an arena and the models' answers.

use super::super::Context;
use super::super::scoring::SampledCompletion;
use crate::data::{self, Example};
use crate::error::{StageError, StageResult};
use crate::generation::{Request, Sampled, Stop, sample_while};
use crate::policy::{self, Policy};
use crate::seed;
use crate::tokenizer::Tokenizer;
use orchestrate_core::arena::{Answers, ArenaQuestion};
use orchestrate_core::digest::Digest;
use orchestrate_core::event::StepPart;
use orchestrate_core::exec::DataReport;
use orchestrate_core::recipe::spec::{ArenaSpec, PlayerModel};
use orchestrate_core::rewards::RewardScore;
use orchestrate_core::workspace::Assignment;
use serde::{Deserialize, Serialize};
use serde_json::json;

/// A model's answer to a question.
#[derive(Serialize, Deserialize)]
pub(super) struct Answered {
    pub(super) text: String,
    tokens: usize,
    truncated: bool,
    /// Similarity by each encoder that judges, in the order of the recipe's judges, or the reason why it is missing.
    pub(super) measures: Vec<Result<f64, String>>,
}

impl Answered {
    pub(super) fn new(answer: &SampledCompletion<'_>, score: &RewardScore) -> Self {
        let measure = |part: &orchestrate_core::event::ComponentScore| {
            part.value.map(rounded).ok_or_else(|| part.missing.clone().unwrap_or_default())
        };
        Self {
            text: answer.text.clone(),
            tokens: answer.sampled.ids.len(),
            truncated: answer.sampled.stop_reason.truncated(),
            measures: score.parts.values().map(measure).collect(),
        }
    }
}

/// Rounds to six decimals, about the precision of 32-bit cosines. Such a number has the same bits when read from a
/// resume point.
fn rounded(value: f64) -> f64 {
    (value * 1e6).round() / 1e6
}

/// Returns the statistics of a model's answers.
pub(super) fn counted(answers: &[Answered]) -> Answers {
    Answers {
        count: answers.len(),
        empty: answers.iter().filter(|answer| answer.text.trim().is_empty()).count(),
        truncated: answers.iter().filter(|answer| answer.truncated).count(),
        tokens: answers.iter().map(|answer| answer.tokens).sum(),
    }
}

/// Settings that determine the tokens of a model's prompts: the digest of its files, and its chat template.
type Tokenization = (Digest, Option<String>);

/// The questions, tokenized for each model.
pub(super) struct Questions {
    /// Digest, row and slices of each question.
    pub(super) named: Vec<ArenaQuestion>,
    pub(super) report: DataReport,
    cut: Vec<Cut>,
}

/// The questions as tokenized by one tokenizer.
pub(super) struct Cut {
    tokenization: Tokenization,
    pub(super) tokenizer: Tokenizer,
    pub(super) questions: Vec<Example>,
}

impl Questions {
    /// Reads the questions for every model before any model answers. A prompt that is too long for one model is
    /// reported at once.
    pub(super) fn read(assignment: &Assignment, spec: &ArenaSpec) -> StageResult<Self> {
        let slices = data::slices(&spec.data, &spec.by, &assignment.inputs)?;
        let mut cut: Vec<Cut> = Vec::new();
        let mut report = None;
        for model in spec.models() {
            let tokenization = tokenization(model);
            if cut.iter().any(|known| known.tokenization == tokenization) {
                continue;
            }
            let own = policy::of_player(assignment, model)?;
            let tokenizer = policy::tokenizer(&own)?;
            let limit = spec.sampling.max_prompt_tokens;
            let mut all = data::prompts(&spec.data, &assignment.inputs, &tokenizer, limit)?;
            for (question, slices) in all.iter_mut().zip(&slices) {
                question.slices.clone_from(slices);
            }
            let questions = chosen(all, spec.questions);
            report.get_or_insert_with(|| data::of_prompts(&spec.data, &assignment.inputs, &questions, &tokenizer));
            cut.push(Cut { tokenization, tokenizer, questions });
        }
        let first = cut.first().map_or(&[][..], |first| &first.questions);
        let named: Vec<ArenaQuestion> = first.iter().map(named).collect();
        let report = report.filter(|_| !named.is_empty()).ok_or_else(|| {
            StageError::input("the arena's data set has no questions")
                .hinted("`split` and `eval_fraction` say which rows are read")
        })?;
        if cut.iter().skip(1).any(|other| !other.questions.iter().map(self::named).eq(named.iter().cloned())) {
            return Err(StageError::input("the tokenizers of the arena's models read different questions"));
        }
        Ok(Self { named, report, cut })
    }

    pub(super) fn count(&self) -> usize {
        self.named.len()
    }

    /// Returns the questions as tokenized for `model`.
    pub(super) fn of(&self, model: &PlayerModel) -> &Cut {
        let tokenization = tokenization(model);
        let found = self.cut.iter().find(|known| known.tokenization == tokenization);
        found.expect("the questions are read for every model")
    }

    /// Returns the texts of a question, which are the same for all models.
    pub(super) fn example(&self, question: usize) -> &Example {
        &self.cut[0].questions[question]
    }
}

fn tokenization(model: &PlayerModel) -> Tokenization {
    (model.model.files.clone(), model.model.chat_template.clone())
}

pub(super) fn named(example: &Example) -> ArenaQuestion {
    let Example { prompt, reference, answer, row, slices, .. } = example;
    let content = json!([prompt, reference, answer]).to_string();
    ArenaQuestion { digest: Digest::of(content.as_bytes()).to_string(), row: *row, slices: slices.clone() }
}

/// Returns the `count` questions with the smallest digests, in the order of the data set. Added or moved rows change
/// few of them.
fn chosen(all: Vec<Example>, count: Option<usize>) -> Vec<Example> {
    let Some(count) = count else { return all };
    let mut by_digest: Vec<(String, usize)> =
        all.iter().enumerate().map(|(at, example)| (named(example).digest, at)).collect();
    by_digest.sort();
    by_digest.truncate(count);
    let kept: std::collections::BTreeSet<usize> = by_digest.into_iter().map(|(_, at)| at).collect();
    all.into_iter().enumerate().filter(|(at, _)| kept.contains(at)).map(|(_, example)| example).collect()
}

/// Samples a model's answers. `part` converts the fraction that is done into the part of the step. Returns `None` if
/// the stage should stop. All models use the same seed for a question.
pub(super) fn answer(
    context: &mut Context<'_>,
    policy: &Policy<'_>,
    questions: &[Example],
    spec: &ArenaSpec,
    seed: u64,
    part: impl Fn(f64) -> StepPart,
) -> StageResult<Option<Vec<Sampled>>> {
    let requests: Vec<Request<'_>> = questions
        .iter()
        .map(|q| Request { prompt_ids: &q.prompt_ids, seeds: vec![seed::derive(seed, &["arena", &q.row.to_string()])] })
        .collect();
    let stop = Stop::new(&policy.tokenizer, &spec.sampling);
    context.until_stopped(part, |go_on| {
        sample_while(&policy.decoder, &requests, &spec.sampling, &stop, spec.batch_size, go_on)
    })
}
