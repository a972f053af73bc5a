//! The arms' answers to the same questions, limited to the size of a page.

use super::data::{CompletionView, Completions, QuestionView};
use crate::evidence::{Evidence, Trial};
use crate::metric::short_name;
use std::collections::{BTreeMap, BTreeSet};

/// The default maximum number of completions in a page: some megabytes.
pub const DEFAULT_COMPLETIONS: usize = 6000;

/// Metrics of an answer that are not components of its reward.
const NO_COMPONENT: [&str; 4] = ["eval/accuracy", "eval/reward/total", "eval/tokens_mean", "eval/truncated_frac"];

/// Returns the questions with all their answers, about `most` completions. If there are more, questions are left out
/// at equal distances.
pub fn completions(evidence: &Evidence, most: usize) -> Completions {
    let metrics: BTreeSet<&String> = trials(evidence)
        .flat_map(|(_, trial)| trial.scores.keys())
        .filter(|name| !NO_COMPONENT.contains(&name.as_str()))
        .collect();
    let metrics: Vec<&String> = metrics.into_iter().collect();
    let mut by_question: BTreeMap<usize, Vec<CompletionView>> = BTreeMap::new();
    let mut counts: BTreeMap<usize, usize> = BTreeMap::new();
    for (_, trial) in trials(evidence) {
        for answer in &trial.answers {
            *counts.entry(answer.question).or_default() += answer.completions.len();
        }
    }
    let chosen = choose(&counts, most);
    for (arm, trial) in trials(evidence) {
        for (place, answer) in trial.answers.iter().enumerate().filter(|(_, answer)| chosen.contains(&answer.question))
        {
            let told = answers(arm, trial, place, &answer.completions, &metrics);
            by_question.entry(answer.question).or_default().extend(told);
        }
    }
    let questions = by_question.into_iter().map(|(place, answers)| {
        let asked = &evidence.questions[place];
        QuestionView {
            row: asked.row,
            prompt: asked.prompt.clone(),
            reference: asked.reference.clone(),
            answer: asked.answer.clone(),
            answers,
        }
    });
    let questions: Vec<QuestionView> = questions.collect();
    Completions {
        components: metrics.iter().map(|metric| short_name(metric).to_owned()).collect(),
        ranges: (0..metrics.len()).map(|part| range(&questions, part)).collect(),
        left_out: counts.len() - questions.len(),
        questions,
    }
}

fn trials(evidence: &Evidence) -> impl Iterator<Item = (usize, &Trial)> {
    let arms = evidence.arms.iter().enumerate();
    arms.flat_map(|(place, arm)| arm.trials.iter().map(move |trial| (place, trial)))
}

/// Selects questions at equal distances, so that they have about `most` completions; at least one question.
fn choose(counts: &BTreeMap<usize, usize>, most: usize) -> BTreeSet<usize> {
    let all: Vec<usize> = counts.keys().copied().collect();
    let total: usize = counts.values().sum();
    if total <= most {
        return all.into_iter().collect();
    }
    let mean = total.div_ceil(all.len());
    let wanted = (most / mean).clamp(1, all.len());
    (0..wanted).map(|i| all[i * all.len() / wanted]).collect()
}

/// Returns the completions of a trial for one of its questions. If there are several, the values are their means, and
/// only the first completion has them.
fn answers(arm: usize, trial: &Trial, place: usize, texts: &[String], metrics: &[&String]) -> Vec<CompletionView> {
    let score = |metric: &str| trial.scores.get(metric).and_then(|column| column.get(place)?.value);
    let answer = |(number, text): (usize, &String)| {
        let shown: String = text.chars().take(CompletionView::LONGEST).collect();
        let value = |metric: &str| if number == 0 { score(metric) } else { None };
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a count of tokens")]
        let tokens = value("eval/tokens_mean").unwrap_or(0.0).round() as usize;
        CompletionView {
            arm,
            seed: trial.seed.to_string(),
            cut: text.chars().count() - shown.chars().count(),
            text: shown,
            tokens,
            truncated: value("eval/truncated_frac").is_some_and(|share| share > 0.5),
            right: value("eval/accuracy").map(|accuracy| accuracy >= 0.5),
            reward: value("eval/reward/total"),
            parts: metrics.iter().map(|metric| value(metric)).collect(),
        }
    };
    texts.iter().enumerate().map(answer).collect()
}

/// Returns the lowest and highest value, at least 0 to 1, so that bars of different questions are comparable.
fn range(questions: &[QuestionView], part: usize) -> (f64, f64) {
    let answers = questions.iter().flat_map(|question| &question.answers);
    let values = answers.filter_map(|answer| answer.parts[part]).filter(|value| value.is_finite());
    values.fold((0.0, 1.0), |(low, high): (f64, f64), value| (low.min(value), high.max(value)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_too_many_questions_some_are_left_out_evenly_and_never_all() {
        let counts: BTreeMap<usize, usize> = (0..100).map(|question| (question, 9)).collect();
        assert_eq!(choose(&counts, 900).len(), 100);
        assert_eq!(choose(&counts, 90), (0..100).step_by(10).collect());
        assert_eq!(choose(&counts, 1), BTreeSet::from([0]));
        assert!(choose(&BTreeMap::new(), 1).is_empty());
    }
}
