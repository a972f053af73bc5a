//! The settings of credit by Owen values.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The settings of credit by Owen values (arXiv:2601.08403).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OwenSpec {
    /// The name of the component that values coalitions.
    pub of: String,
    /// The segments of the text that it reads.
    pub segments: Segmentation,
    /// The coalitions that it values.
    pub coalitions: CoalitionRule,
    /// The largest number of coalitions of a completion.
    pub max_coalitions: usize,
    /// The share of the advantage that all tokens get alike.
    pub floor: f64,
    /// The rule by which credits of either sign become shares.
    pub sign: Sign,
}

/// The segments into which a text is cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Segmentation {
    /// Sentences, as in UAX #29.
    Sentences,
    /// Parts that end with a punctuation mark or a line.
    Clauses,
    /// Runs of this many words.
    Words(usize),
}

impl Segmentation {
    /// Parses `sentences`, `clauses` or `words:N`.
    pub fn read(written: &str) -> Option<Self> {
        match written {
            "sentences" => Some(Self::Sentences),
            "clauses" => Some(Self::Clauses),
            _ => written.strip_prefix("words:")?.parse().ok().filter(|count| *count > 0).map(Self::Words),
        }
    }
}

/// The coalitions of segments that are valued.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum CoalitionRule {
    /// Runs of adjacent segments. The credit is the weighted mean of the contributions to those.
    Windows,
    /// All coalitions, or orders drawn at random where those are too many: the Shapley value.
    All,
    /// Coalitions that keep the other sentences (of clauses and words) or paragraphs (of sentences) whole: the Owen
    /// value.
    Owen,
}

/// The rule by which the credits of segments become the shares of tokens.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Sign {
    /// Segments that helped share a positive advantage, and segments that hurt share a negative one.
    Signed,
    /// Credits are scaled from 0 for the lowest to 1 for the highest, whatever the advantage, as in the paper.
    Paper,
}
