//! Gaps between arms: missing seeds, questions and results.

use super::sides::asked;
use super::{Arm, Evidence, Problem, ProblemKind, Trial};
use std::collections::{BTreeMap, BTreeSet};

impl Evidence {
    /// Adds the problems that need the complete evidence, such as several recipes, missing results and missing values.
    pub fn report_gaps(&mut self) {
        let mut recipes: Vec<&str> = self.runs.iter().flat_map(|run| &run.recipes).map(String::as_str).collect();
        recipes.sort_unstable();
        recipes.dedup();
        let mut problems = Vec::new();
        if recipes.len() > 1 {
            let message = format!("the runs are of {} recipes: {}", recipes.len(), recipes.join(", "));
            problems.push(Problem::new(ProblemKind::DifferentRecipes, message));
        }
        problems.extend(missing_trials(self));
        problems.extend(missing_values(self));
        problems.extend(same_answers(self));
        self.problems.extend(problems);
    }
}

/// Returns the problems of an evaluation.
pub(super) fn problems_of(
    evaluation: &str,
    baseline: &str,
    arms: &[(&Arm, Vec<&Trial>)],
    base: &[&Trial],
) -> Vec<Problem> {
    let mut problems = Vec::new();
    let seeds = |trials: &[&Trial]| trials.iter().map(|trial| trial.seed).collect::<BTreeSet<u64>>();
    let all: BTreeSet<u64> = arms.iter().flat_map(|(_, trials)| seeds(trials)).collect();
    let words =
        |seeds: &mut dyn Iterator<Item = u64>| seeds.map(|seed| seed.to_string()).collect::<Vec<String>>().join(", ");
    if base.is_empty() {
        let message =
            format!("the baseline `{baseline}` has no result of `{evaluation}`, so nothing is compared there");
        problems.push(Problem::new(ProblemKind::MissingTrial, message));
        return problems;
    }
    if arms.iter().all(|(_, trials)| seeds(trials).len() <= 1) {
        let message = format!(
            "`{evaluation}`: one seed an arm, so intervals are over questions only; another training run may differ by more"
        );
        problems.push(Problem::new(ProblemKind::SingleSeed, message));
    } else {
        for (arm, trials) in arms.iter().filter(|(_, trials)| !trials.is_empty()) {
            let own = seeds(trials);
            if own.len() < all.len() {
                let lacks = words(&mut all.difference(&own).copied());
                let message = format!(
                    "`{}` has {} of {} seeds in `{evaluation}`: it lacks {lacks}",
                    arm.name,
                    own.len(),
                    all.len()
                );
                problems.push(Problem::new(ProblemKind::MissingSeeds, message));
            }
        }
    }
    for (arm, trials) in arms {
        let in_all = asked(trials).len();
        let in_any =
            trials.iter().flat_map(|trial| &trial.answers).map(|answer| answer.question).collect::<BTreeSet<_>>().len();
        if in_any > in_all {
            let message = format!(
                "the seeds of `{}` answered different questions in `{evaluation}`: {in_all} of {in_any} were asked in all",
                arm.name
            );
            problems.push(Problem::new(ProblemKind::DifferentQuestions, message));
        }
    }
    let base_asked = asked(base);
    for (arm, trials) in arms.iter().filter(|(arm, trials)| arm.name != baseline && !trials.is_empty()) {
        let own = asked(trials);
        let common = own.intersection(&base_asked).count();
        if own.is_empty() && base_asked.is_empty() || common == own.len() && common == base_asked.len() {
            continue;
        }
        let name = &arm.name;
        let message = if common == 0 {
            format!("`{name}` and `{baseline}` have no question in common in `{evaluation}`: they are not compared")
        } else {
            let lacks =
                [(name.as_str(), baseline, base_asked.len() - common), (baseline, name.as_str(), own.len() - common)];
            let lacks = lacks.into_iter().filter(|(_, _, count)| *count > 0);
            let lacks: Vec<String> =
                lacks.map(|(one, other, count)| format!("`{one}` was not asked {count} of `{other}`'s")).collect();
            let lacks = lacks.join(", ");
            format!(
                "`{name}` and `{baseline}` are compared on the {common} questions they share in `{evaluation}`: {lacks}"
            )
        };
        problems.push(Problem::new(ProblemKind::DifferentQuestions, message));
    }
    problems
}

/// Returns the evaluations without a result, grouped by stage and reason.
fn missing_trials(evidence: &Evidence) -> Vec<Problem> {
    /// The largest number of labels that are named; the rest are counted.
    const NAMED: usize = 6;
    let mut gaps: Vec<((&str, &str), Vec<&str>)> = Vec::new();
    for gap in evidence.arms.iter().flat_map(|arm| &arm.missing) {
        let why = (gap.stage.as_str(), gap.reason.as_str());
        match gaps.iter_mut().find(|(known, _)| *known == why) {
            Some((_, labels)) => labels.push(&gap.variant),
            None => gaps.push((why, vec![&gap.variant])),
        }
    }
    let problem = |((stage, reason), labels): &((&str, &str), Vec<&str>)| {
        let named = labels.iter().take(NAMED).copied().collect::<Vec<&str>>().join(", ");
        let more = if labels.len() > NAMED { format!(" and {} more", labels.len() - NAMED) } else { String::new() };
        Problem::new(ProblemKind::MissingTrial, format!("no result of `{stage}` of {named}{more}: {reason}"))
    };
    gaps.iter().map(problem).collect()
}

/// Returns the pairs of arms whose completions to at least half of their common questions are the same, seed by seed.
fn same_answers(evidence: &Evidence) -> Vec<Problem> {
    let mut problems = Vec::new();
    for evaluation in evidence.evaluations() {
        let arms: Vec<(&str, Vec<&Trial>)> = evidence
            .arms
            .iter()
            .map(|arm| (arm.name.as_str(), arm.trials.iter().filter(|trial| trial.evaluation == evaluation).collect()))
            .collect();
        for (place, (one, trials)) in arms.iter().enumerate() {
            for (other, others) in &arms[place + 1..] {
                let (mut common, mut same) = (0, 0);
                for trial in trials {
                    let Some(rival) = others.iter().find(|rival| rival.seed == trial.seed) else { continue };
                    let answers: BTreeMap<usize, &Vec<String>> =
                        rival.answers.iter().map(|answer| (answer.question, &answer.completions)).collect();
                    for answer in &trial.answers {
                        let Some(completions) = answers.get(&answer.question) else { continue };
                        common += 1;
                        same += usize::from(**completions == answer.completions && !completions.is_empty());
                    }
                }
                if same > 0 && 2 * same >= common {
                    let message = format!(
                        "`{one}` and `{other}` gave the same completions to {same} of {common} questions of `{evaluation}`"
                    );
                    problems.push(Problem::new(ProblemKind::SameAnswers, message));
                }
            }
        }
    }
    problems
}

/// Returns the missing values by metric: one problem where no arm has any value, else one for each arm.
fn missing_values(evidence: &Evidence) -> Vec<Problem> {
    // by metric and arm: the number of answers without a value, the number of answers, the first reason
    let mut gaps: BTreeMap<&str, BTreeMap<&str, (usize, usize, &str)>> = BTreeMap::new();
    for arm in &evidence.arms {
        for (metric, scores) in arm.trials.iter().flat_map(|trial| &trial.scores) {
            let gap = gaps.entry(metric).or_default().entry(&arm.name).or_default();
            gap.1 += scores.len();
            for reason in scores.iter().filter_map(|score| score.missing.as_deref()) {
                gap.0 += 1;
                if gap.2.is_empty() {
                    gap.2 = reason;
                }
            }
        }
    }
    let mut problems = Vec::new();
    for (metric, arms) in gaps {
        let (missing, all) = arms.values().fold((0, 0), |(missing, all), gap| (missing + gap.0, all + gap.1));
        let messages: Vec<String> = if missing == all && all > 0 {
            let reason = arms.values().next().map_or("", |gap| gap.2);
            vec![format!("`{metric}` has no value for any answer of any arm: {reason}")]
        } else {
            let of_arm = |(arm, gap): (&&str, &(usize, usize, &str))| match *gap {
                (0, ..) => None,
                (missing, all, reason) if missing == all => {
                    Some(format!("`{metric}` has no value for any answer of `{arm}`: {reason}"))
                }
                (missing, all, reason) => {
                    Some(format!("`{metric}` has no value for {missing} of {all} answers of `{arm}`: {reason}"))
                }
            };
            arms.iter().filter_map(of_arm).collect()
        };
        problems.extend(messages.into_iter().map(|message| Problem::new(ProblemKind::MissingValues, message)));
    }
    problems
}
