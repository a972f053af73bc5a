//! The search for enough seeds: which arms are separable from the baseline, and which need more seeds.
//!
//! The seeds have an order. For every number n of seeds, from the first look to the number that is there, the first n
//! seeds of each open arm are compared with those of the baseline, as [`compare`] does. An arm is separable when its p
//! is at most the level of [`RepeatedTest`], which keeps the error rate over all looks.
//!
//! Several arms share [`ALPHA`] by Holm's method: of m arms that are not separable yet, the smallest p must reach the
//! level of `ALPHA / m`, the next that of `ALPHA / (m - 1)`, and so on. A separable arm stays so, and leaves its share
//! to the others; one that was given up keeps it (W. Maurer and F. Bretz, "Multiple testing in group sequential trials
//! using graphical approaches", 2013).
//!
//! An arm is given up when more seeds cannot help: when nothing varies, or, from five seeds on, when even the
//! optimistic estimate needs more than twice the seeds that are allowed. Giving up early never makes a false verdict,
//! so the levels need not know of it.
//!
//! What follows depends on the results in the order of their seeds alone: not on the rounds, nor on interruptions.

use super::comparison::{ALPHA, ArmComparison, ComparisonRequest, Way};
use super::{Arm, Evidence, QuestionCompletions, Trial, compare};
use crate::metric::Direction;
use crate::stats::RepeatedTest;
use serde::{Deserialize, Serialize};
use std::collections::HashMap;

/// The number of seeds from which on an arm may be given up. Fewer say too little about their variance.
const GIVE_UP_FROM: usize = 5;
/// An arm is given up if even the optimistic estimate exceeds the allowed number of seeds by this factor.
const GIVE_UP_FACTOR: u64 = 2;

/// The search for the seeds that separate arms from a baseline.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SeedSearch {
    /// The name of the arm with which all others are compared.
    pub baseline: String,
    /// The name of the evaluation; absent: the first one that measures the primary metric.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub evaluation: Option<String>,
    /// The seeds so far, in the order in which they are looked at.
    pub seeds: Vec<u64>,
    /// The number of seeds at the first look, at least 2.
    pub first: usize,
    /// The largest number of seeds of an arm.
    pub most: usize,
}

/// The state of a search.
#[derive(Clone, Debug, PartialEq)]
pub struct SearchState {
    /// The evaluation by which the arms are compared.
    pub evaluation: String,
    /// The metric by which the arms are compared.
    pub metric: String,
    /// The direction in which the metric is better.
    pub direction: Option<Direction>,
    /// The other arms, in the order of the evidence.
    pub arms: Vec<SearchedArm>,
    /// The number of seeds to add to the open arms and to the baseline; 0 at the end of the search.
    pub add: usize,
}

/// An arm of a search.
#[derive(Clone, Debug, PartialEq)]
pub struct SearchedArm {
    /// The name of the arm.
    pub arm: String,
    /// The decision.
    pub decision: Decision,
    /// The number of seeds at the look of `row`.
    pub seeds: usize,
    /// The p-value that this look demands, given the other arms; absent before the first look.
    pub level: Option<f64>,
    /// The comparison at the look of the decision, or at the newest look of an open arm.
    pub row: Option<ArmComparison>,
}

/// The decision about an arm.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decision {
    /// The arm differs from the baseline.
    Separable(Way),
    /// More seeds may show whether the arm differs.
    Open,
    /// The arm has the largest number of seeds and is not separable.
    Exhausted,
    /// More seeds would not help, for this reason.
    GivenUp(String),
}

impl Decision {
    /// The name of the decision in `--json`.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Separable(way) => way.word(),
            Self::Open => "open",
            Self::Exhausted => "not_separable",
            Self::GivenUp(_) => "given_up",
        }
    }
}

/// Why a search cannot look at the results.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SearchProblem {
    /// No metric can decide.
    NoMetric,
    /// No evaluation measures the metric on the baseline, or not the requested one. These do.
    NoEvaluation {
        /// The metric.
        metric: String,
        /// The evaluations that measure it on the baseline.
        known: Vec<String>,
    },
}

impl SeedSearch {
    /// Looks at the results of all seeds so far.
    ///
    /// # Errors
    /// There is nothing to compare by.
    ///
    /// # Panics
    /// Panics if `levels` are of another search.
    pub fn look(&self, evidence: &Evidence, levels: &mut SearchLevels) -> Result<SearchState, SearchProblem> {
        let metric = evidence.primary_metric().ok_or(SearchProblem::NoMetric)?;
        let measures = |trial: &&Trial| trial.scores.contains_key(&metric) || trial.measurements.contains_key(&metric);
        let baseline = evidence.arm(&self.baseline);
        let mut known: Vec<String> = Vec::new();
        for trial in baseline.iter().flat_map(|arm| &arm.trials).filter(measures) {
            if !known.contains(&trial.evaluation) {
                known.push(trial.evaluation.clone());
            }
        }
        let evaluation = match &self.evaluation {
            None => known.first(),
            Some(wanted) => known.iter().find(|name| *name == wanted),
        };
        let Some(evaluation) = evaluation.cloned() else { return Err(SearchProblem::NoEvaluation { metric, known }) };
        let has_evaluation = |arm: &&Arm| arm.trials.iter().any(|trial| trial.evaluation == evaluation);
        let others = evidence.arms.iter().filter(|arm| arm.name != self.baseline).filter(has_evaluation);
        let open = |arm: &Arm| SearchedArm {
            arm: arm.name.clone(),
            decision: Decision::Open,
            seeds: self.seeds.len(),
            level: None,
            row: None,
        };
        let mut state = SearchState {
            direction: evidence.direction_of(&metric),
            arms: others.map(open).collect(),
            evaluation,
            metric,
            add: 0,
        };
        assert_eq!((levels.first, levels.most), (self.first, self.most), "the levels are those of this search");
        self.look_at_all(evidence, &mut state, levels);
        state.add = self.to_add(&state);
        Ok(state)
    }

    fn look_at_all(&self, evidence: &Evidence, state: &mut SearchState, levels: &mut SearchLevels) {
        for n in self.first..=self.seeds.len() {
            let mut open: Vec<usize> =
                (0..state.arms.len()).filter(|&at| state.arms[at].decision == Decision::Open).collect();
            let rows = self.rows(evidence, state, &open, n);
            for (&at, row) in open.iter().zip(rows) {
                state.arms[at].seeds = n;
                state.arms[at].row = row;
            }
            let difference = |arm: &SearchedArm| arm.row.as_ref().and_then(|row| row.difference).unwrap_or(0.0);
            let p_value = |arm: &SearchedArm| arm.row.as_ref().and_then(|row| row.p_value).unwrap_or(1.0);
            open.sort_by(|&a, &b| p_value(&state.arms[a]).total_cmp(&p_value(&state.arms[b])));
            let is_separable = |arm: &&SearchedArm| matches!(arm.decision, Decision::Separable(_));
            // An arm that was given up keeps its share.
            let (shares, mut rejected) = (state.arms.len() - state.arms.iter().filter(is_separable).count(), 0);
            for (rank, &at) in open.iter().enumerate() {
                let level = levels.of(ALPHA / (shares - rejected) as f64, n);
                let arm = &mut state.arms[at];
                arm.level = Some(level);
                // Holm's method stops at the first arm that fails.
                if rejected == rank && p_value(arm) <= level {
                    rejected += 1;
                    arm.decision = Decision::Separable(Way::of(state.direction, difference(arm)));
                } else if let Some(reason) = self.hopeless(arm, n) {
                    arm.decision = Decision::GivenUp(reason);
                } else if n >= self.most {
                    arm.decision = Decision::Exhausted;
                }
            }
        }
    }

    /// Compares the first `n` seeds of the `open` arms with those of the baseline; `None` where an arm lacks one.
    fn rows(&self, evidence: &Evidence, state: &SearchState, open: &[usize], n: usize) -> Vec<Option<ArmComparison>> {
        let seeds = &self.seeds[..n];
        let part = |name: &str| evidence.arm(name).and_then(|arm| first_seeds(arm, state, seeds));
        let mut arms: Vec<Arm> = part(&self.baseline).into_iter().collect();
        if !arms.is_empty() {
            arms.extend(open.iter().filter_map(|&at| part(&state.arms[at].arm)));
        }
        let (ranges, settings) = (evidence.ranges.clone(), evidence.settings.clone());
        let evidence = Evidence { arms, ranges, settings, ..Evidence::default() };
        let metrics = vec![(state.metric.clone(), state.direction)];
        let request = ComparisonRequest { baseline: self.baseline.clone(), metrics, primary: None, by: Vec::new() };
        let rows = compare(&evidence, &request).metrics.into_iter().flat_map(|metric| metric.arms);
        let mut rows: HashMap<String, ArmComparison> = rows.map(|row| (row.arm.clone(), row)).collect();
        open.iter().map(|&at| rows.remove(&state.arms[at].arm)).collect()
    }

    /// Returns the reason why more seeds would not separate `arm`, which has `n`.
    fn hopeless(&self, arm: &SearchedArm, n: usize) -> Option<String> {
        let Some(row) = &arm.row else { return Some("a seed has no result".to_owned()) };
        if row.p_value.is_none() {
            return Some(row.note.clone().unwrap_or_else(|| "the variance is unknown".to_owned()));
        }
        // An arm that `compare` would separate at a single look is close to its level.
        if n < GIVE_UP_FROM || n >= self.most || row.verdict.way().is_some() {
            return None;
        }
        let most = GIVE_UP_FACTOR * self.most as u64;
        match (row.needs_more_seeds, row.needs_more_questions) {
            (Some(needed), _) if n as u64 + needed.least <= most => None,
            (Some(needed), _) => Some(format!("it needs at least {} seeds", n as u64 + needed.least)),
            (None, Some(questions)) => Some(format!("it needs {questions} more questions rather than seeds")),
            (None, None) => Some("no number of seeds would show so small a difference".to_owned()),
        }
    }

    /// Returns how many seeds the next round adds: half of those that the arm that needs the fewest may need, so that
    /// few are added in vain. A round ends where an arm may be given up.
    fn to_add(&self, state: &SearchState) -> usize {
        let there = self.seeds.len();
        let left = self.most.saturating_sub(there);
        let needed = |arm: &SearchedArm| match &arm.row {
            Some(ArmComparison { needs_more_seeds: Some(needed), .. }) => {
                usize::try_from(needed.least).ok().filter(|least| *least <= left)
            }
            _ => None,
        };
        let open: Vec<&SearchedArm> = state.arms.iter().filter(|arm| arm.decision == Decision::Open).collect();
        if open.is_empty() {
            return 0;
        }
        if there < self.first {
            return self.first - there;
        }
        let half = open.iter().filter_map(|arm| needed(arm)).min().map_or(1, |least| least.div_ceil(2));
        let until_given_up = if there < GIVE_UP_FROM { GIVE_UP_FROM - there } else { left };
        half.min(until_given_up).min(left)
    }
}

/// The levels of the repeated test of a search, computed once for each error rate.
#[derive(Clone, Debug)]
pub struct SearchLevels {
    first: usize,
    most: usize,
    test: RepeatedTest,
    known: HashMap<u64, Vec<f64>>,
}

impl SearchLevels {
    /// Creates the levels of `search`.
    ///
    /// # Panics
    /// Panics unless `2 <= first <= most`.
    pub fn new(search: &SeedSearch) -> Self {
        let &SeedSearch { first, most, .. } = search;
        Self { first, most, test: RepeatedTest::new(first, most), known: HashMap::new() }
    }

    pub(super) fn of(&mut self, alpha: f64, n: usize) -> f64 {
        let levels = self.known.entry(alpha.to_bits()).or_insert_with(|| self.test.levels(alpha));
        levels[n - self.first]
    }
}

/// Returns `arm` with its trials of the searched evaluation and of `seeds`; `None` if one of the seeds is missing.
fn first_seeds(arm: &Arm, state: &SearchState, seeds: &[u64]) -> Option<Arm> {
    let of_seed = |seed: &u64| {
        let trial = arm.trials.iter().find(|trial| trial.seed == *seed && trial.evaluation == state.evaluation)?;
        let questions = trial.answers.iter().map(|answer| answer.question);
        let scores = trial.scores.get_key_value(&state.metric).into_iter();
        let measurements = trial.measurements.get_key_value(&state.metric).into_iter();
        Some(Trial {
            seed: trial.seed,
            run: trial.run.clone(),
            variant: trial.variant.clone(),
            stage: trial.stage.clone(),
            kind: trial.kind,
            evaluation: trial.evaluation.clone(),
            key: trial.key.clone(),
            // The texts are not compared.
            answers: questions.map(|question| QuestionCompletions { question, completions: Vec::new() }).collect(),
            scores: scores.map(|(name, scores)| (name.clone(), scores.clone())).collect(),
            mix: trial.mix.clone(),
            measurements: measurements.map(|(name, measured)| (name.clone(), *measured)).collect(),
        })
    };
    let trials = seeds.iter().map(of_seed).collect::<Option<Vec<Trial>>>()?;
    let (name, recipe) = (arm.name.clone(), arm.recipe.clone());
    Some(Arm { name, recipe, trials, ..Arm::default() })
}
