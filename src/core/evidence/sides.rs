//! The two sides of a comparison: the seeds and questions of two arms that are compared.

use super::{Score, Trial};
use crate::stats::Design;
use std::collections::{BTreeSet, HashMap};

/// The values of one metric for two arms, ready to be compared.
pub(super) enum Sides {
    /// The values by seed and question.
    Questions {
        design: Design,
        /// The means over seeds, by question.
        arm: Vec<f64>,
        baseline: Vec<f64>,
        counts: Counts,
    },
    /// The values by seed alone, where the stage reports one number.
    Seeds { arm: Vec<f64>, baseline: Vec<f64>, paired: bool, counts: Counts },
    /// Nothing can be compared, for this reason.
    Nothing(String),
}

/// The numbers of compared and excluded seeds and questions.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Counts {
    /// The compared seeds of the arm and of the baseline.
    pub(super) seeds: (Vec<u64>, Vec<u64>),
    /// The number of compared questions.
    pub(super) questions: usize,
    /// The numbers of questions that only the arm and only the baseline was asked.
    pub(super) only: (usize, usize),
    /// The number of questions of both arms for which a seed of either has no value.
    pub(super) without_value: usize,
}

/// The metric of a comparison, and the questions over which it is compared.
#[derive(Clone, Copy)]
pub(super) struct Subject<'a> {
    /// The metric's name, with its slice if there is one.
    pub(super) metric: &'a str,
    /// The name of the metric over all questions.
    pub(super) whole: &'a str,
    /// The questions of the slice; absent: all.
    pub(super) slice: Option<&'a BTreeSet<usize>>,
}

impl Subject<'_> {
    /// Whether the question at this position takes part.
    pub(super) fn includes(&self, question: usize) -> bool {
        self.slice.is_none_or(|slice| slice.contains(&question))
    }
}

/// Selects the values of `subject` for `arm` and `baseline`, which are trials of one evaluation.
///
/// If the arms share two or more seeds, these are paired, because they share the training before the arms diverged.
/// Other seeds are left out then. The compared questions are those that every seed of both arms answered, with a value.
pub(super) fn sides(arm: &[&Trial], baseline: &[&Trial], subject: Subject<'_>) -> Sides {
    let Subject { metric, whole, .. } = subject;
    let (arm, baseline, paired) = seeds(arm, baseline);
    if arm.is_empty() || baseline.is_empty() {
        return Sides::Nothing("no result".to_owned());
    }
    let of = |trials: &[&Trial]| trials.iter().map(|trial| trial.seed).collect::<Vec<u64>>();
    let mut counts = Counts { seeds: (of(&arm), of(&baseline)), ..Counts::default() };
    let has_scores = |trials: &[&Trial]| trials.iter().all(|trial| trial.scores.contains_key(whole));
    if !(has_scores(&arm) && has_scores(&baseline)) {
        let values = |trials: &[&Trial]| -> Option<Vec<f64>> {
            trials.iter().map(|trial| Some(trial.measurements.get(metric)?.value)).collect()
        };
        return match (values(&arm), values(&baseline)) {
            (Some(arm), Some(baseline)) => Sides::Seeds { arm, baseline, paired, counts },
            (None, _) => Sides::Nothing("not measured".to_owned()),
            (_, None) => Sides::Nothing("not measured on the baseline".to_owned()),
        };
    }
    let asked_within = |trials: &[&Trial]| {
        let mut questions = asked(trials);
        questions.retain(|question| subject.includes(*question));
        questions
    };
    let (asked, base_asked) = (asked_within(&arm), asked_within(&baseline));
    let common: BTreeSet<usize> = asked.intersection(&base_asked).copied().collect();
    counts.only = (asked.len() - common.len(), base_asked.len() - common.len());
    if common.is_empty() {
        return Sides::Nothing("no question in common".to_owned());
    }
    let scores: Vec<HashMap<usize, &Score>> =
        arm.iter().chain(&baseline).map(|trial| by_question(trial, whole)).collect();
    let mut reason = None;
    let used: Vec<usize> = common
        .iter()
        .copied()
        .filter(|question| {
            let gap = scores.iter().find_map(|of_trial| match of_trial.get(question) {
                Some(Score { value: Some(value), .. }) if value.is_finite() => None,
                Some(score) => Some(score.missing.clone().unwrap_or_else(|| "not a finite number".to_owned())),
                None => Some("not answered".to_owned()),
            });
            let is_there = gap.is_none();
            reason = reason.take().or(gap);
            is_there
        })
        .collect();
    counts.questions = used.len();
    counts.without_value = common.len() - used.len();
    if used.is_empty() {
        return Sides::Nothing(format!("no value: {}", reason.unwrap_or_default()));
    }
    let rows: Vec<Vec<f64>> = scores
        .iter()
        .map(|of_trial| used.iter().filter_map(|question| of_trial.get(question)?.value).collect())
        .collect();
    let (of_arm, of_baseline) = rows.split_at(arm.len());
    let design = if paired { Design::paired(of_arm, of_baseline) } else { Design::unpaired(of_arm, of_baseline) };
    Sides::Questions { design, arm: by_column(of_arm), baseline: by_column(of_baseline), counts }
}

/// Returns the trials to compare, ordered by seed, and whether they are paired by seed.
fn seeds<'a>(arm: &[&'a Trial], baseline: &[&'a Trial]) -> (Vec<&'a Trial>, Vec<&'a Trial>, bool) {
    let ordered = |trials: &[&'a Trial]| {
        let mut trials = trials.to_vec();
        trials.sort_by_key(|trial| trial.seed);
        trials.dedup_by_key(|trial| trial.seed);
        trials
    };
    let (arm, baseline) = (ordered(arm), ordered(baseline));
    if arm.len() == 1 && baseline.len() == 1 {
        return (arm, baseline, true);
    }
    let also = |trials: &[&'a Trial], others: &[&'a Trial]| -> Vec<&'a Trial> {
        trials.iter().copied().filter(|trial| others.iter().any(|other| other.seed == trial.seed)).collect()
    };
    let common = (also(&arm, &baseline), also(&baseline, &arm));
    if common.0.len() > 1 { (common.0, common.1, true) } else { (arm, baseline, false) }
}

/// Returns the questions that all of `trials` were asked.
pub(super) fn asked(trials: &[&Trial]) -> BTreeSet<usize> {
    let of_trial = |trial: &&Trial| trial.answers.iter().map(|answer| answer.question).collect::<BTreeSet<usize>>();
    let mut sets = trials.iter().map(of_trial);
    let first = sets.next().unwrap_or_default();
    sets.fold(first, |common, other| common.intersection(&other).copied().collect())
}

fn by_question<'a>(trial: &'a Trial, metric: &str) -> HashMap<usize, &'a Score> {
    let scores = trial.scores.get(metric).into_iter().flatten();
    trial.answers.iter().map(|answer| answer.question).zip(scores).collect()
}

fn by_column(rows: &[Vec<f64>]) -> Vec<f64> {
    let count = rows.len() as f64;
    (0..rows[0].len()).map(|column| rows.iter().map(|row| row[column]).sum::<f64>() / count).collect()
}
