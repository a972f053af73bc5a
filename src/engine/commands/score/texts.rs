//! Rating of the lines of a file, in batches.

use super::super::Answers;
use super::super::input::{self, Line};
use super::credit::{Credited, credits};
use super::{Mix, rewards};
use crate::error::StageResult;
use crate::stages::unrated;
use orchestrate_core::exec::{Input, ScoreRequest};
use orchestrate_core::rewards::{RewardScore, Sample};
use serde::Serialize;
use std::collections::BTreeMap;
use std::iter::Peekable;

/// Number of texts rated before their answers are written. It keeps judges and an encoder busy and uses little memory.
const BATCH: usize = 64;

/// The texts of one line.
pub(super) struct Text {
    location: String,
    prompt: String,
    completion: String,
    reference: Option<String>,
    answer: Option<String>,
}

impl Text {
    pub(super) fn new(line: &Line) -> StageResult<Self> {
        let needed = |name: &str| {
            let missing = || line.error(&format!("the line has no `{name}`"));
            line.text(name)?.map(str::to_owned).ok_or_else(|| {
                missing().hinted(
                    "a line is {\"prompt\",\"completion\"} and, where there is one, \"reference\" and \"answer\"",
                )
            })
        };
        let optional = |name: &str| line.text(name).map(|text| text.map(str::to_owned));
        Ok(Self {
            location: line.location.clone(),
            prompt: needed("prompt")?,
            completion: needed("completion")?,
            reference: optional("reference")?,
            answer: optional("answer")?,
        })
    }

    fn answers_as(&self, other: &Self) -> bool {
        (&self.prompt, &self.reference, &self.answer) == (&other.prompt, &other.reference, &other.answer)
    }

    /// Returns the sample to rate, as the first of its question.
    pub(super) fn sample(&self) -> Sample<'_> {
        Sample {
            prompt: &self.prompt,
            completion: &self.completion,
            reference: self.reference.as_deref(),
            answer: self.answer.as_deref(),
            index: 0,
            policy: None,
            row: None,
        }
    }
}

/// Returns the samples of `batch`, where adjacent texts that answer the same question are a group.
fn samples(batch: &[Text]) -> Vec<Sample<'_>> {
    let groups = batch.chunk_by(Text::answers_as);
    groups.flat_map(|group| group.iter().enumerate()).map(|(index, text)| Sample { index, ..text.sample() }).collect()
}

#[derive(Serialize)]
struct ScoreLine<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    location: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    completion: Option<&'a str>,
    total: Option<f64>,
    parts: BTreeMap<&'a str, RatedPart<'a>>,
}

#[derive(Serialize)]
struct RatedPart<'a> {
    value: Option<f64>,
    weight: f64,
    status: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    explanation: Option<&'a str>,
    #[serde(skip_serializing_if = "<[Credited]>::is_empty")]
    credit: &'a [Credited],
}

/// What is asked about each text beside its values.
#[derive(Clone, Copy)]
pub(super) struct Asked {
    pub(super) explain: bool,
    pub(super) credit: bool,
    pub(super) repeat: bool,
}

pub(super) fn run(request: &ScoreRequest, input: &Input, asked: Asked, answers: &mut Answers) -> StageResult<()> {
    let Asked { explain, credit, repeat } = asked;
    if matches!(input, Input::File(_)) {
        // errors in a file are reported before anything is loaded; stdin can be read only once
        for line in input::stream(input, "completion")? {
            Text::new(&line?)?;
        }
    }
    let rewards = rewards(&request.assignment)?;
    let mut mix = Mix::load(request, &rewards)?;
    let lines = input::stream(input, "completion")?;
    let mut lines = lines.map(|line| line.and_then(|line| Text::new(&line))).peekable();
    if lines.peek().is_none() {
        return Err(input::no_lines(input));
    }
    while lines.peek().is_some() {
        // the lines before a malformed one are still rated
        let (batch, failure) = take(&mut lines);
        let samples = samples(&batch);
        let scores = mix.reward_mix.score(&samples).map_err(unrated)?;
        mix.warn();
        let explanations = if explain { mix.reward_mix.explain(&samples) } else { Vec::new() };
        let mut credits = if credit { credits(request, &rewards, &mut mix, &batch)? } else { Vec::new() };
        credits.resize_with(batch.len(), BTreeMap::new);
        for (i, (text, score)) in batch.iter().zip(&scores).enumerate() {
            answers.line(&ScoreLine {
                location: repeat.then_some(&*text.location),
                completion: repeat.then_some(&*text.completion),
                ..answer(score, explanations.get(i), &credits[i])
            })?;
        }
        answers.flush()?;
        failure?;
    }
    Ok(())
}

/// Returns the next texts, up to a malformed line. Completions of the same question stay in one batch, since judges may
/// compare them.
fn take(lines: &mut Peekable<impl Iterator<Item = StageResult<Text>>>) -> (Vec<Text>, StageResult<()>) {
    let mut batch: Vec<Text> = Vec::with_capacity(BATCH);
    while let Some(line) = lines.next_if(|line| {
        let is_same = |text: &Text| batch.last().is_some_and(|last| last.answers_as(text));
        batch.len() < BATCH || line.as_ref().is_ok_and(is_same)
    }) {
        match line {
            Ok(text) => batch.push(text),
            Err(error) => return (batch, Err(error)),
        }
    }
    (batch, Ok(()))
}

fn answer<'a>(
    score: &'a RewardScore,
    explanations: Option<&'a BTreeMap<String, String>>,
    credits: &'a BTreeMap<String, Vec<Credited>>,
) -> ScoreLine<'a> {
    let parts = score.parts.iter().map(|(name, part)| {
        let rated = RatedPart {
            value: part.value,
            weight: part.weight,
            status: if part.value.is_some() { "ok" } else { "missing" },
            reason: part.missing.as_deref(),
            explanation: explanations.and_then(|explanations| explanations.get(name)).map(String::as_str),
            credit: credits.get(name).map_or(&[], Vec::as_slice),
        };
        (name.as_str(), rated)
    });
    ScoreLine { location: None, completion: None, total: score.total, parts: parts.collect() }
}
