//! What stages are and how stages and runs stand: one word for each, in recipes, logs, the database, tables and JSON.

use serde::{Deserialize, Serialize};
use strum::{Display, EnumString, IntoStaticStr, VariantArray};

/// What a stage does. The recipe's `kind`.
#[derive(
    Clone,
    Copy,
    Debug,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    Serialize,
    Deserialize,
    Display,
    EnumString,
    IntoStaticStr,
    VariantArray,
)]
#[serde(rename_all = "snake_case")]
#[strum(serialize_all = "snake_case")]
pub enum StageKind {
    /// Continued pre-training.
    Cpt,
    /// Supervised fine-tuning.
    Sft,
    /// Group relative policy optimization.
    Grpo,
    /// Measures a model on questions.
    Eval,
    /// Runs a program of the user's.
    Command,
    /// Ranks models by what judges prefer.
    Arena,
}

impl StageKind {
    /// The recipe's word.
    pub fn name(self) -> &'static str {
        self.into()
    }

    /// Whether it changes a model's weights.
    pub fn is_training(self) -> bool {
        matches!(self, Self::Cpt | Self::Sft | Self::Grpo)
    }

    /// Whether its result says how good a model is.
    pub fn measures(self) -> bool {
        matches!(self, Self::Eval | Self::Command)
    }

    /// Whether there is one for all variants of a recipe, which starts from the stages of all of them.
    pub fn fans_in(self) -> bool {
        self == Self::Arena
    }

    /// Whether it samples completions.
    pub fn samples(self) -> bool {
        matches!(self, Self::Grpo | Self::Eval | Self::Arena)
    }
}

/// How a stage of a run stands.
#[derive(
    Clone,
    Copy,
    Debug,
    Default,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    Serialize,
    Deserialize,
    Display,
    EnumString,
    IntoStaticStr,
    VariantArray,
)]
#[serde(rename_all = "lowercase")]
#[strum(serialize_all = "lowercase")]
pub enum StageStatus {
    /// Nothing has happened to it yet.
    #[default]
    Pending,
    /// A worker is at it, or the run waits for another run's worker.
    Running,
    /// Its result was in the cache.
    Cached,
    /// It ran to its end.
    Ok,
    /// It failed.
    Failed,
    /// It was not run because of another stage.
    Skipped,
    /// It was stopped, or died with its run.
    Interrupted,
    /// The run ended before its turn came.
    #[serde(rename = "not run")]
    #[strum(serialize = "not run")]
    NotRun,
}

impl StageStatus {
    /// The word.
    pub fn name(self) -> &'static str {
        self.into()
    }

    /// Whether its result is there.
    pub fn has_result(self) -> bool {
        matches!(self, Self::Cached | Self::Ok)
    }

    /// How it stands in a run that is not running.
    #[must_use]
    pub fn after_the_run(self) -> Self {
        match self {
            Self::Pending => Self::NotRun,
            Self::Running => Self::Interrupted,
            other => other,
        }
    }
}

/// How a run stands.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, Display, EnumString, IntoStaticStr,
)]
#[serde(rename_all = "lowercase")]
#[strum(serialize_all = "lowercase")]
pub enum RunStatus {
    /// Its process lives, or nothing is known of it.
    #[default]
    Running,
    /// Every stage has its result.
    Ok,
    /// A stage failed.
    Failed,
    /// It was stopped, or died.
    Interrupted,
}

impl RunStatus {
    /// The word.
    pub fn name(self) -> &'static str {
        self.into()
    }
}

/// As columns of the database hold the words.
macro_rules! from_column {
    ($($word:ty),*) => {$(
        impl TryFrom<String> for $word {
            type Error = strum::ParseError;

            fn try_from(text: String) -> Result<Self, Self::Error> {
                text.parse()
            }
        }
    )*};
}

from_column!(StageKind, StageStatus, RunStatus);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_is_the_same_everywhere() {
        for &status in StageStatus::VARIANTS {
            assert_eq!(serde_json::to_value(status).unwrap(), status.name());
            assert_eq!(status.name().parse::<StageStatus>().unwrap(), status);
            assert_eq!(status.to_string(), status.name());
        }
        for &kind in StageKind::VARIANTS {
            assert_eq!(serde_json::to_value(kind).unwrap(), kind.name());
            assert_eq!(kind.name().parse::<StageKind>().unwrap(), kind);
        }
        for status in [RunStatus::Running, RunStatus::Ok, RunStatus::Failed, RunStatus::Interrupted] {
            assert_eq!(serde_json::to_value(status).unwrap(), status.name());
        }
        assert_eq!(StageStatus::NotRun.name(), "not run");
    }

    #[test]
    fn what_was_under_way_when_its_run_ended_was_interrupted() {
        assert_eq!(StageStatus::Running.after_the_run(), StageStatus::Interrupted);
        assert_eq!(StageStatus::Pending.after_the_run(), StageStatus::NotRun);
        assert_eq!(StageStatus::Ok.after_the_run(), StageStatus::Ok);
    }
}
