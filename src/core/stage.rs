//! The kinds of stages and the statuses of stages and runs. Recipes, logs, the database, tables and JSON use the same
//! word for each.

use serde::{Deserialize, Serialize};
use strum::{Display, EnumString, IntoStaticStr, VariantArray};

/// The file with all completions of a stage that samples, in its result.
pub const COMPLETIONS: &str = "completions.parquet";

/// Returns the stage and the step in `NAME@STEP`, the name of a snapshot or of the evaluation of one.
pub fn snapshot_of(name: &str) -> Option<(&str, u64)> {
    let (stage, step) = name.split_once('@')?;
    Some((stage, step.parse().ok()?))
}

/// The ending of the names of evaluations on development rows, by which a snapshot is chosen: `eval.dev@50`.
const ON_DEVELOPMENT_ROWS: &str = ".dev";

/// Returns the name of the evaluation of the snapshot after `step` on development rows, for the evaluation `name`.
pub fn on_development_rows(name: &str, step: u64) -> String {
    format!("{name}{ON_DEVELOPMENT_ROWS}@{step}")
}

/// Returns the name in its recipe of the stage `name`: `eval` of `eval`, of `eval@50` and of `eval.dev@50`.
pub fn written_name(name: &str) -> &str {
    let stage = snapshot_of(name).map_or(name, |(stage, _)| stage);
    stage.strip_suffix(ON_DEVELOPMENT_ROWS).unwrap_or(stage)
}

/// The kind of a stage: the recipe's `kind`.
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
    /// Group-relative policy optimization.
    Grpo,
    /// Measurement of a model on questions.
    Eval,
    /// Answers of a model to questions, as data for other stages.
    Generate,
    /// A program supplied by the user.
    Command,
    /// A ranking of models by the preferences of judges.
    Arena,
}

impl StageKind {
    /// Returns the recipe's word for the kind.
    pub fn name(self) -> &'static str {
        self.into()
    }

    /// Whether the stage changes a model's weights.
    pub fn is_training(self) -> bool {
        matches!(self, Self::Cpt | Self::Sft | Self::Grpo)
    }

    /// Whether the stage's result measures the quality of a model.
    pub fn measures(self) -> bool {
        matches!(self, Self::Eval | Self::Command)
    }

    /// Whether one stage serves all variants of a recipe and starts from the stages of all of them.
    pub fn fans_in(self) -> bool {
        self == Self::Arena
    }

    /// Whether the stage samples completions.
    pub fn samples(self) -> bool {
        matches!(self, Self::Grpo | Self::Eval | Self::Generate | Self::Arena)
    }
}

/// The status of a stage in a run.
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
    /// The stage has not started.
    #[default]
    Pending,
    /// A worker runs the stage, or the run waits for another run's worker.
    Running,
    /// The stage's result was in the cache.
    Cached,
    /// The stage completed.
    Ok,
    /// The stage failed.
    Failed,
    /// The stage was not run because of another stage.
    Skipped,
    /// The stage was stopped, or died with its run.
    Interrupted,
    /// The run ended before the stage started.
    #[serde(rename = "not run")]
    #[strum(serialize = "not run")]
    NotRun,
}

impl StageStatus {
    /// Returns the word for the status.
    pub fn name(self) -> &'static str {
        self.into()
    }

    /// Whether the stage has a result.
    pub fn has_result(self) -> bool {
        matches!(self, Self::Cached | Self::Ok)
    }

    /// Returns the status in a run that is not running.
    #[must_use]
    pub fn after_the_run(self) -> Self {
        match self {
            Self::Pending => Self::NotRun,
            Self::Running => Self::Interrupted,
            other => other,
        }
    }
}

/// The status of a run.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, Display, EnumString, IntoStaticStr,
)]
#[serde(rename_all = "lowercase")]
#[strum(serialize_all = "lowercase")]
pub enum RunStatus {
    /// The run's process lives, or nothing is known about it.
    #[default]
    Running,
    /// Every stage has its result.
    Ok,
    /// A stage failed.
    Failed,
    /// The run was stopped, or died.
    Interrupted,
}

impl RunStatus {
    /// Returns the word for the status.
    pub fn name(self) -> &'static str {
        self.into()
    }
}

/// Parses the words in columns of the database.
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
