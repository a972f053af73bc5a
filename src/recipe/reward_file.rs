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
    /// Whether the choice letter is the right one.
    Correctness(CorrectnessTable),
    /// Whether the tags are in order.
    Format(FormatTable),
    /// Whether there is reasoning.
    Cot(CotTable),
    /// What language models say of it by a rubric.
    Judge(Box<JudgeTable>),
    /// What a program of yours says of it.
    Command(CommandTable),
    /// What a service of yours says of it.
    Http(HttpTable),
    /// Whether it is as long as it should be.
    Length(LengthTable),
    /// How little it repeats itself.
    Repetition(RepetitionTable),
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
            Some("command") => CommandTable::deserialize(value).map(Self::Command),
            Some("http") => HttpTable::deserialize(value).map(Self::Http),
            Some("length") => LengthTable::deserialize(value).map(Self::Length),
            Some("repetition") => RepetitionTable::deserialize(value).map(Self::Repetition),
            _ => return Err(D::Error::custom("`kind` must name a reward component")),
        }
        .map_err(D::Error::custom)
    }
}

impl RewardTable {
    /// Factor in the total.
    pub fn weight(&self) -> f64 {
        match self {
            Self::Semantic(table) => table.weight,
            Self::Rouge(table) => table.weight,
            Self::Correctness(table) => table.weight,
            Self::Format(table) => table.weight,
            Self::Cot(table) => table.weight,
            Self::Judge(table) => table.weight,
            Self::Command(table) => table.weight,
            Self::Http(table) => table.weight,
            Self::Length(table) => table.weight,
            Self::Repetition(table) => table.weight,
        }
    }

    /// The part of the completion that is looked at, as written.
    pub fn scope(&self) -> &str {
        match self {
            Self::Semantic(table) => &table.scope,
            Self::Rouge(table) => &table.scope,
            Self::Correctness(table) => &table.scope,
            Self::Format(table) => &table.scope,
            Self::Cot(table) => &table.scope,
            Self::Judge(table) => &table.scope,
            Self::Command(table) => &table.scope,
            Self::Http(table) => &table.scope,
            Self::Length(table) => &table.scope,
            Self::Repetition(table) => &table.scope,
        }
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
    /// N-grams or longest common subsequence.
    pub variant: RougeVariant,
    /// Which of precision, recall and F1.
    pub measure: RougeMeasure,
    /// How text is cut into words.
    pub tokenizer: RougeTokenizer,
}

/// 1 when the choice letter equals the row's answer, else 0.
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
    /// Factor in the total.
    pub weight: f64,
    /// The part of the completion that is looked at: `completion`, `think`, `answer`, `explanation` or `tag:NAME`.
    pub scope: String,
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
    /// What becomes of a completion without a score: `missing` leaves it out of its group, `fail` fails the stage.
    pub on_error: OnError,
}

/// What a program of yours says of it. It reads a JSON line for each completion, `{"prompt", "completion", "text" (the part
/// that `scope` names), "reference", "answer"}`, `null` for what is not there, and writes one for each, in order and flushed:
/// `{"value": number}` or `{"missing": "why"}`. It runs as long as the stage; equal lines must have equal answers.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CommandTable {
    /// What is computed; default: the component's name.
    #[schemars(extend("const" = "command"))]
    pub kind: String,
    /// Factor in the total; with 0 the component is held out: measured, but no part of the reward.
    pub weight: f64,
    /// The part of the completion that is looked at: `completion`, `think`, `answer`, `explanation` or `tag:NAME`.
    pub scope: String,
    /// The program and its arguments, e.g. `["python3", "rewards/units.py"]`; no shell reads them. An argument that is one of
    /// `files` becomes that file's absolute path.
    #[schemars(length(min = 1))]
    pub command: Vec<String>,
    /// What the program is made of and reads: scripts, data; patterns are allowed. Their content, not their place, is part of
    /// the stage's cache key.
    pub files: Vec<String>,
    /// Names of the variables of the environment that it is given, beside `PATH`, `HOME`, `USER`, `TMPDIR`, `TZ` and the
    /// locale's.
    pub env: Vec<String>,
    /// Seconds that a batch may take, the program's start included; what is not answered then is missing.
    #[schemars(range(max = 86400), extend("exclusiveMinimum" = 0))]
    pub timeout_s: f64,
    /// What becomes of a completion without a value: `missing` leaves it out of its group, `fail` fails the stage.
    pub on_error: OnError,
}

/// What a service of yours says of it. It is posted a JSON array of completions, each as `command` gets it, and answers with an
/// array of `{"value": number}` or `{"missing": "why"}`, as long and in the same order.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct HttpTable {
    /// What is computed; default: the component's name.
    #[schemars(extend("const" = "http"))]
    pub kind: String,
    /// Factor in the total; with 0 the component is held out: measured, but no part of the reward.
    pub weight: f64,
    /// The part of the completion that is looked at: `completion`, `think`, `answer`, `explanation` or `tag:NAME`.
    pub scope: String,
    /// Name of the service; `[runtime.endpoints.NAME]` says where it is served.
    pub endpoint: String,
    /// Which version of the service is asked: another one has other answers, so stages run again and kept answers do not
    /// count. Default: none.
    pub version: Option<String>,
    /// Keeps every answer in `runs/judge-cache`, as equal completions have equal answers, whatever is asked beside them. A
    /// resume or a rerun is the same to the bit only with it.
    pub cache: bool,
    /// What becomes of a completion without a value: `missing` leaves it out of its group, `fail` fails the stage.
    pub on_error: OnError,
}

/// 1 for a text within a range of words, falling in a straight line to 0 outside, and 0 where the text is not there. What a
/// completion loses near `max_new_tokens`, in tokens, is the stage's `overlong_buffer_tokens`.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct LengthTable {
    /// What is computed; default: the component's name.
    #[schemars(extend("const" = "length"))]
    pub kind: String,
    /// Factor in the total; with 0 the component is held out: measured, but no part of the reward.
    pub weight: f64,
    /// The part of the completion that is looked at: `completion`, `think`, `answer`, `explanation` or `tag:NAME`.
    pub scope: String,
    /// Fewest words of value 1; default: no limit, if there is `max_words`.
    #[schemars(range(min = 1))]
    pub min_words: Option<usize>,
    /// Most words of value 1; default: no limit, if there is `min_words`.
    #[schemars(range(min = 1))]
    pub max_words: Option<usize>,
    /// This many words outside the range, the value is 0; with 0 or 1, every text outside is 0.
    pub tolerance_words: usize,
}

/// 1 less the share of n-grams, in words, that stood there before; 0 for a text without a word.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RepetitionTable {
    /// What is computed; default: the component's name.
    #[schemars(extend("const" = "repetition"))]
    pub kind: String,
    /// Factor in the total; with 0 the component is held out: measured, but no part of the reward.
    pub weight: f64,
    /// The part of the completion that is looked at: `completion`, `think`, `answer`, `explanation` or `tag:NAME`.
    pub scope: String,
    /// Words in an n-gram.
    #[schemars(range(min = 1, max = 1000))]
    pub ngram: usize,
}
