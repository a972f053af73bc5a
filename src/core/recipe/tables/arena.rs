//! `[stages.NAME]` of the kind `arena`, and its judges.

use super::one_or_many::string_or_strings;
use crate::recipe::spec::{CompareWith, Dtype, Split};
use crate::recipe::tables::sampling::SamplingTable;
use schemars::JsonSchema;
use serde::de::Error as _;
use serde::{Deserialize, Deserializer};
use std::collections::BTreeMap;

/// Comparisons of models: all answer the same held-out questions, and judges say of two answers which is better. There
/// is one for the whole recipe: its players are the stages named in `after` in every variant of the sweep that has
/// them.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[schemars(extend("additionalProperties" = false))]
pub struct ArenaTable {
    /// Names the kind of stage, and with it the keys it takes.
    #[schemars(extend("const" = "arena"))]
    pub kind: String,
    /// The stage, or the stages, whose models play, of every variant that has them.
    #[schemars(schema_with = "string_or_strings")]
    pub after: toml::Value,
    /// Whether the model of `[model]` plays too, as it was before any training.
    pub base: bool,
    /// The data set that is read.
    pub data: String,
    /// The side of the data set's split that is read; default: `eval`.
    pub split: Option<Split>,
    /// Only this many questions are asked, chosen by content hash; default: all.
    #[schemars(range(min = 1))]
    pub questions: Option<usize>,
    /// The arena's own seed, instead of the recipe's; a sweep over `seed` does not change it.
    pub seed: Option<u64>,
    /// Divides the logits; 0 takes the most likely token.
    #[schemars(range(min = 0))]
    pub temperature: f64,
    /// How answers are sampled.
    #[serde(flatten)]
    pub sampling: SamplingTable,
    /// Answers decoded at a time.
    #[schemars(range(min = 1))]
    pub batch_size: usize,
    /// Which pairs are compared: all, on every question (`full`), or a quarter of `max_comparisons` for all pairs alike
    /// and the rest for pairs whose order is least certain (`adaptive`).
    pub pairs: PairsName,
    /// Pairs of answers that are compared under `pairs = "adaptive"`; every judge compares each, models in both orders.
    #[schemars(range(min = 1))]
    pub max_comparisons: Option<usize>,
    /// Whether models that differ only in their seeds form one player, with each model listed below it, or are players
    /// of their own.
    pub pool_seeds: bool,
    /// The judges that compare answers, each under a name of your choice.
    #[schemars(extend("propertyNames" = { "pattern": "^[a-z0-9_-]+$" }, "minProperties" = 1))]
    pub judges: BTreeMap<String, ArenaJudgeTable>,
    /// Standard deviation, in Elo points, of the normal prior round 1500 that every rating has; it keeps the rating of
    /// a player who wins every game finite.
    #[schemars(extend("exclusiveMinimum" = 0))]
    pub prior_sd: f64,
    /// Bootstrap resamples of the questions behind each 95% interval.
    #[schemars(range(min = 1))]
    pub bootstrap_resamples: u32,
    /// The stage fails when a judge has no verdict on a greater share of the last 32 comparisons.
    #[schemars(range(min = 0, max = 1))]
    pub max_missing_fraction: f64,
}

/// Which pairs are compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum PairsName {
    /// Every player with every other, on every question.
    Full,
    /// Whose order is least certain.
    Adaptive,
}

/// A judge of an arena; its `kind` (default: its name) decides which keys it takes.
#[derive(Clone, Debug, JsonSchema)]
#[schemars(untagged)]
pub enum ArenaJudgeTable {
    /// An encoder, with no server.
    Similarity(SimilarityTable),
    /// Language models.
    Judge(PairJudgesTable),
}

impl<'de> Deserialize<'de> for ArenaJudgeTable {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let value = toml::Value::deserialize(deserializer)?;
        match value.get("kind").and_then(toml::Value::as_str) {
            Some("similarity") => SimilarityTable::deserialize(value).map(Self::Similarity),
            Some("judge") => PairJudgesTable::deserialize(value).map(Self::Judge),
            _ => return Err(D::Error::custom("`kind` must be `similarity` or `judge`")),
        }
        .map_err(D::Error::custom)
    }
}

/// An encoder that judges with no server: of two answers the one is better whose embedding has the greater cosine with
/// that of the row's reference.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SimilarityTable {
    /// The kind of judge; default: the judge's name.
    #[schemars(extend("const" = "similarity"))]
    pub kind: String,
    /// The part of an answer that is read: `completion`, `think`, `answer`, `explanation` or `tag:NAME`.
    pub scope: String,
    /// The encoder's Hugging Face directory.
    pub encoder: String,
    /// Number format of the encoder.
    pub dtype: Dtype,
    /// Put before every text; default: the prompt that the encoder's files name.
    pub prompt: Option<String>,
    /// What answers are to be similar to: the row's `reference` or, where there is none, its `prompt`, which rewards
    /// answers on the topic, right or wrong. Default: `reference` if the data set has that template, else `prompt`.
    pub compare_with: Option<CompareWith>,
    /// Cosines that are closer than this tie.
    #[schemars(range(min = 0, max = 2))]
    pub tie_margin: f64,
}

/// Language models that read two answers in both orders and say which one is better. Their answers are kept in
/// `runs/judge-cache`.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PairJudgesTable {
    /// The kind of judge; default: the judge's name.
    #[schemars(extend("const" = "judge"))]
    pub kind: String,
    /// The part of an answer that is read: `completion`, `think`, `answer`, `explanation` or `tag:NAME`.
    pub scope: String,
    /// Names of the models that are asked, each a judge of its own; `[runtime.judges.NAME]` says where each is served.
    #[schemars(length(min = 1))]
    pub judges: Vec<String>,
    /// Template of the prompt for a pair, over `prompt`, `first`, `second` (the parts that `scope` names), `reference`
    /// and `answer`; default: that of the reward `judge`. The request demands `{"reason": text, "verdict": "first",
    /// "second" or "tie"}` as the answer.
    pub pair_prompt: Option<String>,
    /// Divides the judge's logits; 0: its most likely answer.
    #[schemars(range(min = 0))]
    pub temperature: f64,
    /// The seed of the judge's sampling.
    pub seed: u32,
    /// Longest answer of a judge, in tokens; a longer one is cut and counts as missing.
    #[schemars(range(min = 1))]
    pub max_tokens: u32,
}
