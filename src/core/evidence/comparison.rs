//! What comes of comparing arms with a baseline.

use super::Problem;
use crate::metric::Direction;
use serde::{Deserialize, Serialize};

/// The chance, over all arms of a metric together, of calling one better or worse that is not.
pub const ALPHA: f64 = 0.05;

/// What is to be compared.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ComparisonRequest {
    /// The name of the arm that all others are compared with.
    pub baseline: String,
    /// The metrics, with the direction in which they are better; empty: all of them. Without a direction the one that the
    /// recipe says or [`Direction::of`] knows.
    pub metrics: Vec<(String, Option<Direction>)>,
    /// The metric that decides; absent: [`super::Evidence::primary_metric`].
    pub primary: Option<String>,
}

/// Arms against a baseline.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Comparisons {
    /// The arm that all others are compared with.
    pub baseline: String,
    /// [`ALPHA`].
    pub alpha: f64,
    /// The share of tries in which the numbers of seeds and questions that are still needed would show the difference.
    pub power: f64,
    /// One for each metric of each evaluation, the main ones first.
    pub metrics: Vec<MetricComparison>,
    /// What a reader has to know before believing a number.
    pub problems: Vec<Problem>,
}

/// All arms by one metric.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct MetricComparison {
    /// The evaluation (see [`super::Trial::evaluation`]).
    pub evaluation: String,
    /// The metric.
    pub metric: String,
    /// Whether it decides.
    pub role: Role,
    /// Which way it is better; absent when it is unknown, and then arms are `higher` or `lower`.
    pub direction: Option<Direction>,
    /// The baseline's mean over its seeds and questions; absent when it has no value.
    pub baseline: Option<f64>,
    /// Every other arm, in the order of the evidence.
    pub arms: Vec<ArmComparison>,
}

/// One arm against the baseline.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ArmComparison {
    /// The arm.
    pub arm: String,
    /// What comes of it.
    pub verdict: Verdict,
    /// Its mean over the seeds and questions that are compared.
    pub value: Option<f64>,
    /// The baseline's over the same.
    pub baseline: Option<f64>,
    /// `value - baseline`.
    pub difference: Option<f64>,
    /// The 95% interval of the difference.
    pub interval: Option<(f64, f64)>,
    /// Two-sided p-value of the difference, alone.
    pub p_value: Option<f64>,
    /// The same after Holm's correction over the arms of the metric.
    pub p_corrected: Option<f64>,
    /// Hedges' g of the paired differences by question; absent when nothing varies.
    pub hedges_g: Option<f64>,
    /// Cliff's delta of the scores by question.
    pub cliffs_delta: Option<f64>,
    /// What the interval and p are over; absent when nothing was compared.
    pub over: Option<Over>,
    /// The arm's seeds that are compared.
    pub seeds: Vec<u64>,
    /// The baseline's.
    pub baseline_seeds: Vec<u64>,
    /// Questions that are compared.
    pub questions: usize,
    /// Questions that only this arm was asked.
    pub only_arm: usize,
    /// Questions that only the baseline was asked.
    pub only_baseline: usize,
    /// Questions of both that were left out, as a seed of either has no value.
    pub without_value: usize,
    /// Seeds of each arm that would have to be added, with the questions below if there are any; absent when the arms
    /// are separable, or when no number of seeds would help.
    pub needs_more_seeds: Option<Needed>,
    /// Questions that would have to be added; absent when the arms are separable, or when seeds alone would do.
    pub needs_more_questions: Option<u64>,
    /// Whether the arm was trained on this reward component; absent for other metrics.
    pub trained_on: Option<bool>,
    /// Why there is no comparison, or what is odd about it.
    pub note: Option<String>,
}

/// Seeds that are needed. The variance between few seeds is not known well, so this is what its middle half asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Needed {
    /// If seeds vary little.
    pub least: u64,
    /// If they vary much; absent when no number would do then.
    pub most: Option<u64>,
}

/// What a metric is there for. Ten metrics side by side find a difference by chance more often than one in twenty times, so one
/// decides.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// It decides; its p-values are corrected over the arms.
    Primary,
    /// It gives ideas: its p-values are corrected over the arms and not over the metrics.
    Exploratory,
}

/// What comes of a comparison.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub enum Verdict {
    /// The arm differs significantly from the baseline.
    Separable(Way, Basis),
    /// It does not differ significantly from the baseline.
    NotSeparable,
    /// There is nothing to compare; the note says why.
    NotCompared,
}

/// How an arm differs from the baseline.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// Better.
    Better,
    /// Worse.
    Worse,
    /// Higher, of a metric without a known direction.
    Higher,
    /// Lower, of such a metric.
    Lower,
}

/// What a difference is shown on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Basis {
    /// Several training runs.
    Seeds,
    /// One training run of each side: another may turn the verdict round.
    OneSeed,
}

impl Way {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Better, Self::Worse, Self::Higher, Self::Lower];

    /// Its word.
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
    /// What follows the word where there is one seed.
    const ONE_SEED: &str = "_on_these_questions";

    /// Its name in `--json`.
    pub fn name(self) -> String {
        match self {
            Self::Separable(way, Basis::Seeds) => way.word().to_owned(),
            Self::Separable(way, Basis::OneSeed) => way.word().to_owned() + Self::ONE_SEED,
            Self::NotSeparable => "not_separable".to_owned(),
            Self::NotCompared => "not_compared".to_owned(),
        }
    }

    /// How the arm differs, if it does.
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

/// What an interval and a p-value are over.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Over {
    /// Questions alone: another training run may differ by more.
    Questions,
    /// Seeds and questions.
    SeedsAndQuestions,
    /// Seeds alone: the stage tells one number.
    Seeds,
}
