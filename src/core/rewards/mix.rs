//! The reward mix: the weighted sum of its components.

use super::arithmetic::{Arithmetic, Rated};
use super::components::HttpError;
use super::components::judge::{Client, Expenses, JudgeAccess, JudgeError, JudgePool};
use super::shuffle::{RowTexts, Shuffle};
use super::text::explain::looked_at;
use super::{
    ComponentMetric, CountTokens, EncoderError, HttpEndpoint, LoadClassifier, LoadEncoder, OnError, ReadRows, Reward,
    RewardError, RewardSpec, RewardValue, Sample, Scope, Total, span,
};
use crate::digest::Digest;
use crate::event::{ComponentScore, FailureClass};
use crate::metric;
use crate::program::ProgramError;
use crate::stats::mean;
use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::error::Error;
use std::path::PathBuf;
use std::sync::Arc;

/// The values of components for a batch of samples, by the component's name: for each sample a value, or the reason
/// why it is missing.
pub type Columns = BTreeMap<String, Vec<Result<f64, String>>>;

/// A reward mix that is ready to rate completions.
pub struct RewardMix {
    /// The components in alphabetical order.
    components: Vec<Named>,
    arithmetic: Arithmetic,
    judges: Vec<Arc<Client>>,
}

struct Named {
    name: String,
    spec: RewardSpec,
    /// The weight at the current step.
    weight: f64,
    asks_a_server: bool,
    /// The rows whose texts replace those of each sample; absent: samples keep their own.
    shuffle: Option<Arc<Shuffle>>,
    reward: Box<dyn Reward>,
}

/// A component whose values are known, so that it is not asked.
struct Known;

impl Reward for Known {
    fn rate(&mut self, _: &[Sample<'_>], _: &[Option<&str>]) -> Result<Vec<RewardValue>, RewardError> {
        unreachable!("the values of the component are known")
    }
}

impl Named {
    /// Rates `samples`; returns for each, in order, a value or the reason why it is missing.
    fn rate(&mut self, samples: &[Sample<'_>]) -> Result<Vec<Rated>, RewardError> {
        let spans: Vec<Option<Cow<'_, str>>> =
            samples.iter().map(|sample| span(sample.completion, &self.spec.scope)).collect();
        let texts: Vec<Option<&str>> = spans.iter().map(Option::as_deref).collect();
        self.rate_texts(samples, &texts)
    }

    /// Rates `texts` as the parts of `samples` that the component reads.
    fn rate_texts(&mut self, samples: &[Sample<'_>], texts: &[Option<&str>]) -> Result<Vec<Rated>, RewardError> {
        let verdicts = match &self.shuffle {
            None => self.reward.rate(samples, texts)?,
            Some(shuffle) => {
                let shuffled: Vec<Sample<'_>> = samples.iter().map(|sample| shuffle.shuffled(sample)).collect();
                self.reward.rate(&shuffled, texts)?
            }
        };
        assert_eq!(verdicts.len(), samples.len(), "reward `{}` gives one verdict a sample", self.name);
        let rated = verdicts.into_iter().map(|verdict| match verdict {
            RewardValue::Value(measured) => Ok(Ok(self.spec.value(measured))),
            RewardValue::Missing(reason) if self.spec.on_error == OnError::Missing => Ok(Err(reason)),
            RewardValue::Missing(message) => {
                let hint = "`on_error = \"missing\"` leaves such completions out of their group instead".to_owned();
                let class = if self.asks_a_server { FailureClass::JudgeUnavailable } else { FailureClass::Input };
                Err(RewardError { message, hint: Some(hint), class })
            }
        });
        rated.collect()
    }
}

/// The score of one sample by all components of the mix.
#[derive(Clone, Debug, PartialEq)]
pub struct RewardScore {
    /// The total of the weighted values by the mix's [`Total`]; absent when a component with a nonzero weight is
    /// missing.
    ///
    /// A component of weight 0 is held out: it is measured, but does not count in the total.
    pub total: Option<f64>,
    /// The scores of all components, by name.
    pub parts: BTreeMap<String, ComponentScore>,
}

/// The reason why a component cannot be set up.
#[derive(Debug, thiserror::Error)]
#[error(transparent)]
pub enum BuildError {
    /// The encoder cannot be loaded.
    Encoder(EncoderError),
    /// The classifier cannot be loaded.
    Classifier(EncoderError),
    /// The policy's tokenizer cannot be loaded.
    Tokenizer(EncoderError),
    /// A setting is not valid.
    Setting(Box<dyn Error + Send + Sync>),
    /// A judge cannot be set up.
    Judge(#[from] JudgeError),
    /// A program cannot be set up.
    Command(#[from] ProgramError),
    /// A service cannot be set up.
    Http(#[from] HttpError),
    /// The stage's rows cannot be read.
    Rows(EncoderError),
}

/// The reason why a reward mix cannot be set up.
#[derive(Debug, thiserror::Error)]
#[error("{}", self.describe())]
pub struct RewardMixError {
    /// The name of the component.
    pub component: String,
    /// The error of the component.
    pub source: BuildError,
}

impl RewardMixError {
    fn describe(&self) -> String {
        let component = &self.component;
        match self.source {
            BuildError::Encoder(_) => format!("the encoder of reward `{component}` does not load"),
            BuildError::Classifier(_) => format!("the model of reward `{component}` does not load"),
            BuildError::Tokenizer(_) => {
                format!("the policy's tokenizer, which the reward `{component}` counts with, does not load")
            }
            BuildError::Rows(_) => format!("the rows that the reward `{component}` reads cannot be read"),
            BuildError::Setting(_) => format!("a setting of the reward `{component}` cannot be used"),
            BuildError::Judge(_) | BuildError::Command(_) | BuildError::Http(_) => {
                format!("the reward `{component}` cannot be computed")
            }
        }
    }
}

/// The resources that the components of a mix need.
pub struct RewardContext<'a> {
    /// Loads the encoder with the given digest, data type and prompt.
    pub encoder: &'a mut LoadEncoder<'a>,
    /// Loads the classifier with the given digest, data type and form of input.
    pub classifier: &'a mut LoadClassifier<'a>,
    /// Loads the policy's tokenizer as a function that counts tokens.
    pub count_tokens: &'a dyn Fn() -> Result<CountTokens, EncoderError>,
    /// The access to judges.
    pub judges: JudgeAccess<'a>,
    /// Finds the path of the file with the given digest.
    pub file: &'a dyn Fn(&Digest) -> Option<PathBuf>,
    /// The addresses of services, by their names in the recipe.
    pub endpoints: &'a BTreeMap<String, HttpEndpoint>,
    /// The rule by which weighted values become the total.
    pub total: &'a Total,
    /// The stage's seed.
    pub seed: u64,
    /// Reads the texts of the stage's rows.
    pub rows: &'a dyn Fn() -> Result<Vec<RowTexts>, EncoderError>,
    /// Reads the fields of the stage's rows.
    pub row_fields: &'a ReadRows<'a>,
}

/// The resources with which a component is built.
pub struct Setup<'a> {
    /// Loads the encoder with the given digest, data type and prompt.
    pub encoder: &'a mut LoadEncoder<'a>,
    /// Loads the classifier with the given digest, data type and form of input.
    pub classifier: &'a mut LoadClassifier<'a>,
    /// Loads the policy's tokenizer as a function that counts tokens.
    pub count_tokens: &'a dyn Fn() -> Result<CountTokens, EncoderError>,
    /// The judges of the mix.
    pub(super) judges: JudgePool<'a>,
    /// Finds the path of the file with the given digest.
    pub file: &'a dyn Fn(&Digest) -> Option<PathBuf>,
    /// The addresses of services, by their names in the recipe.
    pub endpoints: &'a BTreeMap<String, HttpEndpoint>,
    /// The stage's seed.
    pub seed: u64,
    /// Reads the fields of the stage's rows.
    pub row_fields: &'a ReadRows<'a>,
}

impl RewardMix {
    /// Builds the mix of `spec`.
    pub fn new(spec: &BTreeMap<String, RewardSpec>, surroundings: RewardContext<'_>) -> Result<Self, RewardMixError> {
        Self::without(&BTreeSet::new(), spec, surroundings)
    }

    /// Builds the mix of `spec` for samples whose values by the components in `known` are passed to
    /// [`RewardMix::score_with`]. No encoder, judge or program of these components is loaded.
    pub fn without(
        known: &BTreeSet<String>,
        spec: &BTreeMap<String, RewardSpec>,
        surroundings: RewardContext<'_>,
    ) -> Result<Self, RewardMixError> {
        let RewardContext { encoder, classifier, count_tokens, judges, file, endpoints, total, seed, rows, row_fields } =
            surroundings;
        let judges = JudgePool::new(judges);
        let mut setup = Setup { encoder, classifier, count_tokens, judges, file, endpoints, seed, row_fields };
        let arithmetic = Arithmetic::new(spec, total);
        let mut shuffle: Option<Arc<Shuffle>> = None;
        let mut components = Vec::with_capacity(spec.len());
        for (name, spec) in spec {
            let measure = spec.component.measure();
            let reward = if known.contains(name) {
                Box::new(Known)
            } else {
                let unbuilt = |source| RewardMixError { component: name.clone(), source };
                measure.build(&spec.scope, &mut setup).map_err(unbuilt)?
            };
            if spec.shuffle_references && shuffle.is_none() {
                let unread = |error| RewardMixError { component: name.clone(), source: BuildError::Rows(error) };
                shuffle = Some(Arc::new(Shuffle::new(seed, rows().map_err(unread)?)));
            }
            components.push(Named {
                name: name.clone(),
                spec: spec.clone(),
                weight: spec.weight,
                asks_a_server: measure.asks_a_server(),
                shuffle: shuffle.clone().filter(|_| spec.shuffle_references),
                reward,
            });
        }
        Ok(Self { components, arithmetic, judges: setup.judges.clients() })
    }

    /// Sets the weights to those of `step`, which counts from 1. Before the first call they are the last weights.
    pub fn begin_step(&mut self, step: u64) {
        for component in &mut self.components {
            component.weight = component.spec.weight_at(step);
            component.reward.set_step(step);
        }
    }

    /// The current weights of the components whose weight changes during training.
    pub fn changing_weights(&self) -> impl Iterator<Item = (&str, f64)> {
        let changing = self.components.iter().filter(|component| component.spec.has_schedule());
        changing.map(|component| (component.name.as_str(), component.weight))
    }

    /// The expenses for each judge over all attempts at the stage, by the name of its model.
    pub fn expenses(&self) -> BTreeMap<String, Expenses> {
        self.judges.iter().map(|judge| (judge.model().to_owned(), judge.expenses())).collect()
    }

    /// The components that truncated texts of the last batch at their length limit, with the number of distinct texts.
    pub fn truncated(&self) -> impl Iterator<Item = (&str, usize)> {
        let counts = self.components.iter().map(|component| (component.name.as_str(), component.reward.truncated()));
        counts.filter(|(_, count)| *count > 0)
    }

    /// The components' metrics of the last batch, named `COMPONENT_METRIC`, and means of the numbers of programs, named
    /// `COMPONENT/METRIC`.
    pub fn metrics(&self) -> impl Iterator<Item = ComponentMetric> {
        let own = self.components.iter().flat_map(|Named { name, reward, .. }| {
            let named = move |metric: ComponentMetric| ComponentMetric {
                name: format!("{name}_{}", metric.name).into(),
                ..metric
            };
            reward.metrics().into_iter().map(named)
        });
        let means = self.sample_metrics().into_iter().filter_map(|(name, values)| {
            let value = mean(&values.into_iter().flatten().collect::<Vec<f64>>())?;
            Some(ComponentMetric { name: name.into(), value, over_batches: metric::Aggregate::Mean })
        });
        own.chain(means.collect::<Vec<_>>())
    }

    /// The named numbers that programs and services returned for the last batch, as `COMPONENT/NAME`. Each has a place
    /// for each sample.
    pub fn sample_metrics(&self) -> BTreeMap<String, Vec<Option<f64>>> {
        let mut found: BTreeMap<String, Vec<Option<f64>>> = BTreeMap::new();
        for Named { name, reward, .. } in &self.components {
            let samples = reward.sample_metrics();
            for (index, metrics) in samples.iter().enumerate() {
                for (metric, value) in metrics {
                    let column = found.entry(format!("{name}/{metric}")).or_insert_with(|| vec![None; samples.len()]);
                    column[index] = Some(*value);
                }
            }
        }
        found
    }

    /// Returns the answer for which `sample` votes by the component `name`; `None` for a text without an answer.
    pub fn vote(&self, name: &str, sample: &Sample<'_>) -> Option<String> {
        let component = self.components.iter().find(|component| component.name == name)?;
        component.reward.vote(sample, span(sample.completion, &component.spec.scope).as_deref())
    }

    /// Returns new warnings for the user; each is reported once.
    pub fn warnings(&mut self) -> Vec<String> {
        let warnings = |Named { name, reward, .. }: &mut Named| {
            let named: Vec<String> = reward.warnings().iter().map(|text| format!("reward `{name}`: {text}")).collect();
            named
        };
        self.components.iter_mut().flat_map(warnings).collect()
    }

    /// Rates `samples`; returns one score per sample, in order.
    ///
    /// # Errors
    /// Fails for errors that are not a missing value, such as a judge that refuses every request.
    pub fn score(&mut self, samples: &[Sample<'_>]) -> Result<Vec<RewardScore>, RewardError> {
        self.score_with(&mut Columns::new(), samples)
    }

    /// Rates `samples` as [`RewardMix::score`] does. Components whose values are in `columns` are not asked; the values
    /// of the others are added.
    ///
    /// # Errors
    /// Fails as [`RewardMix::score`] does.
    pub fn score_with(
        &mut self,
        columns: &mut Columns,
        samples: &[Sample<'_>],
    ) -> Result<Vec<RewardScore>, RewardError> {
        for component in &mut self.components {
            if !columns.contains_key(&component.name) {
                let rated = component.rate(samples).map_err(|error| {
                    let message = format!("reward `{}`: {error}", component.name);
                    RewardError { message, ..error }
                })?;
                columns.insert(component.name.clone(), rated);
            }
        }
        Ok((0..samples.len()).map(|sample| self.combined(columns, sample)).collect())
    }

    /// Returns the score of one sample from the values of every component, by sample.
    fn combined(&self, columns: &Columns, sample: usize) -> RewardScore {
        let value = |component: &Named| columns[&component.name][sample].clone();
        let mut values: Vec<Rated> = self.components.iter().map(value).collect();
        self.arithmetic.gate(&mut values);
        let weights: Vec<f64> = self.components.iter().map(|component| component.weight).collect();
        let total = self.arithmetic.total(&values, &weights);
        let part = |(Named { name, weight, .. }, rated): (&Named, Rated)| {
            let (value, missing) = match rated {
                Ok(value) => (Some(value), None),
                Err(reason) => (None, Some(reason)),
            };
            (name.clone(), ComponentScore { value, weight: *weight, missing })
        };
        RewardScore { total, parts: self.components.iter().zip(values).map(part).collect() }
    }

    /// Returns the values of `samples` by the component `name` alone; `None` for missing values.
    ///
    /// # Errors
    /// Fails as [`RewardMix::score`] does.
    ///
    /// # Panics
    /// Panics if the mix has no such component.
    pub fn values(&mut self, name: &str, samples: &[Sample<'_>]) -> Result<Vec<Option<f64>>, RewardError> {
        let component = self.components.iter_mut().find(|component| component.name == name);
        let rated = component.expect("the component is part of the mix").rate(samples)?;
        Ok(rated.into_iter().map(Result::ok).collect())
    }

    /// Returns the scope of the component `name`, the part of a completion that it reads.
    pub fn scope(&self, name: &str) -> Option<&Scope> {
        self.components.iter().find(|component| component.name == name).map(|component| &component.spec.scope)
    }

    /// Returns the values of `texts` by the component `name` alone, each in place of the part of its sample that the
    /// component reads; `None` for missing values.
    ///
    /// # Errors
    /// Fails as [`RewardMix::score`] does.
    ///
    /// # Panics
    /// Panics if the mix has no such component.
    pub fn values_of_texts(
        &mut self,
        name: &str,
        samples: &[Sample<'_>],
        texts: &[&str],
    ) -> Result<Vec<Option<f64>>, RewardError> {
        let component = self.components.iter_mut().find(|component| component.name == name);
        let texts: Vec<Option<&str>> = texts.iter().copied().map(Some).collect();
        let rated = component.expect("the component is part of the mix").rate_texts(samples, &texts)?;
        Ok(rated.into_iter().map(Result::ok).collect())
    }

    /// Returns the unit vectors of `texts` by the encoder of the component `name`; `None` for one without an encoder.
    pub fn embeddings(&mut self, name: &str, texts: &[&str]) -> Option<Result<Vec<Vec<f32>>, RewardError>> {
        let component = self.components.iter_mut().find(|component| component.name == name)?;
        let failed = |error: EncoderError| RewardError {
            message: format!("the encoder of reward `{name}` failed: {error}"),
            hint: None,
            class: FailureClass::Input,
        };
        Some(component.reward.embeddings(texts)?.map_err(failed))
    }

    /// Explains the rating of each sample by component: the text that the component read and its finding.
    pub fn explain(&mut self, samples: &[Sample<'_>]) -> Vec<BTreeMap<String, String>> {
        let mut explanations = vec![BTreeMap::new(); samples.len()];
        for Named { name, spec, shuffle, reward, .. } in &mut self.components {
            for (sample, explained) in samples.iter().zip(&mut explanations) {
                let text = span(sample.completion, &spec.scope);
                let mut explanation = looked_at(&spec.scope, text.as_deref());
                let sample = match shuffle {
                    Some(shuffle) => {
                        explanation.push_str("; it is compared with another row");
                        &shuffle.shuffled(sample)
                    }
                    None => sample,
                };
                if let Some(found) = reward.explain(sample, text.as_deref()) {
                    explanation = format!("{explanation}; {found}");
                }
                explained.insert(name.clone(), explanation);
            }
        }
        explanations
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dtype::Dtype;
    use crate::rewards::testing::{LetterEncoder, sample};
    use crate::rewards::{
        Component, CorrectnessSpec, CotSpec, FormatSpec, Grading, Leak, LengthSpec, Match, RepetitionSpec,
        RougeMeasure, RougeSpec, RougeTokenizer, RougeVariant, Scope, SemanticSpec,
    };
    use crate::rewards::{StopCheck, TextEncoder};
    use proptest::prelude::*;
    use std::path::Path;

    fn mix() -> BTreeMap<String, RewardSpec> {
        let (encoder, prompt) = (Digest::of(b"an encoder"), Some("query: ".to_owned()));
        let (variant, measure, tokenizer) = (RougeVariant::L, RougeMeasure::F1, RougeTokenizer::Unicode);
        let rouge = Component::Rouge(RougeSpec { variant, measure, tokenizer, stemming: false });
        let (references, window_sentences) = (None, None);
        let (dtype, baseline) = (Dtype::Bfloat16, None);
        let semantic = SemanticSpec { encoder, dtype, baseline, prompt, references, window_sentences }.into();
        let (min_tokens, max_tokens, leak) = (None, None, Leak::Ignore);
        let cot = CotSpec { min_words: 3, max_words: None, min_tokens, max_tokens, leak }.into();
        let tags = vec!["think".to_owned(), "answer".to_owned()];
        let format = Component::Format(FormatSpec::Tags { tags, grading: Grading::Binary, answers: Vec::new() });
        [
            ("meaning", 2.0, Scope::Think, semantic),
            ("words", 0.5, Scope::Think, rouge),
            ("correctness", 1.0, Scope::Answer, CorrectnessSpec { matching: Match::Choice, pattern: None }.into()),
            ("format", 1.0, Scope::Completion, format),
            ("cot", -1.0, Scope::Think, cot),
        ]
        .map(|(name, weight, scope, component)| (name.to_owned(), RewardSpec::plain(weight, scope, component)))
        .into()
    }

    fn reward_mix() -> RewardMix {
        new(&mut |digest, dtype, prompt| {
            assert_eq!((digest, dtype, prompt), (&Digest::of(b"an encoder"), Dtype::Bfloat16, Some("query: ")));
            Ok(Box::new(LetterEncoder::default()))
        })
        .unwrap()
    }

    fn new(encoder: &mut LoadEncoder<'_>) -> Result<RewardMix, RewardMixError> {
        new_of(&mix(), encoder)
    }

    fn new_of(mix: &BTreeMap<String, RewardSpec>, encoder: &mut LoadEncoder<'_>) -> Result<RewardMix, RewardMixError> {
        let servers = BTreeMap::new();
        let nowhere = Path::new("/nonexistent");
        let judges = JudgeAccess {
            servers: &servers,
            cache: nowhere,
            ledgers: nowhere,
            variable: &|_| None,
            stop: &StopCheck::never(),
        };
        RewardMix::new(
            mix,
            RewardContext {
                encoder: &mut |digest, dtype, prompt| encoder(digest, dtype, prompt),
                classifier: &mut |_, _, _| Err("no classifier".into()),
                count_tokens: &|| Err("no tokenizer".into()),
                judges,
                file: &|_| None,
                endpoints: &BTreeMap::new(),
                total: &Total::Sum,
                seed: 1,
                rows: &|| Err("no rows".into()),
                row_fields: &|| Err("no rows".into()),
            },
        )
    }

    const COMPLETION: &str = "<think>the heart pumps blood</think><answer>B</answer>";

    #[test]
    fn the_total_is_the_weighted_sum_of_all_parts() {
        let sample = Sample { reference: Some("The heart pumps blood."), answer: Some("b"), ..sample(COMPLETION) };
        let [score] = <[RewardScore; 1]>::try_from(reward_mix().score(&[sample]).unwrap()).unwrap();
        let values: Vec<(&str, f64)> = score.parts.iter().map(|(name, part)| (&**name, part.value.unwrap())).collect();
        let [("correctness", 1.0), ("cot", 1.0), ("format", 1.0), ("meaning", meaning), ("words", 1.0)] = values[..]
        else {
            panic!("{values:?}");
        };
        assert!(score.parts.values().all(|part| part.missing.is_none()));
        assert!((score.total.unwrap() - (1.0 - 1.0 + 1.0 + 2.0 * meaning + 0.5)).abs() < 1e-12);
    }

    #[test]
    fn an_explanation_says_what_each_component_found() {
        let completion = "<think>the heart sends blood</think><answer>it is B</answer> so";
        let sample = Sample { reference: Some("The heart pumps blood."), answer: Some("b"), ..sample(completion) };
        let explained = reward_mix().explain(&[sample, Sample { reference: None, ..sample }]);
        let expected = [
            ("correctness", "<answer> holds `it is B`; the letter is `B`, the row's answer is `b`"),
            ("cot", "<think> holds `the heart sends blood`; 4 words of reasoning, at least 3 are wanted"),
            ("format", "looks at the whole completion; text after </answer>: `so`"),
            (
                "words",
                "<think> holds `the heart sends blood`; 3 words match in order: `the heart blood`; the reference has 4 \
                       words, the text 4",
            ),
        ];
        for (name, text) in expected {
            assert_eq!(explained[0][name], text);
        }
        let meaning = &explained[0]["meaning"];
        assert!(meaning.starts_with("<think> holds `the heart sends blood`; the cosine is 0."), "{meaning}");
        assert_eq!(explained[1]["meaning"], "<think> holds `the heart sends blood`");
    }

    #[test]
    fn a_missing_part_leaves_no_total_but_every_other_part() {
        let samples = [Sample { answer: Some("B"), ..sample(COMPLETION) }];
        let [score] = <[RewardScore; 1]>::try_from(reward_mix().score(&samples).unwrap()).unwrap();
        assert_eq!(score.total, None);
        assert_eq!(score.parts["meaning"].missing.as_deref(), Some("the row has no reference"));
        assert_eq!(score.parts["meaning"].value, None);
        assert_eq!(score.parts["correctness"].value, Some(1.0));
        assert_eq!(score.parts.len(), 5);
    }

    #[test]
    fn a_held_out_part_is_measured_but_neither_counted_nor_needed() {
        let mut mix = mix();
        mix.get_mut("meaning").unwrap().weight = 0.0;
        mix.get_mut("words").unwrap().weight = 0.0;
        let mut reward_mix = new_of(&mix, &mut |_, _, _| Ok(Box::new(LetterEncoder::default()))).unwrap();
        let row = Sample { answer: Some("B"), ..sample(COMPLETION) };
        let with_reference = Sample { reference: Some("the heart pumps blood"), ..row };
        let [without, with] = <[RewardScore; 2]>::try_from(reward_mix.score(&[row, with_reference]).unwrap()).unwrap();
        assert_eq!((without.total, with.total), (Some(1.0), Some(1.0)), "correctness + format - cot");
        assert_eq!(without.parts["words"].value, None);
        assert_eq!(with.parts["words"], ComponentScore { value: Some(1.0), weight: 0.0, missing: None });
    }

    #[test]
    fn a_value_is_clipped_then_scaled_and_that_is_what_everybody_sees() {
        let mut mix = mix();
        let meaning = mix.get_mut("meaning").unwrap();
        (meaning.clip, meaning.scale) = (Some((0.0, 0.25)), -4.0);
        let mut reward_mix = new_of(&mix, &mut |_, _, _| Ok(Box::new(LetterEncoder::default()))).unwrap();
        let row = Sample { reference: Some("the heart pumps blood"), answer: Some("B"), ..sample(COMPLETION) };
        let [score] = <[RewardScore; 1]>::try_from(reward_mix.score(&[row]).unwrap()).unwrap();
        assert_eq!(score.parts["meaning"], ComponentScore { value: Some(-1.0), weight: 2.0, missing: None });
        assert!((score.total.unwrap() - (1.0 - 1.0 + 1.0 - 2.0 + 0.5)).abs() < 1e-12);
    }

    #[test]
    fn a_missing_value_fails_the_batch_where_that_is_asked_for() {
        let mut mix = mix();
        mix.get_mut("meaning").unwrap().on_error = OnError::Fail;
        let mut reward_mix = new_of(&mix, &mut |_, _, _| Ok(Box::new(LetterEncoder::default()))).unwrap();
        let row = Sample { reference: Some("blood"), answer: Some("B"), ..sample(COMPLETION) };
        assert!(reward_mix.score(&[row]).is_ok());
        let error = reward_mix.score(&[row, Sample { reference: None, ..row }]).unwrap_err();
        assert_eq!(error.message, "reward `meaning`: the row has no reference");
        assert!(error.class == FailureClass::Input && error.hint.is_some());
    }

    #[test]
    fn an_empty_completion_is_measured_not_missing() {
        let samples = [Sample { reference: Some("blood"), answer: Some("B"), ..sample("") }];
        assert_eq!(reward_mix().score(&samples).unwrap()[0].total, Some(0.0));
    }

    #[test]
    fn scores_come_in_the_order_of_the_samples() {
        let row = Sample { reference: Some("the heart pumps blood"), answer: Some("B"), ..sample(COMPLETION) };
        let scores = reward_mix().score(&[sample(""), row, Sample { answer: Some("C"), ..row }]).unwrap();
        assert_eq!(scores[0].total, None);
        assert_eq!(scores[1].parts["correctness"].value, Some(1.0));
        assert_eq!(scores[2].parts["correctness"].value, Some(0.0));
        assert!(reward_mix().score(&[]).unwrap().is_empty());
    }

    #[test]
    fn texts_cut_at_a_length_limit_are_counted_by_component() {
        let mut encoder = |_: &Digest, _: Dtype, _: Option<&str>| -> Result<Box<dyn TextEncoder>, EncoderError> {
            Ok(Box::new(LetterEncoder { limit: Some(3), ..Default::default() }))
        };
        let mut reward_mix = new(&mut encoder).unwrap();
        let row = |completion| Sample { reference: Some("abc"), ..sample(completion) };
        reward_mix.score(&[row("<think>abcd</think>"), row("<think>ab</think>")]).unwrap();
        assert_eq!(reward_mix.truncated().collect::<Vec<_>>(), [("meaning", 1)]);
        reward_mix.score(&[row("<think>ab</think>")]).unwrap();
        assert_eq!(reward_mix.truncated().count(), 0);
    }

    #[test]
    fn an_encoder_that_does_not_load_is_named() {
        let error = new(&mut |_, _, _| Err("no such file".into())).err().unwrap();
        assert_eq!(error.to_string(), "the encoder of reward `meaning` does not load");
        assert_eq!(error.source().unwrap().to_string(), "no such file");
    }

    /// A mix of the components that read only their scope, all with the same scope.
    fn local(scope: &Scope) -> RewardMix {
        let (variant, measure, tokenizer) = (RougeVariant::L, RougeMeasure::F1, RougeTokenizer::RougeScore);
        let length = LengthSpec { min_words: Some(3), max_words: Some(6), tolerance_words: 4, of_reference: None };
        let components = [
            ("meaning", mix()["meaning"].component.clone()),
            ("words", RougeSpec { variant, measure, tokenizer, stemming: true }.into()),
            ("right", CorrectnessSpec { matching: Match::Choice, pattern: None }.into()),
            ("pattern", Component::Format(FormatSpec::Pattern("[a-z ]+".to_owned()))),
            ("length", Component::Length(length)),
            ("repetition", RepetitionSpec { ngram: 2 }.into()),
        ]
        .map(|(name, component)| (name.to_owned(), RewardSpec::plain(1.0, scope.clone(), component)));
        new_of(&components.into(), &mut |_, _, _| Ok(Box::new(LetterEncoder::default()))).unwrap()
    }

    proptest! {
        #[test]
        fn what_stands_outside_its_scope_is_nothing_to_a_component(inside in "[A-Ca-c ]{0,20}", around in "[A-Ca-c ]{0,20}") {
            let score = |scope: &Scope, completion: &str| {
                let row = Sample { reference: Some("a bb ab cab"), answer: Some("B"), ..sample(completion) };
                let mut reward_mix = local(scope);
                let explained = reward_mix.explain(&[row]).remove(0);
                assert_eq!(explained.len(), 6, "each says why");
                reward_mix.score(&[row]).unwrap().remove(0)
            };
            let alone = score(&Scope::Completion, &inside);
            for scope in [Scope::Think, Scope::Answer, Scope::Explanation, Scope::Tag("work".to_owned())] {
                let tag = match &scope {
                    Scope::Think => "think",
                    Scope::Answer => "answer",
                    Scope::Explanation => "explanation",
                    Scope::Tag(name) => name,
                    Scope::Completion => unreachable!("it is not among them"),
                };
                let completion = format!("{around}<{tag}>{inside}</{tag}>{around}");
                prop_assert_eq!(&score(&scope, &completion), &alone, "{}", completion);
            }
        }

        #[test]
        fn rates_any_text_within_range(
            completion in "(<think>|</think>|<answer>|</answer>|<explanation>|\\PC| )*",
            reference in any::<String>(),
            answer in any::<String>(),
        ) {
            let rated = Sample { reference: Some(&reference), answer: Some(&answer), ..sample(&completion) };
            prop_assert_eq!(reward_mix().explain(&[rated]).remove(0).len(), mix().len());
            for score in reward_mix().score(&[rated]).unwrap() {
                for part in score.parts.values() {
                    prop_assert!(part.value.is_some() != part.missing.is_some());
                    prop_assert!(part.value.is_none_or(|value| (-1.0..=1.0).contains(&value)));
                }
                prop_assert!(score.total.is_none_or(f64::is_finite));
            }
        }
    }
}
