//! The reward mix: typed components, their weighted sum, and nothing about tensors.
//!
//! One file a component ([`component`] says how to add one). The encoder behind `semantic` comes in through [`TextEncoder`]. A value that cannot be computed
//! (no reference, a failed encoder) is *missing*, with a reason, never 0; what the policy itself failed to produce (a tag
//! it did not write) is a measured value, the component's floor of 0.
//!
//! [`RewardMix`] cuts the scopes out of the completions ([`span`]), asks every component ([`Reward`]) and adds up.
//! [`reward_metrics`] puts a step's scores into numbers, [`RewardWatch`] warns when they look gamed. [`calibrate`] says how
//! well a mix tells good texts from bad ones, before anything is trained on it; [`JudgeLab`] measures its judges. [`PairJudges`]
//! compares any two texts.

mod calibration;
pub mod component;
mod components;
mod mix;
mod pages;
mod remote;
mod served;
mod spec;
mod summary;
mod table;
#[cfg(test)]
mod testing;
mod text;
mod watch;

pub use calibration::{Calibration, ComponentCalibration, PER_ROW, Spread, calibrate};
pub use component::{Component, KINDS, KindEntry};
pub use components::judge::{
    Agreement, Expenses, JudgeAccess, JudgeError, JudgeLab, JudgeMeasured, JudgeReport, Judgement, OF_A_PAIR,
    PAIR_PROMPT, Pair, PairJudges, PairVerdict, PositionBias, Preference, RepeatSpread, check_served,
};
pub use components::{
    Aggregate, CommandSpec, CorrectnessSpec, CotSpec, FormatSpec, Grading, HttpError, HttpSpec, JudgeMode,
    JudgeSampling, JudgeSpec, Leak, LengthSpec, Match, Overlap, RepetitionSpec, RougeMeasure, RougeSpec,
    RougeTokenizer, RougeVariant, RubricScale, SemanticSpec, SeveralReferences, rouge,
};
pub use mix::{BuildError, RewardContext, RewardMix, RewardMixError, RewardScore, Setup};
pub use pages::{ComponentKey, Page, pages};
pub use remote::reach::{reach_judge, reach_service};
pub use remote::stop::StopCheck;
pub use served::{HttpEndpoint, JudgeServer};
pub use spec::{NoScope, OnError, RewardSpec, Scope, TAG_RULE, is_tag, total_range};
pub use summary::{flat_groups, reward_metrics, spread_shares};
pub use table::{At, CommonTable, RewardTable, TableContext, table_name};
pub use text::spans::span;
pub use text::stem::stem;
pub use watch::{RewardWatch, Watched, repeats};

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
    fn binary(holds: bool) -> Self {
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

    /// What a person should look at, each told once.
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
    fn interrupted() -> Self {
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
