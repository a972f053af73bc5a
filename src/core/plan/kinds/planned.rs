//! The interface of a kind of stage to the planner.

use crate::digest::Digest;
use crate::plan::memory::{MemoryEstimate, StageModel};
use crate::recipe::spec::{Component, Dtype, ModelSpec, RewardSpec, Work};
use serde_json::Value;
use std::collections::BTreeMap;

/// The approximate bytes of a token of text.
pub(super) const TOKEN_BYTES: f64 = 4.0;
/// The approximate bytes of a row of questions.
pub(super) const ROW_BYTES: f64 = 500.0;
/// The approximate cost of decoding a token relative to reading one. Decoding reads the weights for only a few rows at
/// a time.
pub(super) const DECODING: f64 = 10.0;

/// The properties of a stage's work that planning needs.
pub trait PlannedWork {
    /// Returns the version of the code of this work. It is incremented whenever the same spec gives another result.
    fn version(&self) -> u32;

    /// Tokens that it reads, those it decodes counting more, of `data_bytes` bytes of data: an estimate that orders
    /// stages without looking into their data.
    fn work_size(&self, data_bytes: u64) -> f64;

    /// Bytes at the peak, on this model; absent where it is unknown.
    fn memory(&self, model: &StageModel<'_>) -> Option<MemoryEstimate>;

    /// Returns the encoders and classifiers that rate texts, each as often as it is loaded, with the format of its
    /// weights. All are in memory beside the model.
    fn encoders(&self) -> Vec<(&Digest, Dtype)> {
        Vec::new()
    }

    /// Returns the settings that, with the model's tokenizer, determine which tokens the stage reads.
    fn reads(&self) -> Value;

    /// Requests that it sends to each judge, by its name, when no two completions are equal, none is empty, and no
    /// answer is kept from before; prompts that may be drawn in addition are counted. Retries are not. An evaluation's
    /// data sets are not counted before they are read, so nothing is said of it, nor of an arena that asks all
    /// questions.
    fn judge_calls(&self) -> BTreeMap<String, u64> {
        BTreeMap::new()
    }

    /// Returns the models, beside the stage's own, that are loaded one at a time.
    fn further_models(&self) -> Vec<&ModelSpec> {
        Vec::new()
    }
}

/// Returns the planning interface of `work`.
pub fn planned(work: &Work) -> &dyn PlannedWork {
    match work {
        Work::Cpt(spec) => spec,
        Work::Sft(spec) => spec,
        Work::Grpo(spec) => spec,
        Work::Eval(spec) => spec,
        Work::Generate(spec) => spec,
        Work::Command(spec) => spec,
        Work::Arena(spec) => spec,
    }
}

/// Returns the encoders and classifiers of a reward mix. Each component loads its own.
pub(super) fn encoders_of<'a>(rewards: &'a BTreeMap<String, RewardSpec>) -> Vec<(&'a Digest, Dtype)> {
    let encoder = |reward: &'a RewardSpec| match &reward.component {
        Component::Semantic(semantic) => Some((&semantic.encoder, semantic.dtype)),
        Component::Classifier(classifier) => Some((&classifier.model, classifier.dtype)),
        _ => None,
    };
    rewards.values().filter_map(encoder).collect()
}
