//! The content of a report as plain values. They separate the gathering, which reads files and the history, from the
//! drawing.

use crate::event::Measurement;
use crate::report::chart::{CurveLine, GraphNode, Whisker};
use crate::stage::RunStatus;
use crate::stage::StageStatus;
use serde::Serialize;
use std::collections::BTreeMap;

/// The content of a report, in order.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Report {
    /// The recipes' names.
    pub title: String,
    /// The runs of the report, oldest first.
    pub runs: Vec<RunLine>,
    /// Problems that affect the trust in the numbers; shown first.
    pub problems: Vec<Problem>,
    /// The arms. All other parts refer to them by index.
    pub arms: Vec<Arm>,
    /// The files that the arms were made from, with the first digits of their digests.
    pub inputs: Vec<(String, String)>,
    /// The comparison of the arms by each metric, the primary one first.
    pub verdicts: Vec<VerdictView>,
    /// Ratings of an arena, by judge and pooled; empty without an arena.
    pub ratings: Vec<Rating>,
    /// A line for each control arm, by the primary metric.
    pub controls: Vec<String>,
    /// A line for each arm whose evaluation chose among snapshots.
    pub choices: Vec<String>,
    /// The components of each arm's reward within groups.
    pub mixes: Vec<MixView>,
    /// Every component of every arm; empty without an evaluation.
    pub scores: Scores,
    /// The primary metric by slice and arm; empty without slices.
    pub slices: Vec<SliceMap>,
    /// Metrics of training over steps.
    pub curves: Vec<Curve>,
    /// The style of the arms' completions, and its correlation with the reward.
    pub behaviour: Vec<Behaviour>,
    /// The probes for reward hacking, by component; empty without probes.
    pub probes: Vec<ProbeTable>,
    /// The arms' completions.
    pub completions: Completions,
    /// The stages of the runs.
    pub stages: Stages,
    /// The costs.
    pub cost: Cost,
    /// The recipes of the runs.
    pub recipes: Vec<RecipeText>,
    /// The environments and arguments of the runs: names with their values.
    pub environment: Vec<(String, Vec<String>)>,
    /// How the numbers were computed, one sentence each.
    pub methods: Vec<String>,
}

/// A run.
#[derive(Clone, Debug, Default, Serialize)]
pub struct RunLine {
    /// The run's id.
    pub run: String,
    /// The run's status.
    pub status: RunStatus,
    /// When it began, in UTC.
    pub started: String,
    /// Seconds from its beginning to its end; absent while it runs.
    pub seconds: Option<f64>,
    /// The host that it ran on.
    pub host: String,
    /// The version of this program.
    pub version: String,
}

/// The severity of a problem.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    /// Numbers are missing or must not be compared.
    Problem,
    /// Numbers are valid, but mean less than they seem to.
    Warning,
    /// Additional information.
    Note,
}

impl Severity {
    /// Returns the word for the severity.
    pub fn word(self) -> &'static str {
        match self {
            Self::Problem => "problem",
            Self::Warning => "warning",
            Self::Note => "note",
        }
    }
}

/// A problem that a reader must know about.
#[derive(Clone, Debug, Serialize)]
pub struct Problem {
    /// The severity.
    pub severity: Severity,
    /// The problem, in a sentence.
    pub what: String,
    /// The affected items, one per line.
    pub details: Vec<String>,
}

/// An arm: the variants of a sweep that differ only in their seed.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Arm {
    /// The arm's name.
    pub name: String,
    /// The arm's seeds, as the recipe names them.
    pub seeds: Vec<String>,
    /// Whether the other arms are compared with it.
    pub is_baseline: bool,
    /// The reward components that it was trained on, with their weights.
    pub trained_on: BTreeMap<String, f64>,
    /// Other differences from the baseline, one setting each.
    pub differs: Vec<String>,
}

/// The comparison of the arms by one metric.
#[derive(Clone, Debug, Default, Serialize)]
pub struct VerdictView {
    /// The metric, e.g. `eval/accuracy`.
    pub metric: String,
    /// The metric's title, e.g. `accuracy`.
    pub title: String,
    /// The better direction, e.g. `higher is better`.
    pub direction: String,
    /// The metric's role: `primary metric` or `exploratory`.
    pub role: String,
    /// The outcome in one line.
    pub line: String,
    /// The outcome in sentences.
    pub sentences: Vec<String>,
    /// The arms, the baseline first.
    pub rows: Vec<VerdictRow>,
}

/// One arm compared with the baseline.
#[derive(Clone, Debug, Default, Serialize)]
pub struct VerdictRow {
    /// The index of the arm.
    pub arm: usize,
    /// The arm's measurement.
    pub value: Option<Measurement>,
    /// `better` or `worse`, whatever the number of seeds; otherwise empty.
    pub class: String,
    /// The difference from the baseline.
    pub difference: Option<Measurement>,
    /// The p-value of the difference, corrected for the number of arms (Holm).
    pub p_value: Option<f64>,
    /// The difference in standard deviations (Hedges' g).
    pub effect: Option<f64>,
    /// `better`, `worse`, `higher`, `lower`, `not separable`, `not compared` or `baseline`.
    pub word: String,
    /// Remarks on the verdict, e.g. `needs about 4 more seeds`.
    pub remark: String,
}

/// Ratings on one scale.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Rating {
    /// The source: a judge's name, or `all judges`.
    pub title: String,
    /// The players, the best first.
    pub rows: Vec<Whisker>,
    /// Fractions of games won, row against column, in the order of `rows`; absent without a game.
    pub wins: Vec<Vec<Option<f64>>>,
    /// The ratings by slice of the questions; empty without slices.
    pub slices: Vec<RatingSlices>,
    /// Agreement, position bias and other statistics, one sentence each.
    pub remarks: Vec<String>,
}

/// Ratings in the slices of an expression.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct RatingSlices {
    /// The expression over a row's fields.
    pub by: String,
    /// A row for each slice.
    pub rows: Vec<RatingSlice>,
}

/// Ratings in one slice.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct RatingSlice {
    /// The value of the expression.
    pub value: String,
    /// The number of questions.
    pub questions: usize,
    /// The number of comparisons.
    pub comparisons: usize,
    /// The rating of each player, in the order of [`Rating::rows`]; empty where the games are too few.
    pub ratings: Vec<Option<Measurement>>,
    /// The index of the first player, if its lead over the second is separable.
    pub first: Option<usize>,
    /// The reason why the games are too few; otherwise empty.
    pub too_few: String,
}

/// The matrix of components and arms.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Scores {
    /// The columns.
    pub components: Vec<Component>,
    /// A row for each arm, with a cell for each component; absent where it was not measured.
    pub rows: Vec<Vec<Option<ScoreCell>>>,
}

/// A column of the matrix.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Component {
    /// The metric, e.g. `eval/reward/semantic`.
    pub metric: String,
    /// The column's title, e.g. `semantic`.
    pub name: String,
    /// Whether no arm was trained on it.
    pub held_out: bool,
}

/// A cell of the matrix.
#[derive(Clone, Debug, Serialize)]
pub struct ScoreCell {
    /// The measurement.
    pub measured: Measurement,
    /// `better` or `worse` than the baseline; otherwise empty.
    pub verdict: String,
    /// Whether the arm was trained on the component.
    pub trained: bool,
}

/// The values of one metric by slice and arm.
#[derive(Clone, Debug, Default, Serialize)]
pub struct SliceMap {
    /// The metric and the expression, e.g. `accuracy by subject`.
    pub title: String,
    /// The expression over a row's fields.
    pub by: String,
    /// A row for each slice.
    pub rows: Vec<SliceRow>,
}

/// A row of a [`SliceMap`].
#[derive(Clone, Debug, Default, Serialize)]
pub struct SliceRow {
    /// The value of the expression.
    pub value: String,
    /// The number of questions; 0 where it is unknown.
    pub questions: usize,
    /// A cell for each arm; absent where it was not measured.
    pub cells: Vec<Option<ScoreCell>>,
}

/// The reward mix of an arm's training stage within groups.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct MixView {
    /// The index of the arm.
    pub arm: usize,
    /// The stage's name in the recipe.
    pub stage: String,
    /// The components.
    pub rows: Vec<MixRow>,
}

/// A component of a mix.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct MixRow {
    /// The component's name.
    pub name: String,
    /// The component's share of the spread within groups; absent for a held-out component.
    pub share: Option<f64>,
    /// The correlation with each component, in the order of the rows; absent with itself.
    pub correlations: Vec<Option<f64>>,
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

/// The style of an arm's completions.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Behaviour {
    /// The index of the arm.
    pub arm: usize,
    /// The number of completions.
    pub completions: usize,
    /// Mean tokens of a completion.
    pub tokens: Option<f64>,
    /// The fraction that the length limit truncated.
    pub truncated: Option<f64>,
    /// The fraction in the requested format.
    pub format: Option<f64>,
    /// The fraction of the word triples of a completion that repeat an earlier one.
    pub repetition: Option<f64>,
    /// Pearson correlation of reward and tokens; absent when either does not vary.
    pub length_correlation: Option<f64>,
    /// KL divergence from the reference policy at the end of training.
    pub kl: Option<f64>,
    /// Tokens and reward of completions. The reward is that of the evaluation's mix.
    #[serde(skip)]
    pub points: Vec<(f64, f64)>,
    /// Rewards of training against the distance from the reference policy.
    pub over_kl: Vec<OverKl>,
}

/// A reward of training against the square root of the KL divergence from the reference policy.
#[derive(Clone, Debug, Default, Serialize)]
pub struct OverKl {
    /// The stage.
    pub stage: String,
    /// `reward/mean`, or a component as `reward/NAME`.
    pub metric: String,
    /// Whether the arm's training did not reward it.
    pub held_out: bool,
    /// The square root of the divergence in nats and the reward, each a mean over a range of steps of one seed.
    pub points: Vec<(f64, f64)>,
}

/// The exploit rates of a component by probe and arm.
#[derive(Clone, Debug, Default, Serialize)]
pub struct ProbeTable {
    /// The component, with its evaluation where there are several.
    pub title: String,
    /// A row for each probe.
    pub rows: Vec<ProbeRow>,
    /// The boilerplate index of each arm; empty where no arm has one.
    pub boilerplate: Vec<Option<Measurement>>,
}

/// A row of a [`ProbeTable`].
#[derive(Clone, Debug, Default, Serialize)]
pub struct ProbeRow {
    /// The probe's name.
    pub name: String,
    /// The text that the probe gives.
    pub text: String,
    /// A cell for each arm; absent where the probe was not measured.
    pub cells: Vec<Option<ProbeCell>>,
}

/// A cell of a [`ProbeTable`].
#[derive(Clone, Debug, Serialize)]
pub struct ProbeCell {
    /// The exploit rate.
    pub measured: Measurement,
    /// Whether the rate is above one half.
    pub exploited: bool,
}

/// The arms' completions for the same questions.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Completions {
    /// Reward components, in the order of each answer's values.
    pub components: Vec<String>,
    /// Lowest and highest value of each component.
    pub ranges: Vec<(f64, f64)>,
    /// The questions.
    #[serde(skip)] // the page has them as JSON for its script
    pub questions: Vec<QuestionView>,
    /// The number of questions that are left out to limit the size of the page.
    pub left_out: usize,
}

/// A question with its answers.
#[derive(Clone, Debug, Default, Serialize)]
pub struct QuestionView {
    /// The row of the data set.
    pub row: usize,
    /// The prompt.
    pub prompt: String,
    /// The reference text.
    pub reference: Option<String>,
    /// The right answer.
    pub answer: Option<String>,
    /// The answers, by arm and seed.
    pub answers: Vec<CompletionView>,
}

/// One completion of an arm.
#[derive(Clone, Debug, Default, Serialize)]
pub struct CompletionView {
    /// The index of the arm.
    pub arm: usize,
    /// The arm's seed.
    pub seed: String,
    /// The text, cut at [`CompletionView::LONGEST`] characters.
    pub text: String,
    /// The number of characters that were cut.
    pub cut: usize,
    /// The number of sampled tokens.
    pub tokens: usize,
    /// Whether the length limit truncated it.
    pub truncated: bool,
    /// Whether the answer is right; absent without a right answer.
    pub right: Option<bool>,
    /// The weighted sum of the components.
    pub reward: Option<f64>,
    /// The values of the components.
    pub parts: Vec<Option<f64>>,
}

impl CompletionView {
    /// The maximum number of characters of a completion in a report.
    pub const LONGEST: usize = 4000;
}

/// The stages of the runs.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Stages {
    /// The graph. Stages that differ only in their seed are one node.
    pub nodes: Vec<GraphNode>,
    /// Every stage of every run.
    pub rows: Vec<StageRow>,
}

/// A stage of a run.
#[derive(Clone, Debug, Default, Serialize)]
pub struct StageRow {
    /// The end of its run's id.
    pub run: String,
    /// The stage's name.
    pub stage: String,
    /// The stage's kind.
    pub kind: String,
    /// The beginning of its cache key.
    pub key: String,
    /// The variants that need it.
    pub variants: String,
    /// The stage's status.
    pub status: StageStatus,
    /// Its duration in this run in seconds.
    pub seconds: Option<f64>,
    /// Why it failed or was skipped.
    pub message: Option<String>,
}

/// The costs of the runs.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Cost {
    /// Costs by kind of stage.
    pub kinds: Vec<CostRow>,
    /// Costs by arm: all stages that its variants need, shared ones in full.
    pub arms: Vec<CostRow>,
    /// Total costs, each stage once.
    pub total: CostRow,
    /// Seconds that sharing saved, compared with a separate copy of the shared stages for each variant.
    pub saved_by_sharing: Option<f64>,
}

/// A line of costs.
#[derive(Clone, Debug, Default, Serialize)]
pub struct CostRow {
    /// The kind or the arm.
    pub name: String,
    /// The number of stages.
    pub stages: usize,
    /// Seconds of its workers. As every number here, it is absent if it was not measured.
    pub seconds: Option<f64>,
    /// Seconds that the cache saved: the original duration of its hits.
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
    /// The recipe's path in the run's log.
    pub path: String,
    /// The recipe's text.
    pub text: String,
}
