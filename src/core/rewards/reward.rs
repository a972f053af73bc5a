//! The interface of a component: samples in, values out.

use crate::digest::Digest;
use crate::dtype::Dtype;
use crate::event::FailureClass;
use crate::metric;
use crate::rewards::ClassifierInput;
use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};
use std::error::Error;
use std::sync::Arc;

/// A completion to rate, with the reference and answer of its row.
#[derive(Clone, Copy, Debug)]
pub struct Sample<'a> {
    /// The prompt as rendered by the data set's template.
    pub prompt: &'a str,
    /// The policy's completion, without the stop token.
    pub completion: &'a str,
    /// The reference text; absent where the row has none.
    pub reference: Option<&'a str>,
    /// The correct answer; absent where the row has none.
    pub answer: Option<&'a str>,
    /// The index of the completion in its group, the completions of one row.
    pub index: usize,
    /// What the policy computed as it sampled the completion; absent for a text from elsewhere, and where no component
    /// of the mix [reads it](super::component::Measure::reads_the_policy).
    pub policy: Option<PolicyStats>,
    /// The identifier of the row, derived from its content; absent for texts without a row.
    pub row: Option<&'a str>,
}

/// Statistics of the distributions from which the tokens of a completion were drawn: the policy's over the whole
/// vocabulary at the sampling temperature, before top-k, top-p, min-p and penalties.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct PolicyStats {
    /// The number of tokens, including the stop token.
    pub tokens: usize,
    /// The mean log-probability of the tokens, in nats.
    pub mean_logprob: f64,
    /// The mean entropy of the distributions, in nats.
    pub mean_entropy: f64,
}

/// A component's value for one sample.
#[derive(Clone, Debug, PartialEq)]
pub enum RewardValue {
    /// The unweighted value; finite.
    Value(f64),
    /// The value cannot be computed, for this reason.
    Missing(String),
}

impl RewardValue {
    /// Returns 1 when `holds`, else 0.
    pub(super) fn binary(holds: bool) -> Self {
        Self::Value(f64::from(u8::from(holds)))
    }
}

/// A reward component.
///
/// `texts[i]` is the part of `samples[i]`'s completion that the component's scope names. It is absent when the
/// completion has no such part.
pub trait Reward: Send {
    /// Rates a batch; returns one value per sample, in order.
    ///
    /// # Errors
    /// Fails for errors that are not a missing value of a sample; the stage cannot continue.
    fn rate(&mut self, samples: &[Sample<'_>], texts: &[Option<&str>]) -> Result<Vec<RewardValue>, RewardError>;

    /// Explains the value of `sample` to the user; `text` is as in [`Reward::rate`].
    fn explain(&mut self, _sample: &Sample<'_>, _text: Option<&str>) -> Option<String> {
        None
    }

    /// Returns the unit vectors of `texts` by the component's encoder; `None` for a component without an encoder.
    fn embeddings(&mut self, _texts: &[&str]) -> Option<Result<Vec<Vec<f32>>, EncoderError>> {
        None
    }

    /// Sets the step of the samples that follow.
    fn set_step(&mut self, _step: u64) {}

    /// The named numbers of the last batch besides its values, one map per sample; empty if there are none.
    fn sample_metrics(&self) -> &[BTreeMap<String, f64>] {
        &[]
    }

    /// Returns the answer in `text` for which a sample votes, in a form in which equal answers are equal texts. `None`
    /// for a text without an answer, and for components that do not read answers.
    fn vote(&self, _sample: &Sample<'_>, _text: Option<&str>) -> Option<String> {
        None
    }

    /// The number of distinct texts of the last batch that were truncated at a length limit.
    fn truncated(&self) -> usize {
        0
    }

    /// The metrics of the last batch, such as calls and latency.
    fn metrics(&self) -> Vec<ComponentMetric> {
        Vec::new()
    }

    /// Returns new warnings for the user; each is reported once.
    fn warnings(&mut self) -> Vec<String> {
        Vec::new()
    }
}

/// A metric of a component for the last batch, besides its values.
#[derive(Clone, Debug, PartialEq)]
pub struct ComponentMetric {
    /// The name, which follows the component's in the metric `reward/COMPONENT_NAME`.
    pub name: Cow<'static, str>,
    /// The value.
    pub value: f64,
    /// The aggregation over several batches.
    pub over_batches: metric::Aggregate,
}

impl ComponentMetric {
    /// Creates a count, which is summed over batches.
    pub fn count(name: &'static str, value: f64) -> Self {
        Self { name: name.into(), value, over_batches: metric::Aggregate::Sum }
    }

    /// Creates a mean, which is averaged over batches.
    pub fn mean(name: &'static str, value: f64) -> Self {
        Self { name: name.into(), value, over_batches: metric::Aggregate::Mean }
    }
}

/// The reason why a component ends the stage instead of leaving values missing.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[error("{message}")]
pub struct RewardError {
    /// The message, in one sentence.
    pub message: String,
    /// Advice on how to fix the error.
    pub hint: Option<String>,
    /// The class, which determines whether another attempt may succeed.
    pub class: FailureClass,
}

impl RewardError {
    /// Creates the error of a rating that was asked to stop.
    pub(super) fn interrupted() -> Self {
        Self { message: "rating was stopped".to_owned(), hint: None, class: FailureClass::Interrupted }
    }
}

/// The reason why an encoder cannot be loaded or cannot embed.
pub type EncoderError = Box<dyn Error + Send + Sync>;

/// Loads the encoder with the given digest, data type and prompt before every text.
///
/// Without a prompt, the encoder's own default is used.
pub type LoadEncoder<'a> = dyn FnMut(&Digest, Dtype, Option<&str>) -> Result<Box<dyn TextEncoder>, EncoderError> + 'a;

/// The fields of the stage's rows as JSON objects, by the row's identifier.
pub type RowFields = HashMap<String, serde_json::Value>;

/// Reads the fields of the stage's rows.
pub type ReadRows<'a> = dyn Fn() -> Result<Arc<RowFields>, EncoderError> + 'a;

/// Counts the tokens of a text by the policy's tokenizer, without special tokens.
pub type CountTokens = Box<dyn Fn(&str) -> Result<usize, EncoderError> + Send>;

/// An encoder that turns texts into L2-normalized embeddings.
pub trait TextEncoder: Send {
    /// Returns one unit vector per text, in order.
    fn embed(&mut self, texts: &[&str]) -> Result<Vec<Vec<f32>>, EncoderError>;

    /// The number of texts of the last call that were truncated at the encoder's length limit.
    fn truncated(&self) -> usize {
        0
    }
}

/// Loads the classifier with the given digest and data type, which reads texts in the given form.
pub type LoadClassifier<'a> =
    dyn FnMut(&Digest, Dtype, ClassifierInput) -> Result<Box<dyn TextClassifier>, EncoderError> + 'a;

/// A model with a head for sequence classification.
pub trait TextClassifier: Send {
    /// Returns the logits of all labels for each prompt with a text, in order; none for a text without tokens.
    fn logits(&mut self, texts: &[(&str, &str)]) -> Result<Vec<Vec<f32>>, EncoderError>;

    /// The number of texts of the last call that were truncated at the model's length limit.
    fn truncated(&self) -> usize {
        0
    }
}
