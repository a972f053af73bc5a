//! Arms, trials and what they measured, question by question.

use super::metric::within;
use super::mix::MixPart;
use crate::metric::range_of_share;
use crate::stage::RunStatus;
use crate::stage::StageKind;

use crate::digest::Digest;
use crate::event::Measurement;
use crate::recipe::CompareSettings;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// What some runs measured.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Evidence {
    /// The runs, in the order they were asked for.
    pub runs: Vec<SourceRun>,
    /// The arms, in the order of the recipes.
    pub arms: Vec<Arm>,
    /// Every question that any trial answered, each once; [`QuestionCompletions::question`] is an index into this list.
    pub questions: Vec<Question>,
    /// What training measured over its steps; a stage that several arms share stands here once.
    pub training: Vec<Curves>,
    /// The least and the greatest value of metrics that cannot have every value.
    pub ranges: BTreeMap<String, (f64, f64)>,
    /// What the recipes say about comparing.
    #[serde(default)]
    pub settings: CompareSettings,
    /// The components of the metric `eval/common_score`, with their weights; empty where there is none.
    #[serde(default)]
    pub common_score: BTreeMap<String, f64>,
    /// What a reader has to know before believing a number.
    pub problems: Vec<Problem>,
}

/// A run that evidence comes from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SourceRun {
    /// Its id.
    pub run: String,
    /// `ok`, `failed`, `interrupted` or `running`.
    pub status: RunStatus,
    /// The names of its recipes.
    pub recipes: Vec<String>,
}

/// A variant without its seeds.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Arm {
    /// What it is called, unique in the evidence: the variant's name without the seed (`rouge`); `RECIPE/rouge` where
    /// several recipes have one; with ` STAGE` where a variant answers the same questions in several stages; with `@RUN`
    /// where runs mean different settings by one name.
    pub name: String,
    /// The recipe's name.
    pub recipe: String,
    /// The reward components that it was trained on, with their weights; a component that is not here, or with the weight
    /// 0, is held out: nothing that the arm learned was rated by it.
    pub trained_on: BTreeMap<String, f64>,
    /// Its results.
    pub trials: Vec<Trial>,
    /// The results that were planned and are not there.
    pub missing: Vec<MissingTrial>,
}

/// One evaluation of an arm with one seed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Trial {
    /// The seed.
    pub seed: u64,
    /// The run it was taken from (the first of those that have it).
    pub run: String,
    /// The label of the variant, with its seed.
    pub variant: String,
    /// The stage's name in the recipe.
    pub stage: String,
    /// The stage's kind: `eval` or `command`.
    pub kind: StageKind,
    /// What it is compared within: trials of one evaluation answer the same questions, or are of stages of one name.
    pub evaluation: String,
    /// The stage's cache key.
    pub key: Digest,
    /// What it answered; empty where the stage tells no single questions, as those of the kind `command` do.
    pub answers: Vec<QuestionCompletions>,
    /// By metric, e.g. `eval/accuracy` or `eval/reward/semantic`: the score of each answer, in the order of `answers`.
    pub scores: BTreeMap<String, Vec<Score>>,
    /// By reward component: how the evaluation measures it.
    #[serde(default)]
    pub mix: BTreeMap<String, MixPart>,
    /// What the stage says it measured as a whole.
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
    /// Why it is missing, in words.
    pub reason: String,
}

/// A question, by its content.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Question {
    /// What the evaluation calls it: a digest of the row's content, the same in every run and recipe, wherever the row stands
    /// (`event::EvalRecord::question_id`). Of an evaluation that says none, a digest of prompt, reference and answer, with
    /// `#2` and so on where it is asked again.
    pub id: String,
    /// The data set it belongs to, by its name in the recipe; empty where the evaluation does not say.
    pub data_set: String,
    /// Whether the recipe marks the data set as out of domain.
    #[serde(default)]
    pub out_of_domain: bool,
    /// Row of the data set where it was first met.
    pub row: usize,
    /// The prompt, before the chat template.
    pub prompt: String,
    /// The reference text.
    pub reference: Option<String>,
    /// The right answer.
    pub answer: Option<String>,
}

/// What one trial answered to one question.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct QuestionCompletions {
    /// Which question: an index into [`Evidence::questions`].
    pub question: usize,
    /// The sampled texts: one, or several when the stage samples several.
    pub completions: Vec<String>,
}

/// A value, or why there is none. Of several completions to one question it is the mean; missing when one of them is.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Score {
    /// The value; absent when it is missing.
    pub value: Option<f64>,
    /// Why it is missing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub missing: Option<String>,
}

/// What a training stage measured over its steps.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Curves {
    /// The names of the arms that it is a part of.
    pub arms: Vec<String>,
    /// The seed.
    pub seed: u64,
    /// The stage's name in the recipe.
    pub stage: String,
    /// The stage's kind: `cpt`, `sft` or `grpo`.
    pub kind: StageKind,
    /// The stage's cache key.
    pub key: Digest,
    /// By metric, e.g. `reward/mean`: step and value.
    pub series: BTreeMap<String, Vec<(u64, f64)>>,
}

/// Something a reader has to know before believing a number.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Problem {
    /// What kind of thing it is.
    pub kind: ProblemKind,
    /// It, in one sentence.
    pub message: String,
}

/// Kinds of problems.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ProblemKind {
    /// A planned evaluation has no result.
    MissingTrial,
    /// An arm lacks seeds that others have.
    MissingSeeds,
    /// A metric has no value for some or all answers: a judge that returned nothing.
    MissingValues,
    /// Arms answered different questions.
    DifferentQuestions,
    /// The runs are of different recipes.
    DifferentRecipes,
    /// Runs use one name for different settings.
    DifferentSettings,
    /// The arms' rewards are weighted sums of different components.
    DifferentMixes,
    /// Arms gave the same completions to most questions.
    SameAnswers,
    /// Every arm has one seed, so intervals are over questions only.
    SingleSeed,
    /// No value differs from another.
    ZeroVariance,
    /// A file could not be read.
    Unreadable,
}

impl Evidence {
    /// The part of a 95% interval of the difference of two values of the metric called `name` that is possible.
    pub fn possible_difference(&self, name: &str, interval: (f64, f64)) -> (f64, f64) {
        within(self.range_of(name).map(|(least, most)| (least - most, most - least)), interval)
    }

    /// The least and the greatest value of the metric called `name`, where it has them.
    pub fn range_of(&self, name: &str) -> Option<(f64, f64)> {
        self.ranges.get(name).copied().or_else(|| range_of_share(name))
    }

    /// The names of the evaluations, in the order they are met.
    pub fn evaluations(&self) -> Vec<&str> {
        let mut names: Vec<&str> = Vec::new();
        for trial in self.arms.iter().flat_map(|arm| &arm.trials) {
            if !names.contains(&trial.evaluation.as_str()) {
                names.push(&trial.evaluation);
            }
        }
        names
    }

    /// The arm of this name.
    pub fn arm(&self, name: &str) -> Option<&Arm> {
        self.arms.iter().find(|arm| arm.name == name)
    }
}

impl Score {
    /// A value that is there.
    pub fn of(value: f64) -> Self {
        Self { value: Some(value), missing: None }
    }

    /// A value that is not.
    pub fn missing(why: impl Into<String>) -> Self {
        Self { value: None, missing: Some(why.into()) }
    }
}

impl Problem {
    /// A problem.
    pub fn new(kind: ProblemKind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into() }
    }
}
