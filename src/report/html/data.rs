//! What a report says, as plain values: whoever gathers them knows files and the history, whoever draws them knows neither.

use crate::event::Measurement;
use crate::report::chart::{CurveLine, GraphNode, Whisker};
use crate::stage::RunStatus;
use crate::stage::StageStatus;
use serde::Serialize;
use std::collections::BTreeMap;

/// Everything that a report shows, in its order.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Report {
    /// The recipes' names.
    pub title: String,
    /// The runs it is of, oldest first.
    pub runs: Vec<RunLine>,
    /// What a reader must know before believing a number; shown first.
    pub problems: Vec<Problem>,
    /// The arms; everything else names them by their place here.
    pub arms: Vec<Arm>,
    /// The files that the arms were made from, with the beginnings of their digests.
    pub inputs: Vec<(String, String)>,
    /// Which arm is better, by each metric; the one that decides first.
    pub verdicts: Vec<VerdictView>,
    /// Ratings of an arena, by judge and pooled; empty without one.
    pub ratings: Vec<Rating>,
    /// Every component of every arm; absent when nothing was evaluated.
    pub scores: Scores,
    /// Metrics of training over steps.
    pub curves: Vec<Curve>,
    /// How the arms write, and how that hangs together with their reward.
    pub behaviour: Vec<Behaviour>,
    /// What the arms answered.
    pub completions: Completions,
    /// The stages of the runs.
    pub stages: Stages,
    /// What it took.
    pub cost: Cost,
    /// Recipes as they were run.
    pub recipes: Vec<RecipeText>,
    /// Environment and settings of the runs: a name and its values.
    pub environment: Vec<(String, Vec<String>)>,
    /// How the numbers are computed, a sentence each.
    pub methods: Vec<String>,
}

/// A run.
#[derive(Clone, Debug, Default, Serialize)]
pub struct RunLine {
    /// Its id.
    pub run: String,
    /// How it ended.
    pub status: RunStatus,
    /// When it began, in UTC.
    pub started: String,
    /// Seconds from its begin to its end; absent while it runs.
    pub seconds: Option<f64>,
    /// Where it ran.
    pub host: String,
    /// The version of this program.
    pub version: String,
}

/// How much a problem matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    /// Numbers are missing or must not be compared.
    Problem,
    /// Numbers stand, and mean less than they seem to.
    Warning,
    /// Worth knowing.
    Note,
}

impl Severity {
    /// The word for it.
    pub fn word(self) -> &'static str {
        match self {
            Self::Problem => "problem",
            Self::Warning => "warning",
            Self::Note => "note",
        }
    }
}

/// Something that a reader must know.
#[derive(Clone, Debug, Serialize)]
pub struct Problem {
    /// How much it matters.
    pub severity: Severity,
    /// What is the matter, in a sentence.
    pub what: String,
    /// What it concerns, one a line.
    pub details: Vec<String>,
}

/// An arm: the variants of a sweep that differ by their seed alone.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Arm {
    /// Its name.
    pub name: String,
    /// Its seeds, as the recipe names them.
    pub seeds: Vec<String>,
    /// The others are compared with it.
    pub is_baseline: bool,
    /// The reward components that it was trained on, with their weights.
    pub trained_on: BTreeMap<String, f64>,
    /// In what else it differs from the baseline, a setting each.
    pub differs: Vec<String>,
}

/// Which arm is better, by one metric.
#[derive(Clone, Debug, Default, Serialize)]
pub struct VerdictView {
    /// The metric, e.g. `eval/accuracy`.
    pub metric: String,
    /// What it is called here, e.g. `accuracy`.
    pub title: String,
    /// Which way is better, e.g. `higher is better`.
    pub direction: String,
    /// Whether it decides: `primary metric` or `exploratory`.
    pub role: String,
    /// What came out, in a line.
    pub line: String,
    /// What came out, in sentences.
    pub sentences: Vec<String>,
    /// The arms, the baseline first.
    pub rows: Vec<VerdictRow>,
}

/// One arm beside the baseline.
#[derive(Clone, Debug, Default, Serialize)]
pub struct VerdictRow {
    /// The arm.
    pub arm: usize,
    /// What it measured.
    pub value: Option<Measurement>,
    /// `better` or `worse`, on however many seeds; else empty.
    pub class: String,
    /// Its lead over the baseline.
    pub difference: Option<Measurement>,
    /// Probability of such a difference without a real one, corrected for the number of arms (Holm).
    pub p_value: Option<f64>,
    /// The difference in standard deviations (Hedges' g).
    pub effect: Option<f64>,
    /// `better`, `worse`, `higher`, `lower`, `not separable`, `not compared` or `baseline`.
    pub word: String,
    /// What the word rests on, e.g. `needs about 4 more seeds`.
    pub remark: String,
}

/// Ratings on one scale.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Rating {
    /// Whose: a judge's name, or `all judges`.
    pub title: String,
    /// The players, the best first.
    pub rows: Vec<Whisker>,
    /// Shares of games won, row against column, in the order of `rows`; absent where none was played.
    pub wins: Vec<Vec<Option<f64>>>,
    /// Agreement, position bias and the like, a sentence each.
    pub remarks: Vec<String>,
}

/// The matrix of components and arms.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Scores {
    /// Its columns.
    pub components: Vec<Component>,
    /// A row for each arm, a cell for each component; absent where it was not measured.
    pub rows: Vec<Vec<Option<ScoreCell>>>,
}

/// A column of the matrix.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Component {
    /// The metric, e.g. `eval/reward/semantic`.
    pub metric: String,
    /// What it is called here, e.g. `semantic`.
    pub name: String,
    /// No arm was trained on it.
    pub held_out: bool,
}

/// A cell of the matrix.
#[derive(Clone, Debug, Serialize)]
pub struct ScoreCell {
    /// What was measured.
    pub measured: Measurement,
    /// `better` or `worse` than the baseline; empty when it is neither.
    pub verdict: String,
    /// The arm was trained on the component.
    pub trained: bool,
}

/// A metric over steps, for each arm.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Curve {
    /// The stage's name in the recipe.
    pub stage: String,
    /// The metric.
    pub metric: String,
    /// The arms that recorded it.
    pub lines: Vec<CurveLine>,
}

/// How an arm writes.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Behaviour {
    /// The arm.
    pub arm: usize,
    /// Completions that the row is of.
    pub completions: usize,
    /// Tokens of a completion.
    pub tokens: Option<f64>,
    /// Share that the length limit cut.
    pub truncated: Option<f64>,
    /// Share in the asked format.
    pub format: Option<f64>,
    /// Share of the word triples of a completion that it said before.
    pub repetition: Option<f64>,
    /// Correlation of reward and tokens (Pearson); absent when either does not vary.
    pub length_correlation: Option<f64>,
    /// Divergence from the reference policy at the end of training.
    pub kl: Option<f64>,
    /// Tokens and reward of completions; the reward is that of the evaluation's mix.
    #[serde(skip)]
    pub points: Vec<(f64, f64)>,
}

/// What the arms answered to the same questions.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Completions {
    /// Reward components, whose values each answer has in this order.
    pub components: Vec<String>,
    /// Lowest and highest value of each component.
    pub ranges: Vec<(f64, f64)>,
    /// The questions.
    #[serde(skip)] // the page has them as JSON for its script
    pub questions: Vec<QuestionView>,
    /// Questions that are left out, for the size of the page.
    pub left_out: usize,
}

/// A question with its answers.
#[derive(Clone, Debug, Default, Serialize)]
pub struct QuestionView {
    /// Row of the data set.
    pub row: usize,
    /// What was asked.
    pub prompt: String,
    /// The reference text.
    pub reference: Option<String>,
    /// The right answer.
    pub answer: Option<String>,
    /// By arm and seed.
    pub answers: Vec<CompletionView>,
}

/// What one arm answered.
#[derive(Clone, Debug, Default, Serialize)]
pub struct CompletionView {
    /// The arm.
    pub arm: usize,
    /// Its seed.
    pub seed: String,
    /// The text, cut at [`CompletionView::LONGEST`] characters.
    pub text: String,
    /// Characters that were cut.
    pub cut: usize,
    /// Tokens sampled.
    pub tokens: usize,
    /// The length limit ended it.
    pub truncated: bool,
    /// Whether the answer is the right one; absent without a right answer.
    pub right: Option<bool>,
    /// Weighted sum of the parts.
    pub reward: Option<f64>,
    /// Values of the components.
    pub parts: Vec<Option<f64>>,
}

impl CompletionView {
    /// Characters of a completion that a report holds.
    pub const LONGEST: usize = 4000;
}

/// The stages of the runs.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Stages {
    /// The graph; stages that differ by their seed alone are one node.
    pub nodes: Vec<GraphNode>,
    /// Every stage of every run.
    pub rows: Vec<StageRow>,
}

/// A stage of a run.
#[derive(Clone, Debug, Default, Serialize)]
pub struct StageRow {
    /// The end of its run's id.
    pub run: String,
    /// Its name.
    pub stage: String,
    /// Its kind.
    pub kind: String,
    /// The beginning of its key.
    pub key: String,
    /// Variants that need it.
    pub variants: String,
    /// How it stands.
    pub status: StageStatus,
    /// Seconds it took in this run.
    pub seconds: Option<f64>,
    /// Why it failed or was skipped.
    pub message: Option<String>,
}

/// What it took.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Cost {
    /// By kind of stage.
    pub kinds: Vec<CostRow>,
    /// By arm: all that its variants need, shared stages in full.
    pub arms: Vec<CostRow>,
    /// Of everything, each stage once.
    pub total: CostRow,
    /// Seconds that more would have been spent had each variant run its own copy of the stages it shares.
    pub saved_by_sharing: Option<f64>,
}

/// A line of costs.
#[derive(Clone, Debug, Default, Serialize)]
pub struct CostRow {
    /// What it is of.
    pub name: String,
    /// Stages.
    pub stages: usize,
    /// Seconds of its workers; as every number here, absent where it was not measured.
    pub seconds: Option<f64>,
    /// Seconds that the cache saved: what hits took when they were made.
    pub saved_seconds: Option<f64>,
    /// Tokens trained on.
    pub trained_tokens: Option<f64>,
    /// Tokens sampled.
    pub sampled_tokens: Option<f64>,
    /// Energy in watt hours.
    pub energy_wh: Option<f64>,
    /// Requests to judges.
    pub judge_calls: Option<f64>,
    /// US dollars for judges at the recipe's prices.
    pub money_usd: Option<f64>,
}

/// A recipe as it was run.
#[derive(Clone, Debug, Serialize)]
pub struct RecipeText {
    /// The end of the run's id.
    pub run: String,
    /// Its path in the run's log.
    pub path: String,
    /// Its text.
    pub text: String,
}
