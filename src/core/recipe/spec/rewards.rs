//! What rewards measure, and how: every component with every setting.

use super::Dtype;
use crate::digest::Digest;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// One component of a reward mix.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RewardSpec {
    /// Factor in the total.
    pub weight: f64,
    /// The part of the completion that is looked at.
    pub scope: Scope,
    /// Bounds that a value is brought into; absent: none.
    pub clip: Option<(f64, f64)>,
    /// Factor of the clipped value; what it makes is the component's value, in totals, statistics and records.
    pub scale: f64,
    /// What becomes of a completion without a value.
    pub on_error: OnError,
    /// What is computed.
    pub component: Component,
}

impl RewardSpec {
    /// The component as it is: neither clipped nor scaled, and missing where it cannot be computed.
    pub fn plain(weight: f64, scope: Scope, component: Component) -> Self {
        Self { weight, scope, clip: None, scale: 1.0, on_error: OnError::Missing, component }
    }

    /// The least and the greatest value that it can have; absent where nothing limits it.
    pub fn range(&self) -> Option<(f64, f64)> {
        let measured: Option<(f64, f64)> = match &self.component {
            Component::Semantic { baseline: None, .. } => Some((-1.0, 1.0)),
            Component::Command(_) | Component::Http(_) => None,
            _ => Some((0.0, 1.0)),
        };
        let (low, high) = match (measured, self.clip) {
            (Some((least, most)), Some((low, high))) => (least.clamp(low, high), most.clamp(low, high)),
            (one, other) => one.or(other)?,
        };
        let ends = (self.scale * low, self.scale * high);
        Some(if self.scale < 0.0 { (ends.1, ends.0) } else { ends })
    }
}

/// The least and the greatest value of the weighted sum of `rewards`; absent where nothing limits a component that counts, or
/// none counts.
pub fn total_range(rewards: &BTreeMap<String, RewardSpec>) -> Option<(f64, f64)> {
    let mut total = None;
    for reward in rewards.values().filter(|reward| reward.weight != 0.0) {
        let (least, most) = reward.range()?;
        let (low, high) = total.unwrap_or((0.0, 0.0));
        let ends = (reward.weight * least, reward.weight * most);
        total = Some((low + ends.0.min(ends.1), high + ends.0.max(ends.1)));
    }
    total
}

/// Part of a completion.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Scope {
    /// All of it.
    Completion,
    /// The text inside `<think>`.
    Think,
    /// The text inside `<answer>`.
    Answer,
    /// The text inside `<explanation>`; without that tag, what stands outside `<think>` and `<answer>`.
    Explanation,
    /// The text inside the named tag (`tag:NAME` in a recipe).
    Tag(String),
}

/// What a reward component computes; one file each under `rewards/`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Component {
    /// Cosine similarity of encoder embeddings with the reference (arXiv:2509.13081).
    Semantic {
        /// Digest of the encoder's directory.
        encoder: Digest,
        /// What the encoder computes in.
        dtype: Dtype,
        /// Rescales to `clip((cos - b) / (1 - b), 0, 1)`; absent: the raw cosine.
        baseline: Option<f64>,
        /// Put before every text; absent: the encoder's own default.
        prompt: Option<String>,
        /// How a JSON list of references becomes one value; absent: the reference is one text.
        references: Option<SeveralReferences>,
        /// The best of all runs of this many sentences is compared; absent: the whole text.
        window_sentences: Option<usize>,
    },
    /// ROUGE overlap with the reference.
    Rouge {
        /// N-grams or longest common subsequence.
        variant: RougeVariant,
        /// Which of precision, recall and F1.
        measure: RougeMeasure,
        /// How text is cut into words.
        tokenizer: RougeTokenizer,
        /// Whether words are compared by their stems, as rouge-score stems.
        stemming: bool,
    },
    /// 1 when the answer equals the row's, else 0.
    Correctness {
        /// What makes two answers equal.
        #[serde(rename = "match")]
        matching: Match,
        /// Regular expression of one group: the answer is what the group holds at the last place where it matches.
        /// Absent: the whole scope.
        pattern: Option<String>,
    },
    /// Whether the scope has a form.
    Format(FormatSpec),
    /// 1 when the scope is reasoning before the answer, else 0.
    Cot {
        /// Fewest words that count as reasoning.
        min_words: usize,
        /// Most words that do; absent: any number.
        max_words: Option<usize>,
        /// Fewest tokens that do, as the policy's tokenizer cuts; absent: any number.
        min_tokens: Option<usize>,
        /// Most tokens that do; absent: any number.
        max_tokens: Option<usize>,
        /// Where the row's answer must not be stated.
        leak: Leak,
    },
    /// What language models say of it.
    Judge(JudgeSpec),
    /// What a program of the user's says of it.
    Command(CommandSpec),
    /// What a service of the user's says of it.
    Http(HttpSpec),
    /// 1 within a range of words, falling to 0 outside.
    Length(LengthSpec),
    /// Distinct n-grams over all, in words.
    Repetition {
        /// Words in an n-gram.
        ngram: usize,
    },
}

/// Language models that judge a text. Where they are served is no part of it: [`crate::recipe::JudgeServer`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct JudgeSpec {
    /// Names of the models that are asked, each for itself.
    pub judges: Vec<String>,
    /// How their values become one.
    pub aggregate: Aggregate,
    /// What they are asked.
    pub mode: JudgeMode,
    /// How they answer.
    pub sampling: JudgeSampling,
}

/// What judges are asked about a text.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum JudgeMode {
    /// How good it is.
    Rubric(RubricScale),
    /// Whether it is better than the row's reference.
    PairWithReference {
        /// minijinja template of what they are told, over `prompt`, `first`, `second` and `answer`.
        prompt: String,
    },
    /// Whether it is better than the other completions of its group.
    PairWithinGroup {
        /// minijinja template of what they are told, over `prompt`, `first`, `second`, `reference` and `answer`.
        prompt: String,
        /// How many others each is compared with; absent: all of them.
        opponents: Option<usize>,
    },
}

/// A rubric and its scale.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RubricScale {
    /// minijinja template of what judges are told, over `prompt`, `completion` (the scope's part of it), `reference`,
    /// `answer`, `min_score` and `max_score`.
    pub prompt: String,
    /// The lowest score, value 0.
    pub min_score: i64,
    /// The highest score, value 1.
    pub max_score: i64,
}

/// How a judge's answer is drawn.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct JudgeSampling {
    /// Divides the judge's logits; 0: its most likely answer.
    pub temperature: f64,
    /// The seed that the judge draws with.
    pub seed: u32,
    /// An answer is cut here, and missing then.
    pub max_tokens: u32,
}

impl JudgeSpec {
    /// Requests that each judge gets about `completions` of one prompt, when no two are equal and none is empty.
    pub fn requests(&self, completions: u64) -> u64 {
        match &self.mode {
            JudgeMode::Rubric(_) => completions,
            JudgeMode::PairWithReference { .. } => 2 * completions,
            JudgeMode::PairWithinGroup { opponents, .. } => {
                let others = completions.saturating_sub(1);
                let opponents = opponents.map_or(others, |most| others.min(most as u64));
                // each one's neighbours round the group: an even number of them is met from both sides
                let both_sides = completions * (opponents / 2);
                let distance = opponents.div_ceil(2);
                let last = if opponents.is_multiple_of(2) {
                    0
                } else if 2 * distance == completions {
                    completions / 2
                } else {
                    completions
                };
                2 * (both_sides + last)
            }
        }
    }
}

/// How the values of several references become one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum SeveralReferences {
    /// The greatest: it is enough to say what one of them says.
    Max,
    /// Their mean.
    Mean,
}

/// The form that a text is to have.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum FormatSpec {
    /// Tags once each, in order, closed, with nothing but white space between.
    Tags {
        /// Their names, in order.
        tags: Vec<String>,
        /// What it is worth when some are right.
        grading: Grading,
        /// What the tag `answer` may hold, in upper or lower case; empty: anything.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        answers: Vec<String>,
    },
    /// A regular expression that the whole text matches.
    Pattern(String),
    /// A JSON schema that the text, as JSON, fulfils.
    JsonSchema(serde_json::Value),
}

impl FormatSpec {
    /// The tag whose text the answers are.
    pub const ANSWER: &str = "answer";
}

/// What a form is worth that is right in part.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Grading {
    /// Nothing.
    Binary,
    /// The share of the tags that are right.
    Graded,
}

/// Where reasoning must not state the row's answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Leak {
    /// It may anywhere.
    Ignore,
    /// Before the reasoning has its fewest words.
    Before,
    /// Before the reasoning is closed.
    Inside,
}

/// What makes an answer equal to the row's.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Match {
    /// The letter that the text chooses, where the row's answer is one letter; else the whole text.
    Choice,
    /// The whole text; upper and lower case, and any white space, are the same.
    Exact,
    /// The last number of the text.
    Numeric {
        /// How far it may be from the row's, either way.
        tolerance: f64,
    },
    /// The same items, in any order.
    Set,
}

/// A program that rates texts.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CommandSpec {
    /// The program and its arguments.
    pub command: Vec<Argument>,
    /// Digests of the files that it is made of and reads.
    pub files: Vec<Digest>,
    /// Names of the variables of the environment that it is given.
    pub env: Vec<String>,
    /// Seconds for a batch; what is not answered then is missing.
    pub timeout_s: f64,
}

/// A word of a command.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Argument {
    /// As it is.
    Text(String),
    /// The path of the file with this digest.
    File(Digest),
}

/// A service that rates texts. Where it is served is no part of it: [`crate::recipe::HttpEndpoint`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HttpSpec {
    /// The service's name in the recipe.
    pub endpoint: String,
    /// Which version of it is asked.
    pub version: Option<String>,
    /// Whether equal questions have equal answers, which are kept then.
    pub cache: bool,
}

/// A range of lengths.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LengthSpec {
    /// Fewest words of value 1; absent: no limit.
    pub min_words: Option<usize>,
    /// Most words of value 1; absent: no limit.
    pub max_words: Option<usize>,
    /// This many words outside, the value is 0.
    pub tolerance_words: usize,
}

/// How several judges' values become one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Aggregate {
    /// Their mean.
    Mean,
    /// The middle one, or the mean of the two in the middle.
    Median,
    /// The lowest.
    Min,
}

/// What becomes of a completion for which a component has no value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum OnError {
    /// It has no reward and takes no part in its group.
    Missing,
    /// The stage fails.
    Fail,
}

impl Component {
    /// Whether a server is asked, which may be down: then another attempt may succeed.
    pub fn asks_a_server(&self) -> bool {
        matches!(self, Self::Judge(_) | Self::Http(_))
    }

    /// The recipe's word for the component.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Semantic { .. } => "semantic",
            Self::Rouge { .. } => "rouge",
            Self::Correctness { .. } => "correctness",
            Self::Format(_) => "format",
            Self::Cot { .. } => "cot",
            Self::Judge(_) => "judge",
            Self::Command(_) => "command",
            Self::Http(_) => "http",
            Self::Length(_) => "length",
            Self::Repetition { .. } => "repetition",
        }
    }
}

/// ROUGE variants.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub enum RougeVariant {
    /// Unigrams.
    #[serde(rename = "1")]
    One,
    /// Bigrams.
    #[serde(rename = "2")]
    Two,
    /// Longest common subsequence.
    #[serde(rename = "L")]
    L,
    /// Longest common subsequences of lines: summary-level ROUGE-L of texts with a sentence a line.
    #[serde(rename = "Lsum")]
    Lsum,
}

/// Which number of a ROUGE comparison.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum RougeMeasure {
    /// Matches over the candidate's length.
    Precision,
    /// Matches over the reference's length.
    Recall,
    /// Harmonic mean of both.
    F1,
}

/// How ROUGE cuts text into words.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub enum RougeTokenizer {
    /// Runs of Unicode word characters, lowercased.
    #[serde(rename = "unicode")]
    Unicode,
    /// Google's rouge-score: ASCII letters and digits only.
    #[serde(rename = "rouge-score")]
    RougeScore,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_is_that_of_what_is_measured_clipped_and_scaled() {
        let right = Component::Correctness { matching: Match::Choice, pattern: None };
        let plain = RewardSpec::plain(1.0, Scope::Answer, right);
        assert_eq!(plain.range(), Some((0.0, 1.0)));
        assert_eq!(RewardSpec { clip: Some((-1.0, 0.5)), scale: -2.0, ..plain.clone() }.range(), Some((-1.0, 0.0)));
        let http = HttpSpec { endpoint: "units".to_owned(), version: None, cache: true };
        let service = RewardSpec { component: Component::Http(http), ..plain };
        assert_eq!(service.range(), None);
        assert_eq!(RewardSpec { clip: Some((0.0, 5.0)), ..service }.range(), Some((0.0, 5.0)));
    }
}
