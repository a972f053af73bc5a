//! Compares arms with a baseline: verdicts, and the seeds or questions that a decision still needs.

use super::comparison::{
    ALPHA, ArmComparison, Basis, ComparisonRequest, Comparisons, MetricComparison, Needed, Over, Role, Verdict, Way,
};
use super::gaps::problems_of;
use super::metric::is_result;
use super::mix::difference_of_meaning;
use super::sides::{Counts, Sides, Subject, sides};
use super::{Arm, Evidence, Trial};
use crate::metric::{Direction, rank};
use crate::slice::Slice;
use crate::stats::{
    CrossedTest, Interval, POWER, both_needed, cliffs_delta, crossed_tests, hedges_g, holm, likely_variance, mean,
    paired_seeds, questions_needed, seeds_needed, unpaired_seeds, variance,
};
use std::collections::{BTreeMap, BTreeSet, HashMap};

/// A comparison whose statistics are not computed yet.
struct Open {
    metric: usize,
    sides: Sides,
    row: ArmComparison,
}

/// Compares every arm of `evidence` with the baseline, for each metric.
pub fn compare(evidence: &Evidence, request: &ComparisonRequest) -> Comparisons {
    let mut metrics = Vec::new();
    let mut open: Vec<Open> = Vec::new();
    let mut problems = evidence.problems.clone();
    let primary = request.primary.clone().or_else(|| evidence.primary_metric());
    for evaluation in evidence.evaluations() {
        let arms: Vec<(&Arm, Vec<&Trial>)> = evidence.arms.iter().map(|arm| (arm, trials(arm, evaluation))).collect();
        let Some((_, baseline)) = arms.iter().find(|(arm, _)| arm.name == request.baseline) else { continue };
        problems.extend(problems_of(evaluation, &request.baseline, &arms, baseline));
        let asked = Asked { evidence, evaluation, arms: &arms, baseline_name: &request.baseline, baseline };
        for (metric, direction) in wanted(evidence, request, &arms) {
            let role = if primary.as_ref() == Some(&metric) { Role::Primary } else { Role::Exploratory };
            let subject = Subject { metric: &metric, whole: &metric, slice: None };
            asked.add((subject, None), (role, direction), &mut metrics, &mut open);
            for by in &request.by {
                for (slice, questions) in asked.slices(&metric, by) {
                    let name = slice.metric(&metric);
                    let subject = Subject { metric: &name, whole: &metric, slice: Some(&questions) };
                    asked.add((subject, Some(slice)), (Role::Exploratory, direction), &mut metrics, &mut open);
                }
            }
        }
    }
    measure(&mut open, &metrics);
    for Open { metric, mut row, .. } in open {
        let metric = &mut metrics[metric];
        row.interval = row.interval.map(|interval| evidence.possible_difference(&metric.metric, interval));
        metric.arms.push(row);
    }
    metrics.retain(|metric| !metric.arms.is_empty());
    metrics.chunk_by_mut(|one, other| one.family() == other.family()).for_each(judge);
    Comparisons { baseline: request.baseline.clone(), alpha: ALPHA, power: POWER, metrics, problems }
}

/// The arms that answered one evaluation.
struct Asked<'a> {
    evidence: &'a Evidence,
    evaluation: &'a str,
    arms: &'a [(&'a Arm, Vec<&'a Trial>)],
    baseline_name: &'a str,
    baseline: &'a [&'a Trial],
}

impl Asked<'_> {
    /// Returns the slices by `by` with their questions. Of a program that reports slices itself, the questions are
    /// unknown.
    fn slices(&self, metric: &str, by: &str) -> BTreeMap<Slice, BTreeSet<usize>> {
        let mut found: BTreeMap<Slice, BTreeSet<usize>> = BTreeMap::new();
        let trials = || self.arms.iter().flat_map(|(_, trials)| trials);
        for question in trials().flat_map(|trial| &trial.answers).map(|answer| answer.question) {
            let value = self.evidence.questions.get(question).and_then(|question| question.slices.get(by));
            if let Some(value) = value {
                let slice = Slice { by: by.to_owned(), value: value.clone() };
                found.entry(slice).or_default().insert(question);
            }
        }
        for name in trials().flat_map(|trial| trial.measurements.keys()) {
            if let Some((whole, slice)) = Slice::of_metric(name).filter(|(_, slice)| slice.by == by)
                && whole == metric
            {
                found.entry(slice).or_default();
            }
        }
        found
    }

    /// Adds the comparison of every arm with the baseline by one metric, without its statistics.
    fn add(
        &self,
        (subject, slice): (Subject<'_>, Option<Slice>),
        (role, direction): (Role, Option<Direction>),
        metrics: &mut Vec<MetricComparison>,
        open: &mut Vec<Open>,
    ) {
        for (arm, trials) in self.arms {
            if arm.name == self.baseline_name || trials.is_empty() {
                continue;
            }
            let sides = match difference_of_meaning(subject.whole, trials, self.baseline) {
                Some(reason) => Sides::Nothing(reason),
                None => sides(trials, self.baseline, subject),
            };
            let trained_on = subject
                .whole
                .strip_prefix("eval/reward/")
                .filter(|component| *component != "total")
                .map(|component| arm.trained_on.get(component).is_some_and(|weight| *weight != 0.0));
            open.push(Open { metric: metrics.len(), row: row(&arm.name, &sides, trained_on), sides });
        }
        metrics.push(MetricComparison {
            evaluation: self.evaluation.to_owned(),
            metric: subject.metric.to_owned(),
            slice,
            role,
            direction,
            baseline: baseline_value(self.baseline, subject),
            arms: Vec::new(),
        });
    }
}

fn trials<'a>(arm: &'a Arm, evaluation: &str) -> Vec<&'a Trial> {
    arm.trials.iter().filter(|trial| trial.evaluation == evaluation).collect()
}

/// Returns the requested metrics that any of `arms` has, with their directions.
fn wanted(
    evidence: &Evidence,
    request: &ComparisonRequest,
    arms: &[(&Arm, Vec<&Trial>)],
) -> Vec<(String, Option<Direction>)> {
    let known: BTreeSet<&String> = arms
        .iter()
        .flat_map(|(_, trials)| trials)
        .flat_map(|trial| trial.scores.keys().chain(trial.measurements.keys()))
        .filter(|name| is_result(name))
        .collect();
    if !request.metrics.is_empty() {
        let found = request.metrics.iter().filter(|(name, _)| known.contains(name));
        return found
            .map(|(name, direction)| (name.clone(), direction.or_else(|| evidence.direction_of(name))))
            .collect();
    }
    // a component that the evaluation reports under another name is listed once
    let again = |name: &str| match name {
        "eval/reward/correctness" => known.contains(&"eval/accuracy".to_owned()),
        _ => false,
    };
    let mut names: Vec<&String> = known.iter().copied().filter(|name| !again(name)).collect();
    names.sort_by_key(|name| (rank(name), *name));
    names.into_iter().map(|name| (name.clone(), evidence.direction_of(name))).collect()
}

/// Returns the names of all metrics by which arms can be compared, the main ones first.
pub fn metric_names(evidence: &Evidence) -> Vec<String> {
    let trials = evidence.arms.iter().flat_map(|arm| &arm.trials);
    let names: BTreeSet<&String> =
        trials.flat_map(|trial| trial.scores.keys().chain(trial.measurements.keys())).collect();
    let mut names: Vec<String> = names.into_iter().filter(|name| is_result(name)).cloned().collect();
    names.sort_by_key(|name| (rank(name), name.clone()));
    names
}

/// Returns the expressions by which the questions of any trial are sliced.
pub fn slice_names(evidence: &Evidence) -> BTreeSet<String> {
    let of_questions = evidence.questions.iter().flat_map(|question| question.slices.keys().cloned());
    let trials = evidence.arms.iter().flat_map(|arm| &arm.trials);
    let reported = trials.flat_map(|trial| trial.measurements.keys());
    of_questions.chain(reported.filter_map(|name| Some(Slice::of_metric(name)?.1.by))).collect()
}

/// Returns the mean over all of the baseline's answers that have a value, or else over the numbers that its stages
/// report.
fn baseline_value(trials: &[&Trial], subject: Subject<'_>) -> Option<f64> {
    let scored = trials.iter().filter_map(|trial| Some(trial.answers.iter().zip(trial.scores.get(subject.whole)?)));
    let scores = scored.flatten().filter(|(answer, _)| subject.includes(answer.question));
    let scores: Vec<f64> = scores.filter_map(|(_, score)| score.value).collect();
    let reported = |trial: &&Trial| Some(trial.measurements.get(subject.metric)?.value);
    let whole = || trials.iter().filter_map(reported).collect::<Vec<f64>>();
    mean(&scores).or_else(|| mean(&whole()))
}

/// Returns the row of an arm before any statistics.
fn row(arm: &str, sides: &Sides, trained_on: Option<bool>) -> ArmComparison {
    let (counts, value, baseline, over, note) = match sides {
        Sides::Questions { design, arm, baseline, counts } => {
            let over = if design.has_several_seeds() { Over::SeedsAndQuestions } else { Over::Questions };
            (counts.clone(), mean(arm), mean(baseline), Some(over), None)
        }
        Sides::Seeds { arm, baseline, counts, .. } => {
            (counts.clone(), mean(arm), mean(baseline), Some(Over::Seeds), None)
        }
        Sides::Nothing(reason) => (Counts::default(), None, None, None, Some(reason.clone())),
    };
    ArmComparison {
        arm: arm.to_owned(),
        verdict: Verdict::NotCompared,
        value,
        baseline,
        difference: value.zip(baseline).map(|(value, baseline)| value - baseline),
        interval: None,
        p_value: None,
        p_corrected: None,
        hedges_g: None,
        cliffs_delta: None,
        over,
        seeds: counts.seeds.0,
        baseline_seeds: counts.seeds.1,
        questions: counts.questions,
        only_arm: counts.only.0,
        only_baseline: counts.only.1,
        without_value: counts.without_value,
        needs_more_seeds: None,
        needs_more_questions: None,
        trained_on,
        note,
    }
}

/// Fills in intervals, p-values, effect sizes, and the seeds or questions that are still needed.
fn measure(open: &mut [Open], metrics: &[MetricComparison]) {
    let designs: Vec<_> = open
        .iter()
        .filter_map(|one| if let Sides::Questions { design, .. } = &one.sides { Some(design.clone()) } else { None })
        .collect();
    let mut computed = crossed_tests(&designs).into_iter();
    let mut rivals: HashMap<_, usize> = HashMap::new();
    for one in open.iter().filter(|one| one.row.over.is_some()) {
        *rivals.entry(metrics[one.metric].family()).or_default() += 1;
    }
    for one in open.iter_mut() {
        let arms = rivals.get(&metrics[one.metric].family()).copied().unwrap_or(1);
        let alpha = ALPHA / arms as f64;
        match &one.sides {
            Sides::Nothing(_) => {}
            Sides::Questions { arm, baseline, .. } => {
                let Some(test) = computed.next() else { break };
                one.row.hedges_g = hedges_g(&arm.iter().zip(baseline).map(|(a, b)| a - b).collect::<Vec<f64>>());
                one.row.cliffs_delta = cliffs_delta(arm, baseline);
                fill(&mut one.row, (arm, baseline), test, alpha);
            }
            Sides::Seeds { arm, baseline, paired, .. } => {
                let found = if *paired { paired_seeds(arm, baseline) } else { unpaired_seeds(arm, baseline) };
                let Some(found) = found else { continue };
                one.row.interval = found.interval.map(|Interval { low, high }| (low, high));
                one.row.p_value = found.p_value;
                one.row.note = match (found.between_seeds, found.p_value) {
                    (None, _) => Some("one number and one seed: the variance is unknown".to_owned()),
                    (Some(_), None) if found.difference == 0.0 => Some("every seed measured the same".to_owned()),
                    (Some(_), None) => {
                        Some("every seed differs by the same amount: the variance is unknown".to_owned())
                    }
                    _ => None,
                };
                // without variation, the needed number of seeds is unknown
                if let Some(between_seeds) = found.between_seeds.filter(|_| found.p_value.is_some()) {
                    let there = arm.len().min(baseline.len());
                    let needed = |spread| seeds_needed(found.difference, 0.0, 1, spread, alpha);
                    one.row.needs_more_seeds = likely(between_seeds, there as f64 - 1.0, there, needed);
                }
            }
        }
    }
}

/// Fills in the result of a comparison by question.
fn fill(row: &mut ArmComparison, (arm, baseline): (&[f64], &[f64]), test: Option<CrossedTest>, alpha: f64) {
    let Some(test) = test else {
        row.note = Some("one question: the variance is unknown".to_owned());
        return;
    };
    row.interval = test.interval.map(|Interval { low, high }| (low, high));
    row.p_value = test.p_value;
    if test.p_value.is_none() {
        let same = test.difference == 0.0;
        row.note =
            Some(if same { "every answer scores the same" } else { "every question differs by the same" }.into());
        return;
    }
    let questions = row.questions as f64;
    if row.over == Some(Over::SeedsAndQuestions) {
        let of_question = test.of_questions * questions;
        let there = row.seeds.len().min(row.baseline_seeds.len());
        let needed = |spread| seeds_needed(test.difference, test.of_questions, row.questions, spread, alpha);
        let seeds = likely(test.between_seeds, test.seeds_df, there, needed);
        (row.needs_more_seeds, row.needs_more_questions) = match seeds {
            Some(seeds) => (Some(seeds), None),
            None if test.between_seeds > 0.0 => {
                let needed = both_needed(test.difference, of_question, test.between_seeds, alpha);
                let seeds = needed.map(|(seeds, _)| seeds.saturating_sub(there as u64)).filter(|&seeds| seeds > 0);
                let seeds = seeds.map(|seeds| Needed { least: seeds, most: Some(seeds) });
                (seeds, needed.map(|(_, questions)| further(questions, row.questions)))
            }
            None => {
                let needed = questions_needed(test.difference, of_question, alpha);
                (None, needed.map(|questions| further(questions, row.questions)))
            }
        };
    } else {
        let differences: Vec<f64> = arm.iter().zip(baseline).map(|(a, b)| a - b).collect();
        let needed = questions_needed(test.difference, variance(&differences), alpha);
        row.needs_more_questions = needed.map(|needed| further(needed, row.questions));
    }
}

/// Returns the seeds to add to those that are `there`; `None` when even seeds that vary little would not suffice.
///
/// `needed` computes the number of seeds from the variance between them. That variance is estimated as `between_seeds`
/// with `df` degrees of freedom.
fn likely(between_seeds: f64, df: f64, there: usize, needed: impl Fn(f64) -> Option<u64>) -> Option<Needed> {
    needed(between_seeds)?;
    let (little, much) = likely_variance(between_seeds, df);
    let least = further(needed(little)?, there);
    Some(Needed { least, most: needed(much).map(|seeds| further(seeds, there)) })
}

/// Returns the number of `needed` that is still missing. It is at least 1, because the present number did not suffice.
fn further(needed: u64, there: usize) -> u64 {
    needed.saturating_sub(there as u64).max(1)
}

/// Corrects the p-values of a family together and sets the verdict of each arm by each of its metrics.
fn judge(family: &mut [MetricComparison]) {
    let rows = family.iter().flat_map(|metric| &metric.arms);
    let p_values: Vec<f64> = rows.filter_map(|row| row.p_value).collect();
    let mut corrected = holm(&p_values).into_iter();
    let rows = family.iter_mut().flat_map(|metric| {
        let direction = metric.direction;
        metric.arms.iter_mut().map(move |row| (row, direction))
    });
    for (row, direction) in rows {
        row.p_corrected = row.p_value.and_then(|_| corrected.next());
        let basis = if row.over == Some(Over::Questions) { Basis::OneSeed } else { Basis::Seeds };
        row.verdict = match (row.difference, row.p_corrected) {
            (None, _) => Verdict::NotCompared,
            (Some(difference), Some(p_value)) if p_value < ALPHA => {
                Verdict::Separable(Way::of(direction, difference), basis)
            }
            _ => Verdict::NotSeparable,
        };
        if row.verdict != Verdict::NotSeparable {
            (row.needs_more_seeds, row.needs_more_questions) = (None, None);
        }
    }
}
