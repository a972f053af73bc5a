//! The measurements of an evaluation so far, and its results.
//!
//! Every result is a mean over questions, where a question's value is the mean over its answers. Intervals are over
//! questions, so several answers to a question do not make them too narrow.

use super::super::scoring::SampledCompletion;
use super::probes::ProbesMeasured;
use orchestrate_core::event::{Choice, Measurement};
use orchestrate_core::metric::range_of_share;
use orchestrate_core::recipe::spec::{EvalSpec, RewardSpec, total_range};
use orchestrate_core::recipe::{Training, training_of};
use orchestrate_core::rewards::RewardScore;
use orchestrate_core::slice::Slice;
use orchestrate_core::stats::{Document, Interval, maj_at, mean_interval, pass_at, perplexity_interval};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Name of the weighted sum among the components.
const TOTAL: &str = "total";

/// The measurements so far, which a resume point holds.
#[derive(Default, Serialize, Deserialize)]
pub(super) struct Measured {
    /// Number of batches done.
    pub(super) step: u64,
    /// Values of each component, by question.
    rewards: BTreeMap<String, Vec<f64>>,
    /// Number of answers for which a component was missing.
    missing: BTreeMap<String, u64>,
    /// Values of pass@k by k, by question.
    pass_at: BTreeMap<usize, Vec<f64>>,
    /// Values of maj@k by k, by question.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    maj_at: BTreeMap<usize, Vec<f64>>,
    /// Values of each number that programs and services returned, by question.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    numbers: BTreeMap<String, Vec<f64>>,
    /// What probes measured; absent without probes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) probes: Option<ProbesMeasured>,
    /// Mean number of tokens of an answer, by question.
    tokens: Vec<f64>,
    /// Mean number of words of an answer, by question.
    words: Vec<f64>,
    /// Fraction of a question's answers that reached the length limit.
    truncated: Vec<f64>,
    /// 1 if the right option is the likeliest, else 0, by question.
    likeliest: Vec<f64>,
    /// 1 if the right option is the likeliest per byte, else 0, by question.
    likeliest_per_byte: Vec<f64>,
    /// Negative log-likelihood (nats) and token count of each reference completion.
    completion_nll: Vec<(f64, u64)>,
    /// Negative log-likelihood (nats) and token count of each document.
    pub(super) text_nll: Vec<(f64, u64)>,
    /// The measurements of each slice, by expression and value.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    slices: BTreeMap<String, BTreeMap<String, Measured>>,
}

impl Measured {
    /// Adds a question to the whole and to its slices: its answers with their scores, and the likelihoods of its
    /// options.
    pub(super) fn record(
        &mut self,
        spec: &EvalSpec,
        answers: &[SampledCompletion<'_>],
        scores: &[RewardScore],
        votes: &[Option<String>],
        choice: Option<&Choice>,
    ) {
        self.record_question(spec, answers, scores, votes, choice);
        for (by, value) in answers.iter().take(1).flat_map(|answer| &answer.example.slices) {
            self.slice(by, value).record_question(spec, answers, scores, votes, choice);
        }
    }

    /// Adds the likelihoods of reference completions, each with the slices of its row.
    pub(super) fn record_completions<'a>(
        &mut self,
        completions: impl IntoIterator<Item = ((f64, u64), Option<&'a BTreeMap<String, String>>)>,
    ) {
        for (nll, slices) in completions {
            self.completion_nll.push(nll);
            for (by, value) in slices.into_iter().flatten() {
                self.slice(by, value).completion_nll.push(nll);
            }
        }
    }

    fn slice(&mut self, by: &str, value: &str) -> &mut Self {
        self.slices.entry(by.to_owned()).or_default().entry(value.to_owned()).or_default()
    }

    fn record_question(
        &mut self,
        spec: &EvalSpec,
        answers: &[SampledCompletion<'_>],
        scores: &[RewardScore],
        votes: &[Option<String>],
        choice: Option<&Choice>,
    ) {
        for name in spec.rewards.keys() {
            self.add(name, scores.iter().map(|score| score.parts.get(name).and_then(|part| part.value)));
        }
        // without weights the sum is 0 for every answer and not a result
        if spec.rewards.values().any(|reward| reward.weight != 0.0) {
            self.add(TOTAL, scores.iter().map(|score| score.total));
        }
        let right: Option<Vec<bool>> =
            scores.iter().map(|score| Some(score.parts.get(EvalSpec::CORRECTNESS)?.value? >= 1.0)).collect();
        if let Some(right) = right {
            let correct = right.iter().filter(|right| **right).count();
            for &k in &spec.pass_at {
                self.pass_at.entry(k).or_default().push(pass_at(right.len(), correct, k));
            }
            let votes: Vec<(Option<&str>, bool)> = votes.iter().map(Option::as_deref).zip(right).collect();
            for &k in &spec.maj_at {
                self.maj_at.entry(k).or_default().push(maj_at(&votes, k));
            }
        }
        self.tokens.push(mean(answers.iter().map(|answer| answer.sampled.ids.len() as f64)));
        self.words.push(mean(answers.iter().map(|answer| answer.words() as f64)));
        let truncated = answers.iter().map(|answer| f64::from(u8::from(answer.sampled.stop_reason.truncated())));
        self.truncated.push(mean(truncated));
        if let Some(choice) = choice {
            self.likeliest.push(f64::from(u8::from(choice.correct)));
            self.likeliest_per_byte.push(f64::from(u8::from(choice.correct_norm)));
        }
    }

    /// Adds the numbers of programs and services, which have a place for each of the batch's answers.
    pub(super) fn record_numbers(&mut self, numbers: &BTreeMap<String, Vec<Option<f64>>>, samples: usize) {
        for (name, values) in numbers {
            for of_question in values.chunks(samples) {
                let present: Vec<f64> = of_question.iter().copied().flatten().collect();
                if !present.is_empty() {
                    self.numbers.entry(name.clone()).or_default().push(mean(present.into_iter()));
                }
            }
        }
    }

    fn add(&mut self, name: &str, values: impl ExactSizeIterator<Item = Option<f64>>) {
        let count = values.len();
        let values: Vec<f64> = values.flatten().collect();
        if values.len() < count {
            *self.missing.entry(name.to_owned()).or_default() += (count - values.len()) as u64;
        }
        if !values.is_empty() {
            self.rewards.entry(name.to_owned()).or_default().push(mean(values.into_iter()));
        }
    }

    /// Returns every measurement by its metric's name, with a 95% interval over questions that stays within the
    /// metric's range. The metrics of slices have the names of [`Slice::metric`].
    pub(super) fn results(&self, spec: &EvalSpec, seed: u64) -> BTreeMap<String, Measurement> {
        let resamples = spec.bootstrap_resamples;
        let mut results = BTreeMap::new();
        let mut mean = |name: String, values: &[f64], range: Option<(f64, f64)>| {
            if !values.is_empty() {
                let value = values.iter().sum::<f64>() / values.len() as f64;
                let range = range.or_else(|| range_of_share(&name));
                results.insert(name, measurement(value, mean_interval(values, range, resamples, seed), values.len()));
            }
        };
        for (headline, component) in
            [("eval/accuracy", EvalSpec::CORRECTNESS), ("eval/format_valid", EvalSpec::FORMAT_VALID)]
        {
            if let Some(values) = self.rewards.get(component) {
                mean(headline.to_owned(), values, None);
            }
        }
        for (name, values) in &self.rewards {
            let range = match name.as_str() {
                TOTAL => total_range(&spec.rewards, &spec.total),
                component => spec.rewards.get(component).and_then(RewardSpec::range),
            };
            mean(format!("eval/reward/{name}"), values, range);
        }
        for (k, values) in &self.pass_at {
            mean(format!("eval/pass_at_{k}"), values, None);
        }
        for (k, values) in &self.maj_at {
            mean(format!("eval/maj_at_{k}"), values, None);
        }
        for (name, values) in &self.numbers {
            mean(format!("eval/numbers/{name}"), values, None);
        }
        mean("eval/loglikelihood_accuracy".to_owned(), &self.likeliest, None);
        mean("eval/loglikelihood_accuracy_norm".to_owned(), &self.likeliest_per_byte, None);
        mean("eval/tokens_mean".to_owned(), &self.tokens, None);
        mean("eval/words_mean".to_owned(), &self.words, None);
        mean("eval/truncated_frac".to_owned(), &self.truncated, None);
        for (name, nll) in [("eval/perplexity", &self.completion_nll), ("eval/text_perplexity", &self.text_nll)] {
            let documents: Vec<Document> = nll.iter().map(|&(nll, tokens)| Document { nll, tokens }).collect();
            if !documents.is_empty() {
                let sum: f64 = documents.iter().map(|d| d.nll).sum();
                let tokens: u64 = documents.iter().map(|d| d.tokens).sum();
                let interval = perplexity_interval(&documents, resamples, seed);
                results.insert(name.to_owned(), measurement((sum / tokens as f64).exp(), interval, nll.len()));
            }
        }
        results.extend(self.probes.as_ref().map(ProbesMeasured::results).unwrap_or_default());
        for (name, &count) in &self.missing {
            let value = Measurement { value: count as f64, interval: None, count: None };
            results.insert(format!("eval/missing/{name}"), value);
        }
        for (by, values) in &self.slices {
            for (value, measured) in values {
                let slice = Slice { by: by.clone(), value: value.clone() };
                let of_slice = measured.results(spec, seed);
                results.extend(of_slice.into_iter().map(|(name, measurement)| (slice.metric(&name), measurement)));
            }
        }
        results
    }
}

/// Returns the content of `metrics.json`: every measurement by name. Those of reward components have `training`, which
/// is whether this variant was `trained` on the component or it was `held_out`.
pub(super) fn metrics_json(spec: &EvalSpec, results: &BTreeMap<String, Measurement>) -> String {
    #[derive(Serialize)]
    struct Marked<'a> {
        #[serde(flatten)]
        measurement: &'a Measurement,
        #[serde(skip_serializing_if = "Option::is_none")]
        training: Option<&'static str>,
    }
    let marked: BTreeMap<&str, Marked<'_>> = results
        .iter()
        .map(|(name, measurement)| {
            let training = training_of(spec, name).map(Training::word);
            (name.as_str(), Marked { measurement, training })
        })
        .collect();
    serde_json::to_string_pretty(&marked).expect("measurements serialize") + "\n"
}

fn mean(values: impl ExactSizeIterator<Item = f64>) -> f64 {
    let count = values.len() as f64;
    values.sum::<f64>() / count
}

fn measurement(value: f64, interval: Option<Interval>, count: usize) -> Measurement {
    Measurement { value, interval: interval.map(|i| (i.low, i.high)), count: Some(count as u64) }
}
