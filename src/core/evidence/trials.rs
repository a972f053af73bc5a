//! Arms, trials and their measurements, question by question.

use super::metric::within;
use super::mix::MixPart;
use crate::metric::range_of_share;
use crate::stage::RunStatus;
use crate::stage::StageKind;

use crate::digest::Digest;
use crate::event::Measurement;
use crate::recipe::CompareSettings;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// The measurements of some runs.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Evidence {
    /// The runs, in the order of the request.
    pub runs: Vec<SourceRun>,
    /// The arms, in the order of the recipes.
    pub arms: Vec<Arm>,
    /// All questions that any trial answered, without duplicates. [`QuestionCompletions::question`] is an index into
    /// this list.
    pub questions: Vec<Question>,
    /// The curves of training stages. A stage that several arms share is listed once.
    pub training: Vec<Curves>,
    /// The least and the greatest value of bounded metrics.
    pub ranges: BTreeMap<String, (f64, f64)>,
    /// The recipes' settings for comparisons.
    #[serde(default)]
    pub settings: CompareSettings,
    /// The components of the metric `eval/common_score`, with their weights; empty without that metric.
    #[serde(default)]
    pub common_score: BTreeMap<String, f64>,
    /// Problems that a reader must know before relying on the numbers.
    pub problems: Vec<Problem>,
}

/// A run that contributes evidence.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SourceRun {
    /// The id of the run.
    pub run: String,
    /// The status: `ok`, `failed`, `interrupted` or `running`.
    pub status: RunStatus,
    /// The names of the run's recipes.
    pub recipes: Vec<String>,
}

/// A variant without its seeds.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Arm {
    /// The name of the arm, unique in the evidence.
    ///
    /// It is the variant's name without the seed (`rouge`). It is `RECIPE/rouge` where several recipes have that name.
    /// ` STAGE` is appended where a variant answers the same questions in several stages, and `@RUN` where the name has
    /// different settings in different runs.
    pub name: String,
    /// The name of the recipe.
    pub recipe: String,
    /// The reward components of the arm's training, with their weights.
    ///
    /// A component that is absent or has the weight 0 is held out: the arm's training did not use it.
    pub trained_on: BTreeMap<String, f64>,
    /// The components of its training that say nothing about the row; with any, the arm is a control.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub controls: BTreeSet<String>,
    /// The results of the arm.
    pub trials: Vec<Trial>,
    /// The last snapshots as the evaluations of `trials` measure them, where those chose among snapshots.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub last: Vec<Trial>,
    /// The planned results that do not exist.
    pub missing: Vec<MissingTrial>,
}

/// An evaluation of an arm with one seed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Trial {
    /// The seed of the trial.
    pub seed: u64,
    /// The run from which the trial was taken: the first of those that have it.
    pub run: String,
    /// The label of the variant, with its seed.
    pub variant: String,
    /// The stage's name in the recipe.
    pub stage: String,
    /// The stage's kind: `eval` or `command`.
    pub kind: StageKind,
    /// The group of comparable trials: they answer the same questions, or are of stages of one name.
    pub evaluation: String,
    /// The stage's cache key.
    pub key: Digest,
    /// The answers; empty where the stage reports no single questions, as with the kind `command`.
    pub answers: Vec<QuestionCompletions>,
    /// The score of each answer by metric, e.g. `eval/accuracy` or `eval/reward/semantic`, in the order of `answers`.
    pub scores: BTreeMap<String, Vec<Score>>,
    /// The evaluation's settings by reward component.
    #[serde(default)]
    pub mix: BTreeMap<String, MixPart>,
    /// The stage's own measurements, over all questions.
    pub measurements: BTreeMap<String, Measurement>,
}

/// A planned evaluation without a result.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MissingTrial {
    /// The seed; absent when it was not recorded.
    pub seed: Option<u64>,
    /// The run that planned it.
    pub run: String,
    /// The label of the variant, with its seed.
    pub variant: String,
    /// The stage's name in the recipe.
    pub stage: String,
    /// The reason why the result is missing, in words.
    pub reason: String,
}

/// A question, identified by its content.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Question {
    /// The question's id in the evaluation (`event::EvalRecord::question_id`).
    ///
    /// It is a digest of the row's content, the same in every run and recipe, wherever the row is. For an evaluation
    /// that records no id, it is a digest of prompt, reference and answer, with `#2` and so on for repetitions.
    pub id: String,
    /// The name of the question's data set in the recipe; empty where the evaluation does not record it.
    pub data_set: String,
    /// Whether the recipe marks the data set as out of domain.
    #[serde(default)]
    pub out_of_domain: bool,
    /// The row of the data set where the question was first found.
    pub row: usize,
    /// The prompt, before the chat template.
    pub prompt: String,
    /// The reference text.
    pub reference: Option<String>,
    /// The correct answer.
    pub answer: Option<String>,
    /// The value of each expression by which the data set is sliced.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub slices: BTreeMap<String, String>,
}

/// The completions of one trial to one question.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct QuestionCompletions {
    /// The index of the question in [`Evidence::questions`].
    pub question: usize,
    /// The sampled texts: one, or several when the stage draws several samples.
    pub completions: Vec<String>,
}

/// A value, or the reason why it is missing.
///
/// For several completions to one question it is their mean, and missing when one of them is.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Score {
    /// The value; absent when it is missing.
    pub value: Option<f64>,
    /// The reason why the value is missing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub missing: Option<String>,
}

/// The metrics of a training stage over its steps.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Curves {
    /// The names of the arms that include the stage.
    pub arms: Vec<String>,
    /// The seed of the stage.
    pub seed: u64,
    /// The stage's name in the recipe.
    pub stage: String,
    /// The stage's kind: `cpt`, `sft` or `grpo`.
    pub kind: StageKind,
    /// The stage's cache key.
    pub key: Digest,
    /// The steps and values by metric, e.g. `reward/mean`.
    pub series: BTreeMap<String, Vec<(u64, f64)>>,
}

/// A problem that a reader must know before relying on a number.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Problem {
    /// The kind of the problem.
    pub kind: ProblemKind,
    /// The problem in one sentence.
    pub message: String,
}

/// A kind of problem.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ProblemKind {
    /// A planned evaluation has no result.
    MissingTrial,
    /// An arm lacks seeds that others have.
    MissingSeeds,
    /// A metric has no value for some or all answers, for example because a judge returned nothing.
    MissingValues,
    /// Arms answered different questions.
    DifferentQuestions,
    /// The runs use different recipes.
    DifferentRecipes,
    /// One name has different settings in different runs.
    DifferentSettings,
    /// The arms' rewards are weighted sums of different components.
    DifferentMixes,
    /// Arms gave the same completions to most questions.
    SameAnswers,
    /// Every arm has one seed, so intervals are over questions only.
    SingleSeed,
    /// The number of seeds was chosen by their results.
    AdaptiveSeeds,
    /// No value differs from another.
    ZeroVariance,
    /// A file could not be read.
    Unreadable,
}

impl Evidence {
    /// Clips the 95% interval of a difference in the metric `name` to the possible differences.
    pub fn possible_difference(&self, name: &str, interval: (f64, f64)) -> (f64, f64) {
        within(self.range_of(name).map(|(least, most)| (least - most, most - least)), interval)
    }

    /// Returns the least and the greatest value of the metric `name`; `None` for an unbounded metric.
    pub fn range_of(&self, name: &str) -> Option<(f64, f64)> {
        self.ranges.get(name).copied().or_else(|| range_of_share(name))
    }

    /// The names of the evaluations, in order of first occurrence.
    pub fn evaluations(&self) -> Vec<&str> {
        let mut names: Vec<&str> = Vec::new();
        for trial in self.arms.iter().flat_map(|arm| &arm.trials) {
            if !names.contains(&trial.evaluation.as_str()) {
                names.push(&trial.evaluation);
            }
        }
        names
    }

    /// Returns the arm with this name.
    pub fn arm(&self, name: &str) -> Option<&Arm> {
        self.arms.iter().find(|arm| arm.name == name)
    }
}

impl Score {
    /// Creates a present value.
    pub fn of(value: f64) -> Self {
        Self { value: Some(value), missing: None }
    }

    /// Creates a missing value, with its reason.
    pub fn missing(why: impl Into<String>) -> Self {
        Self { value: None, missing: Some(why.into()) }
    }
}

impl Problem {
    /// Creates a problem.
    pub fn new(kind: ProblemKind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into() }
    }
}
