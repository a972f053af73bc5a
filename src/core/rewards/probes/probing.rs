//! Rating of probes with a mix.

use super::climb::climbed;
use super::neighbours::nearest;
use super::prose::{replaced, sentences};
use super::{Probe, ProbeTally, Row};
use crate::rewards::{RewardError, RewardMix, RewardScore, RewardSpec, Sample, Scope, span};
use std::collections::{BTreeMap, BTreeSet};

/// The number of rows among whose references a row's neighbour is looked for.
const NEIGHBOURS: usize = 1000;
/// The number of rows for which sentences are chosen, which takes three ratings of every candidate.
const CLIMBED_ROWS: usize = 32;
/// The number of sentences of other rows from which the climb chooses.
const CANDIDATES: usize = 32;

/// A completion whose probes are rated.
#[derive(Clone, Copy, Debug)]
pub struct Probed<'a> {
    /// The position of the row among the references of [`Probing::new`].
    pub row: usize,
    /// The seed of the row's shuffled words.
    pub seed: u64,
    /// The completion with its row.
    pub sample: Sample<'a>,
    /// The score of the completion.
    pub score: &'a RewardScore,
}

/// The rows of a data set, from which probes take other rows' references.
pub struct Probing {
    /// The first reference of each row.
    references: Vec<Option<String>>,
    /// The nearest other row of each.
    neighbours: Vec<Option<usize>>,
    /// Sentences of references, each with its row.
    candidates: Vec<(usize, String)>,
    /// The components for which sentences are chosen.
    climbing: Vec<String>,
    scopes: BTreeMap<String, Scope>,
}

impl Probing {
    /// Prepares the probes of rows with these references. The nearest row is that of the first encoder in `mix`, else
    /// the one with the most common words.
    ///
    /// # Errors
    /// Fails if the encoder fails.
    pub fn new(
        mix: &mut RewardMix,
        spec: &BTreeMap<String, RewardSpec>,
        references: &[Option<&str>],
    ) -> Result<Self, RewardError> {
        let references: Vec<Option<String>> = references.iter().map(|text| text.and_then(first_reference)).collect();
        let texts: Vec<Option<&str>> = references.iter().map(Option::as_deref).collect();
        let filled: Vec<&str> = texts.iter().copied().flatten().collect();
        let vectors = spec.keys().find_map(|name| mix.embeddings(name, &filled)).transpose()?;
        let vectors: Option<Vec<Vec<f32>>> = vectors.map(|vectors| {
            let mut vectors = vectors.into_iter();
            texts.iter().map(|text| text.and_then(|_| vectors.next()).unwrap_or_default()).collect()
        });
        let neighbours = nearest(&texts, vectors.as_deref(), NEIGHBOURS);
        let of_row = |(row, text): (usize, Option<&str>)| {
            let sentences = text.map(sentences).unwrap_or_default();
            sentences.into_iter().map(move |sentence| (row, sentence.to_owned())).collect::<Vec<_>>()
        };
        let mut seen = BTreeSet::new();
        let candidates =
            texts.iter().copied().enumerate().flat_map(of_row).filter(|(_, text)| seen.insert(text.clone()));
        let climbs = |reward: &&RewardSpec| {
            let measure = reward.component.measure();
            measure.compares_with_the_row() && !measure.asks_a_server()
        };
        Ok(Self {
            candidates: candidates.take(2 * CANDIDATES).collect(),
            climbing: spec.iter().filter(|(_, reward)| climbs(reward)).map(|(name, _)| name.clone()).collect(),
            scopes: spec.iter().map(|(name, reward)| (name.clone(), reward.scope.clone())).collect(),
            references,
            neighbours,
        })
    }

    /// Rates the probes of `completions` and adds their values to `tally`.
    ///
    /// # Errors
    /// Fails as [`RewardMix::score`] does.
    pub fn add(
        &self,
        mix: &mut RewardMix,
        completions: &[Probed<'_>],
        tally: &mut ProbeTally,
    ) -> Result<(), RewardError> {
        let texts: Vec<(Probe, Probed<'_>, String)> = completions.iter().flat_map(|one| self.texts(one)).collect();
        let samples: Vec<Sample<'_>> =
            texts.iter().map(|(_, of, text)| Sample { completion: text, ..of.sample }).collect();
        let scores = mix.score(&samples)?;
        for ((probe, of, text), score) in texts.iter().zip(&scores) {
            for (name, part) in &score.parts {
                let truth = of.score.parts.get(name).and_then(|part| part.value);
                if let Some((truth, probed)) = truth.zip(part.value)
                    && self.reads_other_text(name, of.sample.completion, text)
                {
                    tally.add(name, *probe, truth, probed);
                }
            }
            if let Some((truth, probed)) = of.score.total.zip(score.total) {
                tally.add_total(*probe, truth, probed);
            }
        }
        for one in completions.iter().filter(|one| one.row < CLIMBED_ROWS) {
            self.climb(mix, one, tally)?;
        }
        Ok(())
    }

    /// Returns the changed completions of the probes that apply.
    fn texts<'a>(&self, one: &Probed<'a>) -> Vec<(Probe, Probed<'a>, String)> {
        let Sample { prompt, completion, answer, .. } = one.sample;
        let neighbour = self.neighbours[one.row].and_then(|other| self.references[other].as_deref());
        let row = Row { prompt, completion, reference: self.references[one.row].as_deref(), answer, neighbour };
        let text = |probe: Probe| Some((probe, *one, probe.completion(&row, one.seed)?));
        Probe::ALL.into_iter().filter_map(text).collect()
    }

    fn climb(&self, mix: &mut RewardMix, one: &Probed<'_>, tally: &mut ProbeTally) -> Result<(), RewardError> {
        let own = self.references[one.row].as_deref().unwrap_or_default();
        let others =
            self.candidates.iter().filter(|(row, sentence)| *row != one.row && !own.contains(sentence.as_str()));
        let candidates: Vec<&str> = others.map(|(_, sentence)| sentence.as_str()).take(CANDIDATES).collect();
        for name in &self.climbing {
            let Some(truth) = one.score.parts.get(name).and_then(|part| part.value) else { continue };
            let rate = |texts: &[String]| {
                let texts: Vec<Option<String>> = texts.iter().map(|t| replaced(one.sample.completion, t)).collect();
                let of = |text: &Option<String>| text.as_ref().map(|_| ());
                let samples: Vec<Sample<'_>> = texts
                    .iter()
                    .map(|text| Sample { completion: text.as_deref().unwrap_or_default(), ..one.sample })
                    .collect();
                let values = mix.values(name, &samples)?;
                Ok::<_, RewardError>(values.into_iter().zip(&texts).map(|(value, text)| of(text).and(value)).collect())
            };
            let Some(text) = climbed(&candidates, rate)? else { continue };
            let Some(completion) = replaced(one.sample.completion, &text) else { continue };
            if self.reads_other_text(name, one.sample.completion, &completion) {
                let value = mix.values(name, &[Sample { completion: &completion, ..one.sample }])?[0];
                if let Some(value) = value {
                    tally.add(name, Probe::Climbed, truth, value);
                }
            }
        }
        Ok(())
    }

    /// Whether the component's scope has other text in `changed` than in `completion`.
    fn reads_other_text(&self, component: &str, completion: &str, changed: &str) -> bool {
        let scope = &self.scopes[component];
        span(completion, scope) != span(changed, scope)
    }
}

/// Returns `text`, or the first of a JSON list of texts; `None` if it is empty.
fn first_reference(text: &str) -> Option<String> {
    let first = match serde_json::from_str::<Vec<String>>(text) {
        Ok(texts) => texts.into_iter().find(|text| !text.trim().is_empty())?,
        Err(_) => text.to_owned(),
    };
    Some(first.trim().to_owned()).filter(|text| !text.is_empty())
}
