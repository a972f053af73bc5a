#![doc = include_str!("docs/classifier.md")]

mod head;

use crate::digest::Digest;
use crate::dtype::Dtype;
use crate::rewards::component::{Kind, Measure};
use crate::rewards::table::At;
use crate::rewards::{
    BuildError, EncoderError, Reward, RewardError, RewardValue, Sample, Scope, Setup, TableContext, TextClassifier,
};
use head::{Head, Label, name_or_index};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeSet, HashMap};

/// The rating of a text by a model with a head for sequence classification.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ClassifierTable {
    /// A Hugging Face directory of a model for sequence classification, or `hf://owner/name@revision`.
    pub model: String,
    /// Number format of the model; its head computes in 32 bits in any case.
    pub dtype: Dtype,
    /// The label whose score is the value: its name in the model's `id2label`, or its index; default: the only one.
    #[schemars(schema_with = "name_or_index")]
    #[serde(default)]
    pub label: Option<Label>,
    /// What turns logits into the value; default: as transformers chooses by the model's `problem_type` and labels.
    pub activation: Option<Activation>,
    /// What the model reads; default: `pair` for an encoder, `chat` for a decoder.
    pub input: Option<ClassifierInput>,
}

/// The model with the label that rates, and the form of its input.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ClassifierSpec {
    /// The digest of the model's directory.
    pub model: Digest,
    /// The data type of the model's computation.
    pub dtype: Dtype,
    /// The index of the label whose score is the value.
    pub label: usize,
    /// The function of the logits.
    pub activation: Activation,
    /// The form of the model's input.
    pub input: ClassifierInput,
}

/// The function that turns the logits of all labels into the score of one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Activation {
    /// The logistic function of the label's logit.
    Sigmoid,
    /// The label's share of the exponentials of all logits.
    Softmax,
    /// The logit itself.
    None,
}

/// The form in which a classifier reads a completion.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ClassifierInput {
    /// The prompt and the text, as the tokenizer's pair of texts.
    Pair,
    /// The prompt as a user's turn and the text as the assistant's, in the model's own chat template.
    Chat,
    /// The text alone.
    Text,
}

impl Kind for ClassifierSpec {
    const NAME: &'static str = "classifier";
    const PAGE: &'static str = include_str!("docs/classifier.md");
    const DEFAULTS: &'static str = r#"
scope = "completion" # what reward models were trained on
dtype = "float32" # as `semantic`
# label, activation, input: what the model's own files say
"#;

    type Table = ClassifierTable;

    fn resolve(table: &Self::Table, recipe: &mut dyn TableContext) -> Option<Self> {
        let model = recipe.directory("classifier", &table.model, "model")?;
        let config = recipe.config(&model, "model")?;
        let named = format!("`{}`", table.model);
        let refused = |recipe: &mut dyn TableContext, key, message: String, label: &str, help: &str| {
            recipe.problem(At::Key(key), message, label, help);
            None
        };
        let head = match Head::read(&config) {
            Ok(head) => head,
            Err(why) => {
                let help = "name a model whose `architectures` ends in `ForSequenceClassification`, of bert, roberta, \
                            xlm-roberta, modernbert, llama, qwen2 or qwen3";
                return refused(recipe, "model", format!("{named} cannot classify: {why}"), "no classifier", help);
            }
        };
        let label = match head.label(table.label.as_ref()) {
            Ok(label) => label,
            Err(why) => {
                let key = if table.label.is_some() { At::Key("label") } else { At::Table };
                let help = format!("the labels of {named} are {}", head.listed());
                recipe.problem(key, why, "which label?", &help);
                return None;
            }
        };
        let input = table.input.unwrap_or(if head.is_decoder { ClassifierInput::Chat } else { ClassifierInput::Pair });
        match (input, head.is_decoder) {
            (ClassifierInput::Pair, true) => {
                let message = format!("{named} is a decoder, which has no pair of texts");
                return refused(recipe, "input", message, "for encoders", "`chat` puts the prompt before the text");
            }
            (ClassifierInput::Chat, false) => {
                let message = format!("{named} is an encoder, which has no chat template");
                return refused(recipe, "input", message, "for decoders", "`pair` puts the prompt before the text");
            }
            _ => {}
        }
        let activation = table.activation.unwrap_or(head.activation);
        Some(Self { model, dtype: table.dtype, label, activation, input })
    }
}

impl Measure for ClassifierSpec {
    fn build(&self, _scope: &Scope, setup: &mut Setup<'_>) -> Result<Box<dyn Reward>, BuildError> {
        let model = (setup.classifier)(&self.model, self.dtype, self.input).map_err(BuildError::Classifier)?;
        Ok(Box::new(Classifier { model, spec: self.clone(), truncated: 0 }))
    }

    fn range(&self) -> Option<(f64, f64)> {
        (self.activation != Activation::None).then_some((0.0, 1.0))
    }

    fn files(&self) -> Vec<&Digest> {
        vec![&self.model]
    }
}

/// The `classifier` component.
pub(super) struct Classifier {
    model: Box<dyn TextClassifier>,
    spec: ClassifierSpec,
    /// The number of texts of the last batch that were truncated at the model's limit.
    truncated: usize,
}

impl Activation {
    /// Returns the score of `label`; `None` if it is not finite.
    fn score(self, logits: &[f32], label: usize) -> Option<f64> {
        let logit = f64::from(*logits.get(label)?);
        let score = match self {
            Self::None => logit,
            Self::Sigmoid => 1.0 / (1.0 + (-logit).exp()),
            Self::Softmax => {
                let largest = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
                let weight = |logit: f32| (f64::from(logit) - f64::from(largest)).exp();
                weight(logits[label]) / logits.iter().map(|&logit| weight(logit)).sum::<f64>()
            }
        };
        score.is_finite().then_some(score)
    }
}

impl Classifier {
    /// Returns the prompt and the text that the model reads for a sample; `None` where there is no text to read.
    ///
    /// A text that the policy did not write is worth the least value. A logit has none, so the model itself rates the
    /// empty text.
    fn read<'a>(&self, sample: &Sample<'a>, text: Option<&'a str>) -> Option<(&'a str, &'a str)> {
        let text = match text {
            Some(text) if !text.trim().is_empty() => text,
            _ if self.spec.activation == Activation::None => "",
            _ => return None,
        };
        Some((if self.spec.input == ClassifierInput::Text { "" } else { sample.prompt }, text))
    }

    /// Returns the logits of all texts, each distinct one computed once.
    fn logits<'a>(
        &mut self,
        read: impl Iterator<Item = Option<(&'a str, &'a str)>>,
    ) -> Result<HashMap<(&'a str, &'a str), Vec<f32>>, EncoderError> {
        self.truncated = 0;
        let batch: Vec<(&str, &str)> = read.flatten().collect::<BTreeSet<_>>().into_iter().collect();
        if batch.is_empty() {
            return Ok(HashMap::new());
        }
        let logits = self.model.logits(&batch)?;
        assert_eq!(logits.len(), batch.len(), "a classifier gives one row of logits a text");
        self.truncated = self.model.truncated();
        Ok(batch.into_iter().zip(logits).collect())
    }
}

impl Reward for Classifier {
    fn rate(&mut self, samples: &[Sample<'_>], texts: &[Option<&str>]) -> Result<Vec<RewardValue>, RewardError> {
        let read: Vec<Option<(&str, &str)>> =
            samples.iter().zip(texts).map(|(sample, text)| self.read(sample, *text)).collect();
        let found = match self.logits(read.iter().copied()) {
            Ok(found) => found,
            Err(error) => {
                let reason = format!("the classifier failed: {}", super::semantic::with_sources(&*error));
                let verdict = |read: &Option<_>| match read {
                    None => RewardValue::Value(0.0),
                    Some(_) => RewardValue::Missing(reason.clone()),
                };
                return Ok(read.iter().map(verdict).collect());
            }
        };
        let ClassifierSpec { label, activation, .. } = self.spec;
        let verdict = |read: &Option<(&str, &str)>| {
            let Some(read) = read else { return RewardValue::Value(0.0) };
            match &found[read] {
                logits if logits.is_empty() => {
                    RewardValue::Missing("the classifier reads no token of the text".to_owned())
                }
                logits => match activation.score(logits, label) {
                    Some(score) => RewardValue::Value(score),
                    None => RewardValue::Missing("the classifier's logit is not finite".to_owned()),
                },
            }
        };
        Ok(read.iter().map(verdict).collect())
    }

    fn explain(&mut self, sample: &Sample<'_>, text: Option<&str>) -> Option<String> {
        let read = self.read(sample, text)?;
        let found = self.logits(std::iter::once(Some(read))).ok()?;
        let logits: Vec<String> = found[&read].iter().map(|logit| format!("{logit:.4}")).collect();
        Some(format!("the logits are {}, of which label {} counts", logits.join(", "), self.spec.label))
    }

    fn truncated(&self) -> usize {
        self.truncated
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rewards::testing::{rate_one, sample};
    use std::sync::{Arc, Mutex};

    type Batches = Arc<Mutex<Vec<Vec<(String, String)>>>>;

    /// A classifier whose logits are the lengths of the prompt and of the text.
    #[derive(Default)]
    struct Lengths {
        batches: Batches,
        fails: bool,
    }

    impl TextClassifier for Lengths {
        fn logits(&mut self, texts: &[(&str, &str)]) -> Result<Vec<Vec<f32>>, EncoderError> {
            if self.fails {
                return Err("out of memory".into());
            }
            let batch = texts.iter().map(|(prompt, text)| ((*prompt).to_owned(), (*text).to_owned())).collect();
            self.batches.lock().unwrap().push(batch);
            let length = |text: &str| f32::from(u8::try_from(text.len()).unwrap());
            Ok(texts.iter().map(|(prompt, text)| vec![length(prompt), length(text)]).collect())
        }

        fn truncated(&self) -> usize {
            7
        }
    }

    fn classifier(activation: Activation, input: ClassifierInput, model: Lengths) -> Classifier {
        let spec = ClassifierSpec { model: Digest::of(b"model"), dtype: Dtype::Float32, label: 1, activation, input };
        Classifier { model: Box::new(model), spec, truncated: 0 }
    }

    fn value(activation: Activation, text: Option<&str>) -> f64 {
        let mut classifier = classifier(activation, ClassifierInput::Pair, Lengths::default());
        match rate_one(&mut classifier, Sample { prompt: "ab", ..sample("") }, text) {
            RewardValue::Value(value) => value,
            RewardValue::Missing(reason) => panic!("{reason}"),
        }
    }

    #[test]
    fn the_activation_turns_the_labels_logit_into_the_value() {
        let close = |value: f64, expected: f64| assert!((value - expected).abs() < 1e-12, "{value}, {expected}");
        close(value(Activation::None, Some("abcd")), 4.0);
        close(value(Activation::Sigmoid, Some("abcd")), 1.0 / (1.0 + (-4.0_f64).exp()));
        close(value(Activation::Softmax, Some("abcd")), 4.0_f64.exp() / (2.0_f64.exp() + 4.0_f64.exp()));
        assert_eq!(Activation::Softmax.score(&[f32::INFINITY, 0.0], 1), None);
        assert_eq!(Activation::Softmax.score(&[-3e38, 3e38], 1), Some(1.0));
        assert_eq!(Activation::Sigmoid.score(&[0.0, -3e38], 1), Some(0.0));
    }

    #[test]
    fn a_text_that_is_not_there_has_the_least_value_or_the_models_own() {
        for text in [None, Some(""), Some(" \n")] {
            assert_eq!(value(Activation::Sigmoid, text).to_string(), "0");
            assert_eq!(value(Activation::Softmax, text).to_string(), "0");
        }
        let model = Lengths::default();
        let batches = Arc::clone(&model.batches);
        let mut classifier = classifier(Activation::None, ClassifierInput::Pair, model);
        assert_eq!(rate_one(&mut classifier, Sample { prompt: "ab", ..sample("") }, None), RewardValue::Value(0.0));
        assert_eq!(*batches.lock().unwrap(), [[("ab".to_owned(), String::new())]], "the model rated the empty text");
    }

    #[test]
    fn equal_texts_are_read_once_and_the_prompt_only_where_it_counts() {
        let samples = ["a", "b", "a"].map(|prompt| Sample { prompt, ..sample("") });
        for (input, expected) in [(ClassifierInput::Chat, 2), (ClassifierInput::Text, 1)] {
            let model = Lengths::default();
            let batches = Arc::clone(&model.batches);
            let mut classifier = classifier(Activation::None, input, model);
            classifier.rate(&samples, &[Some("x"); 3]).unwrap();
            assert_eq!(batches.lock().unwrap()[0].len(), expected);
            assert_eq!(classifier.truncated(), 7);
            classifier.rate(&samples, &[Some("x"); 0]).unwrap();
            assert_eq!(classifier.truncated(), 0, "the last batch had no texts");
        }
    }

    #[test]
    fn a_classifier_that_fails_leaves_values_missing() {
        let fails = Lengths { fails: true, ..Lengths::default() };
        let mut classifier = classifier(Activation::Sigmoid, ClassifierInput::Pair, fails);
        let rated = classifier.rate(&[sample(""), sample("")], &[Some("x"), None]).unwrap();
        assert_eq!(rated[0], RewardValue::Missing("the classifier failed: out of memory".to_owned()));
        assert_eq!(rated[1], RewardValue::Value(0.0), "nothing had to be read");
    }

    #[test]
    fn an_explanation_names_the_logits() {
        let mut classifier = classifier(Activation::Sigmoid, ClassifierInput::Pair, Lengths::default());
        let told = classifier.explain(&Sample { prompt: "ab", ..sample("") }, Some("x"));
        assert_eq!(told.as_deref(), Some("the logits are 2.0000, 1.0000, of which label 1 counts"));
        assert_eq!(classifier.explain(&sample(""), None), None);
    }
}
