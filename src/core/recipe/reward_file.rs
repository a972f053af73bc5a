//! `[stages.NAME.rewards.NAME]`: one table type for each reward component.

use super::spec::{
    Aggregate, Dtype, Grading, Leak, OnError, RougeMeasure, RougeTokenizer, RougeVariant, SeveralReferences,
};
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
    /// Whether the text has the form that was asked for.
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
        of!(Semantic, Rouge, Correctness, Format, Cot, Judge, Command, Http, Length, Repetition)
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
    /// What the encoder computes in: `bfloat16` is faster where the processor multiplies it, and moves cosines by about
    /// 0.0005. Embeddings are pooled and brought to length 1 in 32 bits in any case.
    pub dtype: Dtype,
    /// Rescales to `clip((cos - b) / (1 - b), 0, 1)`; default: the raw cosine.
    #[schemars(range(min = 0), extend("exclusiveMaximum" = 1))]
    pub baseline: Option<f64>,
    /// Put before every text, completions and references alike, as models that were trained with instructions want it
    /// (E5: `"query: "`; Qwen3-Embedding: `"Instruct: ...\nQuery:"`); default: the one the encoder's
    /// `config_sentence_transformers.json` names as its default, if any. `""` is none.
    pub prompt: Option<String>,
    /// The row's reference may be a JSON list of texts: the `max` or the `mean` of their values counts. Default: it is one
    /// text, whatever it looks like.
    pub references: Option<SeveralReferences>,
    /// Compares every run of this many sentences and takes the nearest; default: the text as a whole.
    #[schemars(range(min = 1))]
    pub window_sentences: Option<usize>,
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
    /// Compares English words by their stems (`pumps` and `pumping` are the same), as rouge-score's `use_stemmer`; takes
    /// `tokenizer = "rouge-score"`.
    pub stemming: bool,
}

/// What makes an answer equal to the row's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum MatchName {
    /// The letter that the text chooses, where the row's answer is one letter; else the whole text.
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

/// Whether the text has the form that one of `tags`, `pattern` and `json_schema` says.
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
    /// Names of the tags that stand once each, in this order, closed, with nothing but white space around them.
    #[schemars(length(min = 1))]
    pub tags: Option<Vec<String>>,
    /// `binary`: 1 when all tags are right, else 0; `graded`: the share of the tags that are. Default: `binary`.
    pub grading: Option<Grading>,
    /// What the tag `answer` may hold, e.g. the letters of the options, in upper or lower case; default: anything.
    #[schemars(length(min = 1))]
    pub answers: Option<Vec<String>>,
    /// Regular expression that the whole text is to match, instead of `tags`.
    pub pattern: Option<String>,
    /// JSON schema that the text is to fulfil, instead of `tags`: a table, or the path of a file.
    #[schemars(
        with = "Option<serde_json::Value>",
        extend("type" = ["string", "object"], "additionalProperties" = true)
    )]
    pub json_schema: Option<toml::Value>,
}

/// 1 when the scope holds from `min_words` to `max_words` words, and `min_tokens` to `max_tokens` tokens, before the answer,
/// else 0.
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
    /// Most words that do; default: any number.
    #[schemars(range(min = 1))]
    pub max_words: Option<usize>,
    /// Fewest tokens that do, as the policy's tokenizer cuts the reasoning; default: any number.
    #[schemars(range(min = 1))]
    pub min_tokens: Option<usize>,
    /// Most tokens that do; default: any number.
    #[schemars(range(min = 1))]
    pub max_tokens: Option<usize>,
    /// Where the row's answer must not be stated: nowhere in particular (`ignore`), `before` the reasoning has its
    /// `min_words`, or anywhere before it is closed (`inside`).
    pub leak: Leak,
}

/// What a judge is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum JudgeModeName {
    /// How good a completion is.
    Rubric,
    /// Whether it is better than the row's reference.
    PairWithReference,
    /// Whether it is better than the others of its group.
    PairWithinGroup,
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
    /// What judges are asked: how good a completion is (`rubric`), or which of two is better, it or the row's reference
    /// (`pair_with_reference`), it or each of the others of its group (`pair_within_group`). Pairs are asked about in both
    /// orders; the value is the share of wins, ties counted half.
    pub mode: JudgeModeName,
    /// Template of what a judge is told, over `prompt`, `completion` (the part that `scope` names), `reference`, `answer`,
    /// `min_score` and `max_score`, for `mode = "rubric"`. The request demands `{"score": integer}` as the answer.
    pub prompt: Option<String>,
    /// The lowest score of the rubric's scale, value 0.
    pub min_score: Option<i64>,
    /// The highest score of the rubric's scale, value 1.
    pub max_score: Option<i64>,
    /// Template of what a judge is told of a pair, over `prompt`, `first`, `second` (the parts that `scope` names, or the
    /// reference), `answer` and, within a group, `reference`. The request demands `{"reason": text, "verdict": "first",
    /// "second" or "tie"}` as the answer.
    pub pair_prompt: Option<String>,
    /// With how many others of its group a completion is compared: those next to it, after and before; default: all.
    #[schemars(range(min = 1))]
    pub opponents: Option<usize>,
    /// Divides the judge's logits; 0: its most likely answer.
    #[schemars(range(min = 0))]
    pub temperature: f64,
    /// The seed that the judge draws with.
    pub seed: u32,
    /// A judge's answer is cut here, and missing then.
    #[schemars(range(min = 1))]
    pub max_tokens: u32,
}

/// What a program of yours says of it. It reads a JSON line for each completion, `{"id", "prompt", "completion", "text" (the
/// part that `scope` names), "reference", "answer"}`, `null` for what is not there, and writes one for each, in order and
/// flushed: `{"id" (the same), "value": number}` or `{"id", "missing": "why"}`. It runs as long as the stage; questions that
/// are equal but for their `id` must have equal answers.
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
    /// `[low, high]`: a value outside is brought to the bound; default: as it is.
    pub clip: Option<[f64; 2]>,
    /// Factor of the value, after `clip`. Unlike `weight`, it is part of the value that is logged and normalized.
    pub scale: f64,
    /// What becomes of a completion that has no value: `missing` leaves it out of its group, `fail` fails the stage.
    pub on_error: OnError,
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
}

/// What a service of yours says of it. It is posted a JSON array of completions, each as `command` gets it but for the
/// `id`, and answers with an array of `{"value": number}` or `{"missing": "why"}`, as long and in the same order.
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
    /// `[low, high]`: a value outside is brought to the bound; default: as it is.
    pub clip: Option<[f64; 2]>,
    /// Factor of the value, after `clip`. Unlike `weight`, it is part of the value that is logged and normalized.
    pub scale: f64,
    /// What becomes of a completion that has no value: `missing` leaves it out of its group, `fail` fails the stage.
    pub on_error: OnError,
    /// Name of the service; `[runtime.endpoints.NAME]` says where it is served.
    pub endpoint: String,
    /// Which version of the service is asked: another one has other answers, so stages run again and kept answers do not
    /// count. Default: none.
    pub version: Option<String>,
    /// Keeps every answer in `runs/judge-cache`, as equal completions have equal answers, whatever is asked beside them. A
    /// resume or a rerun is the same to the bit only with it.
    pub cache: bool,
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
    /// `[low, high]`: a value outside is brought to the bound; default: as it is.
    pub clip: Option<[f64; 2]>,
    /// Factor of the value, after `clip`. Unlike `weight`, it is part of the value that is logged and normalized.
    pub scale: f64,
    /// What becomes of a completion that has no value: `missing` leaves it out of its group, `fail` fails the stage.
    pub on_error: OnError,
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
    /// `[low, high]`: a value outside is brought to the bound; default: as it is.
    pub clip: Option<[f64; 2]>,
    /// Factor of the value, after `clip`. Unlike `weight`, it is part of the value that is logged and normalized.
    pub scale: f64,
    /// What becomes of a completion that has no value: `missing` leaves it out of its group, `fail` fails the stage.
    pub on_error: OnError,
    /// Words in an n-gram.
    #[schemars(range(min = 1, max = 1000))]
    pub ngram: usize,
}
