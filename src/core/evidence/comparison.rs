//! The results of comparing arms with a baseline.

use super::Problem;
use crate::metric::Direction;
use crate::slice::{Slice, whole_metric};
use serde::{Deserialize, Serialize};

/// The probability, over all arms of a metric together, of calling one better or worse although it does not differ.
pub const ALPHA: f64 = 0.05;

/// A request to compare arms with a baseline.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ComparisonRequest {
    /// The name of the arm with which all others are compared.
    pub baseline: String,
    /// The metrics with the direction in which each is better; empty: all metrics.
    ///
    /// The default of a direction is that of the recipe or of [`Direction::of`].
    pub metrics: Vec<(String, Option<Direction>)>,
    /// The primary metric; absent: [`super::Evidence::primary_metric`].
    pub primary: Option<String>,
    /// The expressions by whose slices each metric is compared too.
    pub by: Vec<String>,
}

/// The comparisons of all arms with a baseline.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Comparisons {
    /// The name of the arm with which all others are compared.
    pub baseline: String,
    /// The significance level, [`ALPHA`].
    pub alpha: f64,
    /// The probability with which the needed numbers of seeds and questions would show the difference.
    pub power: f64,
    /// The comparisons by metric and evaluation, the main metrics first.
    pub metrics: Vec<MetricComparison>,
    /// Problems that a reader must know before relying on the numbers.
    pub problems: Vec<Problem>,
}

/// The comparison of all arms by one metric.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct MetricComparison {
    /// The name of the evaluation (see [`super::Trial::evaluation`]).
    pub evaluation: String,
    /// The name of the metric.
    pub metric: String,
    /// The slice of the questions; absent: all questions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub slice: Option<Slice>,
    /// Whether the metric is primary or exploratory.
    pub role: Role,
    /// The direction in which the metric is better; absent when unknown, and then arms are `higher` or `lower`.
    pub direction: Option<Direction>,
    /// The baseline's mean over its seeds and questions; absent when it has no value.
    pub baseline: Option<f64>,
    /// The other arms, in the order of the evidence.
    pub arms: Vec<ArmComparison>,
}

impl MetricComparison {
    /// Returns what identifies the family over which p-values are corrected: evaluation, metric over all questions, and
    /// expression of slices.
    pub fn family(&self) -> (&str, &str, Option<&str>) {
        (&self.evaluation, whole_metric(&self.metric), self.slice.as_ref().map(|slice| slice.by.as_str()))
    }
}

/// The comparison of one arm with the baseline.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ArmComparison {
    /// The name of the arm.
    pub arm: String,
    /// The verdict.
    pub verdict: Verdict,
    /// The arm's mean over the compared seeds and questions.
    pub value: Option<f64>,
    /// The baseline's mean over the compared seeds and questions.
    pub baseline: Option<f64>,
    /// The difference, `value - baseline`.
    pub difference: Option<f64>,
    /// The 95% interval of the difference.
    pub interval: Option<(f64, f64)>,
    /// The two-sided p-value of the difference, uncorrected.
    pub p_value: Option<f64>,
    /// The p-value after Holm's correction over the arms of the metric; of a slice: over all arms and slices of its
    /// expression.
    pub p_corrected: Option<f64>,
    /// Hedges' g of the paired differences by question; absent when nothing varies.
    pub hedges_g: Option<f64>,
    /// Cliff's delta of the scores by question.
    pub cliffs_delta: Option<f64>,
    /// The units over which the interval and the p-value are computed; absent when nothing was compared.
    pub over: Option<Over>,
    /// The compared seeds of the arm.
    pub seeds: Vec<u64>,
    /// The compared seeds of the baseline.
    pub baseline_seeds: Vec<u64>,
    /// The number of compared questions.
    pub questions: usize,
    /// The number of questions that only this arm was asked.
    pub only_arm: usize,
    /// The number of questions that only the baseline was asked.
    pub only_baseline: usize,
    /// The number of common questions that were left out because a seed of either arm has no value.
    pub without_value: usize,
    /// The number of seeds to add to each arm, together with the questions of `needs_more_questions` if present.
    ///
    /// Absent when the arms are separable, or when no number of seeds would help.
    pub needs_more_seeds: Option<Needed>,
    /// The number of questions to add; absent when the arms are separable, or when seeds alone would suffice.
    pub needs_more_questions: Option<u64>,
    /// Whether the arm was trained on this reward component; absent for other metrics.
    pub trained_on: Option<bool>,
    /// The reason why the arms are not compared, or a remark about the comparison.
    pub note: Option<String>,
}

/// An interval of the number of seeds that are needed.
///
/// Few seeds give an imprecise variance between seeds. The interval corresponds to the middle half of its distribution.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Needed {
    /// The number of seeds if they vary little.
    pub least: u64,
    /// The number of seeds if they vary much; absent when no number would suffice then.
    pub most: Option<u64>,
}

/// The role of a metric.
///
/// Ten metrics together find a difference by chance more often than one in twenty times, so one metric decides.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// The metric decides; its p-values are corrected over the arms.
    Primary,
    /// The metric only suggests ideas; its p-values are corrected over the arms, and over slices, but not over the
    /// metrics.
    Exploratory,
}

/// The verdict of a comparison.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub enum Verdict {
    /// The arm differs significantly from the baseline.
    Separable(Way, Basis),
    /// The arm does not differ significantly from the baseline.
    NotSeparable,
    /// The arms cannot be compared; the note has the reason.
    NotCompared,
}

/// The way in which an arm differs from the baseline.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// The arm is better.
    Better,
    /// The arm is worse.
    Worse,
    /// The arm is higher, in a metric of unknown direction.
    Higher,
    /// The arm is lower, in a metric of unknown direction.
    Lower,
}

/// The data on which a difference rests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Basis {
    /// Several training runs.
    Seeds,
    /// One training run of each arm: another run may reverse the verdict.
    OneSeed,
}

impl Way {
    /// All ways.
    pub const ALL: [Self; 4] = [Self::Better, Self::Worse, Self::Higher, Self::Lower];

    /// The way of an arm that differs by `difference` in a metric with this direction.
    pub(super) fn of(direction: Option<Direction>, difference: f64) -> Self {
        match (direction, difference > 0.0) {
            (Some(Direction::Higher), true) | (Some(Direction::Lower), false) => Self::Better,
            (Some(_), _) => Self::Worse,
            (None, true) => Self::Higher,
            (None, false) => Self::Lower,
        }
    }

    /// The word for this way, as in verdicts.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Better => "better",
            Self::Worse => "worse",
            Self::Higher => "higher",
            Self::Lower => "lower",
        }
    }
}

impl Verdict {
    /// The suffix of the name of a verdict that rests on one seed.
    const ONE_SEED: &str = "_on_these_questions";

    /// The name of the verdict in `--json`.
    pub fn name(self) -> String {
        match self {
            Self::Separable(way, Basis::Seeds) => way.word().to_owned(),
            Self::Separable(way, Basis::OneSeed) => way.word().to_owned() + Self::ONE_SEED,
            Self::NotSeparable => "not_separable".to_owned(),
            Self::NotCompared => "not_compared".to_owned(),
        }
    }

    /// The way in which the arm differs; `None` if it does not.
    pub const fn way(self) -> Option<Way> {
        match self {
            Self::Separable(way, _) => Some(way),
            Self::NotSeparable | Self::NotCompared => None,
        }
    }
}

impl From<Verdict> for String {
    fn from(verdict: Verdict) -> Self {
        verdict.name()
    }
}

impl TryFrom<String> for Verdict {
    type Error = String;

    fn try_from(name: String) -> Result<Self, String> {
        let bases = [Basis::Seeds, Basis::OneSeed];
        let separable = Way::ALL.into_iter().flat_map(|way| bases.map(|basis| Self::Separable(way, basis)));
        let mut all = separable.chain([Self::NotSeparable, Self::NotCompared]);
        all.find(|verdict| verdict.name() == name).ok_or_else(|| format!("`{name}` is not a verdict"))
    }
}

/// The units over which an interval and a p-value are computed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Over {
    /// Questions alone: another training run may differ by more.
    Questions,
    /// Seeds and questions.
    SeedsAndQuestions,
    /// Seeds alone: the stage reports one number.
    Seeds,
}
