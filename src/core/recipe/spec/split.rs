//! The sides of a data set, chosen by the hash of a row's content.

use serde::{Deserialize, Serialize};

/// Side of the train / eval split.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Split {
    /// Rows that are trained on.
    Train,
    /// Rows that are held out.
    Eval,
    /// Rows of `dev_fraction`, on which snapshots are chosen.
    Dev,
    /// Every row.
    All,
}

impl Split {
    /// Returns the word in recipes.
    pub fn word(self) -> &'static str {
        match self {
            Self::Train => "train",
            Self::Eval => "eval",
            Self::Dev => "dev",
            Self::All => "all",
        }
    }
}

/// The fractions of a data set's rows that are held out from training.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Fractions {
    /// The fraction that is measured.
    pub eval: f64,
    /// The fraction on which snapshots are chosen.
    pub dev: f64,
}

impl Fractions {
    /// Returns the side of a row whose content hash is `hash`, from 0 to 1.
    pub fn side(self, hash: f64) -> Split {
        if hash < self.eval {
            Split::Eval
        } else if hash < self.eval + self.dev {
            Split::Dev
        } else {
            Split::Train
        }
    }
}
