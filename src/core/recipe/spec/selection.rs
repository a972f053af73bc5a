//! The rows that a data set takes from its files, beyond the split.

use super::stage::is_nothing;
use super::{DataFile, Fractions, Split};
use serde::{Deserialize, Serialize};

/// What happens to the rows of a data set after they are read, in the order of the fields.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Selection {
    /// The answers of a stage that become a field of the rows; absent: none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub join: Option<Join>,
    /// The minijinja expression over a row's fields that is true of the rows that are kept; absent: all rows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub only: Option<String>,
    /// The answers that are kept of each question; absent: all of them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub keep: Option<Keep>,
    /// The questions that evaluations of the recipe ask. Answers to them that a stage generated are not trained on.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub held_out: Vec<HeldOut>,
}

impl Selection {
    /// Whether the rows stay as they are.
    pub fn is_everything(&self) -> bool {
        *self == Self::default()
    }
}

/// Adds a field with the answer of another stage to the same question to each row.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Join {
    /// The file with the answers, in the result of a stage.
    pub from: DataFile,
    /// The name of the new field.
    pub field: String,
    /// The field of the stage's rows that it holds.
    pub column: String,
}

/// The answers to a question that are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Keep {
    /// The answers with the highest rewards; of equal ones those that were drawn first.
    Best(usize),
    /// The answers that were drawn first.
    First(usize),
}

/// Questions that are measured, so that no answer to them may be trained on.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HeldOut {
    /// The files of the questions.
    pub files: Vec<DataFile>,
    /// The fraction of their rows, chosen by content hash, that is held out.
    pub eval_fraction: f64,
    /// The fraction of their rows, chosen by content hash, on which snapshots are chosen.
    #[serde(default, skip_serializing_if = "is_nothing")]
    pub dev_fraction: f64,
    /// The side of the split that is measured.
    pub split: Split,
}

impl HeldOut {
    /// Returns the fractions of the rows that are held out from training.
    pub fn fractions(&self) -> Fractions {
        Fractions { eval: self.eval_fraction, dev: self.dev_fraction }
    }
}
