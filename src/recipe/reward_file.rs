//! `[stages.NAME.rewards.NAME]`: one table type for each reward component.

use super::spec::{Aggregate, OnError, RougeMeasure, RougeTokenizer, RougeVariant};
use schemars::JsonSchema;
use serde::de::Error as _;
use serde::{Deserialize, Deserializer};

/// A reward component; its `kind` (default: its name) decides which keys it takes.
#[derive(Clone, Debug, JsonSchema)]
#[schemars(untagged)]
pub enum RewardTable {
    /// Cosine similarity of embeddings with the reference.
    Semantic(SemanticTable),
    /// ROUGE overlap with the reference.
    Rouge(RougeTable),
    /// Whether the answer is the right one.
    Correctness(CorrectnessTable),
    /// Whether the tags are in order.
    Format(FormatTable),
    /// Whether there is reasoning.
    Cot(CotTable),
    /// What language models say of it by a rubric.
    Judge(Box<JudgeTable>),
}

impl<'de> Deserialize<'de> for RewardTable {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let value = toml::Value::deserialize(deserializer)?;
        match value.get("kind").and_then(toml::Value::as_str) {
            Some("semantic") => SemanticTable::deserialize(value).map(Self::Semantic),
            Some("rouge") => RougeTable::deserialize(value).map(Self::Rouge),
            Some("correctness") => CorrectnessTable::deserialize(value).map(Self::Correctness),
            Some("format") => FormatTable::deserialize(value).map(Self::Format),
            Some("cot") => CotTable::deserialize(value).map(Self::Cot),
            Some("judge") => JudgeTable::deserialize(value).map(|table| Self::Judge(Box::new(table))),
            _ => return Err(D::Error::custom("`kind` must name a reward component")),
        }
        .map_err(D::Error::custom)
    }
}

/// What every component's table says.
#[derive(Clone, Copy, Debug)]
pub struct CommonKeys<'a> {
    /// Factor in the total.
    pub weight: f64,
    /// The part of the completion that is looked at, as written.
    pub scope: &'a str,
    /// Bounds of the value.
    pub clip: Option<[f64; 2]>,
    /// Factor of the clipped value.
    pub scale: f64,
    /// What becomes of a completion without a value.
    pub on_error: OnError,
}

impl RewardTable {
    /// What every component's table says.
    pub fn common(&self) -> CommonKeys<'_> {
        macro_rules! of {
            ($($kind:ident),+) => {
                match self {
                    $(Self::$kind(table) => CommonKeys {
                        weight: table.weight,
                        scope: &table.scope,
                        clip: table.clip,
                        scale: table.scale,
                        on_error: table.on_error,
                    },)+
                }
            };
        }
        of!(Semantic, Rouge, Correctness, Format, Cot, Judge)
    }

    /// Factor in the total.
    pub fn weight(&self) -> f64 {
        self.common().weight
    }
}

/// Cosine similarity of encoder embeddings with the reference (arXiv:2509.13081).
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SemanticTable {
    /// What is computed; default: the component's name.
    #[schemars(extend("const" = "semantic"))]
    pub kind: String,
    /// Factor in the total; with 0 the component is held out: measured, but no part of the reward.
    pub weight: f64,
    /// The part of the completion that is looked at: `completion`, `think`, `answer`, `explanation` or `tag:NAME`.
    pub scope: String,
    /// `[low, high]`: a value outside is brought to the bound; default: as it is.
    pub clip: Option<[f64; 2]>,
    /// Factor of the value, after `clip`. Unlike `weight`, it is part of the value that is logged and normalized.
    pub scale: f64,
    /// What becomes of a completion that has no value: `missing` leaves it out of its group, `fail` fails the stage.
    pub on_error: OnError,
    /// A Hugging Face directory of a sentence encoder, or `hf://owner/name@revision`.
    pub encoder: String,
    /// Rescales to `clip((cos - b) / (1 - b), 0, 1)`; default: the raw cosine.
    #[schemars(range(min = 0), extend("exclusiveMaximum" = 1))]
    pub baseline: Option<f64>,
    /// Put before every text, completions and references alike, as models that were trained with instructions want it
    /// (E5: `"query: "`; Qwen3-Embedding: `"Instruct: ...\nQuery:"`); default: the one the encoder's
    /// `config_sentence_transformers.json` names as its default, if any. `""` is none.
    pub prompt: Option<String>,
}

/// ROUGE overlap with the reference.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RougeTable {
    /// What is computed; default: the component's name.
    #[schemars(extend("const" = "rouge"))]
    pub kind: String,
    /// Factor in the total; with 0 the component is held out: measured, but no part of the reward.
    pub weight: f64,
    /// The part of the completion that is looked at: `completion`, `think`, `answer`, `explanation` or `tag:NAME`.
    pub scope: String,
    /// `[low, high]`: a value outside is brought to the bound; default: as it is.
    pub clip: Option<[f64; 2]>,
    /// Factor of the value, after `clip`. Unlike `weight`, it is part of the value that is logged and normalized.
    pub scale: f64,
    /// What becomes of a completion that has no value: `missing` leaves it out of its group, `fail` fails the stage.
    pub on_error: OnError,
    /// N-grams or longest common subsequence.
    pub variant: RougeVariant,
    /// Which of precision, recall and F1.
    pub measure: RougeMeasure,
    /// How text is cut into words.
    pub tokenizer: RougeTokenizer,
}

/// What makes an answer equal to the row's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum MatchName {
    /// The first letter that stands alone, where the row's answer is one letter; else the whole text.
    Choice,
    /// The whole text; upper and lower case, and any white space, are the same.
    Exact,
    /// The last number of the text, within `tolerance`.
    Numeric,
    /// The same items, in any order.
    Set,
}

/// 1 when the answer equals the row's, else 0.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CorrectnessTable {
    /// What is computed; default: the component's name.
    #[schemars(extend("const" = "correctness"))]
    pub kind: String,
    /// Factor in the total; with 0 the component is held out: measured, but no part of the reward.
    pub weight: f64,
    /// The part of the completion that is looked at: `completion`, `think`, `answer`, `explanation` or `tag:NAME`.
    pub scope: String,
    /// `[low, high]`: a value outside is brought to the bound; default: as it is.
    pub clip: Option<[f64; 2]>,
    /// Factor of the value, after `clip`. Unlike `weight`, it is part of the value that is logged and normalized.
    pub scale: f64,
    /// What becomes of a completion that has no value: `missing` leaves it out of its group, `fail` fails the stage.
    pub on_error: OnError,
    /// What makes an answer equal to the row's: `choice`, `exact`, `numeric` or `set`.
    #[serde(rename = "match")]
    pub matching: MatchName,
    /// How far a number may be from the row's, either way, with `match = "numeric"`; default: 0.
    #[schemars(range(min = 0))]
    pub tolerance: Option<f64>,
    /// Regular expression with one group: the answer is what the group holds at the last place in the scope where it
    /// matches, and a completion without such a place is wrong. Default: the whole scope.
    pub pattern: Option<String>,
}

/// 1 when the tags stand once each, in order, closed, with nothing but white space between, else 0.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct FormatTable {
    /// What is computed; default: the component's name.
    #[schemars(extend("const" = "format"))]
    pub kind: String,
    /// Factor in the total; with 0 the component is held out: measured, but no part of the reward.
    pub weight: f64,
    /// The part of the completion that is looked at: `completion`, `think`, `answer`, `explanation` or `tag:NAME`.
    pub scope: String,
    /// `[low, high]`: a value outside is brought to the bound; default: as it is.
    pub clip: Option<[f64; 2]>,
    /// Factor of the value, after `clip`. Unlike `weight`, it is part of the value that is logged and normalized.
    pub scale: f64,
    /// What becomes of a completion that has no value: `missing` leaves it out of its group, `fail` fails the stage.
    pub on_error: OnError,
    /// Names of the tags, in order.
    #[schemars(length(min = 1))]
    pub tags: Vec<String>,
}

/// 1 when the scope holds at least `min_words` words, else 0.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CotTable {
    /// What is computed; default: the component's name.
    #[schemars(extend("const" = "cot"))]
    pub kind: String,
    /// Factor in the total; with 0 the component is held out: measured, but no part of the reward.
    pub weight: f64,
    /// The part of the completion that is looked at: `completion`, `think`, `answer`, `explanation` or `tag:NAME`.
    pub scope: String,
    /// `[low, high]`: a value outside is brought to the bound; default: as it is.
    pub clip: Option<[f64; 2]>,
    /// Factor of the value, after `clip`. Unlike `weight`, it is part of the value that is logged and normalized.
    pub scale: f64,
    /// What becomes of a completion that has no value: `missing` leaves it out of its group, `fail` fails the stage.
    pub on_error: OnError,
    /// Fewest words that count as reasoning.
    #[schemars(range(min = 1))]
    pub min_words: usize,
}

/// What language models say of it by a rubric, from 0 to 1. Their answers are kept in `runs/judge-cache`.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct JudgeTable {
    /// What is computed; default: the component's name.
    #[schemars(extend("const" = "judge"))]
    pub kind: String,
    /// Factor in the total; with 0 the component is held out: measured, but no part of the reward.
    pub weight: f64,
    /// The part of the completion that is looked at: `completion`, `think`, `answer`, `explanation` or `tag:NAME`.
    pub scope: String,
    /// `[low, high]`: a value outside is brought to the bound; default: as it is.
    pub clip: Option<[f64; 2]>,
    /// Factor of the value, after `clip`. Unlike `weight`, it is part of the value that is logged and normalized.
    pub scale: f64,
    /// What becomes of a completion that has no value: `missing` leaves it out of its group, `fail` fails the stage.
    pub on_error: OnError,
    /// Names of the models that are asked, each for itself; `[runtime.judges.NAME]` says where each is served.
    #[schemars(length(min = 1))]
    pub judges: Vec<String>,
    /// How several judges' values become one: `mean`, `median` or `min`.
    pub aggregate: Aggregate,
    /// Template of what a judge is told, over `prompt`, `completion` (the part that `scope` names), `reference`, `answer`,
    /// `min_score` and `max_score`. The request demands `{"score": integer}` as the answer.
    pub prompt: String,
    /// The lowest score of the rubric's scale, value 0.
    pub min_score: i64,
    /// The highest score of the rubric's scale, value 1.
    pub max_score: i64,
    /// Divides the judge's logits; 0: its most likely answer.
    #[schemars(range(min = 0))]
    pub temperature: f64,
    /// The seed that the judge draws with.
    pub seed: u32,
    /// A judge's answer is cut here, and missing then.
    #[schemars(range(min = 1))]
    pub max_tokens: u32,
}
