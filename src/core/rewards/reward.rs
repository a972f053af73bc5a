//! What a component is given, and what it gives.

use crate::digest::Digest;
use crate::dtype::Dtype;
use crate::event::FailureClass;
use crate::metric;
use std::borrow::Cow;
use std::error::Error;

/// A completion to be rated, with what it is rated against.
#[derive(Clone, Copy, Debug)]
pub struct Sample<'a> {
    /// The prompt as the data set's template rendered it.
    pub prompt: &'a str,
    /// What the policy wrote, without the stop token.
    pub completion: &'a str,
    /// Reference text.
    pub reference: Option<&'a str>,
    /// Right answer.
    pub answer: Option<&'a str>,
}

/// A component's verdict on one sample.
#[derive(Clone, Debug, PartialEq)]
pub enum RewardValue {
    /// The unweighted value; finite.
    Value(f64),
    /// It cannot be computed, and why.
    Missing(String),
}

impl RewardValue {
    /// 1 when `holds`, else 0.
    pub(super) fn binary(holds: bool) -> Self {
        Self::Value(f64::from(u8::from(holds)))
    }
}

/// A reward component. `texts[i]` is the part of `samples[i]`'s completion that the component's scope names; absent when
/// the completion has no such part.
pub trait Reward: Send {
    /// Rates a batch; one verdict a sample, in order.
    ///
    /// # Errors
    /// What no sample's verdict can say: the stage cannot go on.
    fn rate(&mut self, samples: &[Sample<'_>], texts: &[Option<&str>]) -> Result<Vec<RewardValue>, RewardError>;

    /// Why `sample` has the verdict it has, for a person to read; `text` is as for [`Reward::rate`].
    fn explain(&mut self, _sample: &Sample<'_>, _text: Option<&str>) -> Option<String> {
        None
    }

    /// How many distinct texts of the last batch were cut at a length limit, so that their ends counted for nothing.
    fn truncated(&self) -> usize {
        0
    }

    /// What rating the last batch took.
    fn metrics(&self) -> Vec<ComponentMetric> {
        Vec::new()
    }

    /// What a person should look at, each reported once.
    fn warnings(&mut self) -> Vec<String> {
        Vec::new()
    }
}

/// Something that a component tells of the last batch, besides its values.
#[derive(Clone, Debug, PartialEq)]
pub struct ComponentMetric {
    /// Its name, which follows the component's: `reward/COMPONENT_NAME`.
    pub name: Cow<'static, str>,
    /// Its value.
    pub value: f64,
    /// What several batches come to.
    pub over_batches: metric::Aggregate,
}

impl ComponentMetric {
    /// A count, which is summed.
    pub fn count(name: &'static str, value: f64) -> Self {
        Self { name: name.into(), value, over_batches: metric::Aggregate::Sum }
    }

    /// A mean, of which the mean is taken.
    pub fn mean(name: &'static str, value: f64) -> Self {
        Self { name: name.into(), value, over_batches: metric::Aggregate::Mean }
    }
}

/// Why a component ends the stage instead of leaving values out.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[error("{message}")]
pub struct RewardError {
    /// One sentence.
    pub message: String,
    /// What to do about it.
    pub hint: Option<String>,
    /// Of which kind it is: whether another attempt may succeed.
    pub class: FailureClass,
}

impl RewardError {
    /// Rating was asked to stop.
    pub(super) fn interrupted() -> Self {
        Self { message: "rating was stopped".to_owned(), hint: None, class: FailureClass::Interrupted }
    }
}

/// Why an encoder does not load or does not embed.
pub type EncoderError = Box<dyn Error + Send + Sync>;

/// Loads the encoder with the given digest, to compute in the given kind of numbers and put the given prompt before every
/// text; without one, its own default.
pub type LoadEncoder<'a> = dyn FnMut(&Digest, Dtype, Option<&str>) -> Result<Box<dyn TextEncoder>, EncoderError> + 'a;

/// Counts the tokens of a text as the policy's tokenizer cuts it, without special tokens.
pub type CountTokens = Box<dyn Fn(&str) -> Result<usize, EncoderError> + Send>;

/// Turns texts into L2-normalized embeddings.
pub trait TextEncoder: Send {
    /// One unit vector a text, in order.
    fn embed(&mut self, texts: &[&str]) -> Result<Vec<Vec<f32>>, EncoderError>;

    /// How many texts of the last call were cut at the encoder's length limit.
    fn truncated(&self) -> usize {
        0
    }
}
