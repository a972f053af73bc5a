//! The scores of the answers to one question.

use super::Score;
use crate::event::{Completion, ComponentScore};
use crate::stats;
use std::collections::BTreeMap;

/// Returns the scores of all `completions` to one question, by metric.
///
/// `pass_at` and `maj_at` list the k of each pass@k and maj@k, which are estimated where there are at least k
/// completions.
pub fn scores_of(completions: &[Completion], pass_at: &[usize], maj_at: &[usize]) -> BTreeMap<String, Score> {
    let part = |part: &ComponentScore| match part.value {
        Some(value) => Score::of(value),
        None => Score::missing(part.missing.as_deref().unwrap_or("no reason given")),
    };
    let mut all: BTreeMap<String, Vec<Score>> = BTreeMap::new();
    for completion in completions {
        let mut add = |name: String, score: Score| all.entry(name).or_default().push(score);
        for (name, found) in &completion.parts {
            add(format!("eval/reward/{name}"), part(found));
            // the evaluation reports their means under these names
            match name.as_str() {
                "correctness" => add("eval/accuracy".to_owned(), part(found)),
                "format_valid" => add("eval/format_valid".to_owned(), part(found)),
                _ => {}
            }
        }
        // a sum of no components is not a result
        if completion.parts.values().any(|part| part.weight != 0.0) {
            let total = completion.reward.map_or_else(|| Score::missing("a component has no value"), Score::of);
            add("eval/reward/total".to_owned(), total);
        }
        add("eval/tokens_mean".to_owned(), Score::of(completion.tokens as f64));
        let share = |holds: bool| Score::of(f64::from(u8::from(holds)));
        add("eval/truncated_frac".to_owned(), share(completion.stop_reason.truncated()));
        if let Some(eval) = &completion.eval {
            add("eval/words_mean".to_owned(), Score::of(eval.words as f64));
            if let Some(choice) = &eval.choice {
                add("eval/loglikelihood_accuracy".to_owned(), share(choice.correct));
                add("eval/loglikelihood_accuracy_norm".to_owned(), share(choice.correct_norm));
            }
        }
    }
    let mut scores: BTreeMap<String, Score> = all.into_iter().map(|(name, scores)| (name, mean(scores))).collect();
    for &k in pass_at.iter().filter(|k| (1..=completions.len()).contains(*k)) {
        scores.insert(format!("eval/pass_at_{k}"), passed(completions, k));
    }
    for &k in maj_at.iter().filter(|k| (1..=completions.len()).contains(*k)) {
        scores.insert(format!("eval/maj_at_{k}"), elected(completions, k));
    }
    scores
}

/// Returns pass@k of these completions; those with `correctness` 1 are correct.
fn passed(completions: &[Completion], k: usize) -> Score {
    let ratings = completions.iter().map(|completion| completion.parts.get("correctness")?.value);
    let correct: Option<usize> = ratings.map(|rating| Some(usize::from(rating? >= 1.0))).sum();
    let missing = || Score::missing("the correctness of an answer is not known");
    correct.map_or_else(missing, |correct| Score::of(stats::pass_at(completions.len(), correct, k)))
}

/// Returns maj@k of these completions by their votes; those with `correctness` 1 are correct.
fn elected(completions: &[Completion], k: usize) -> Score {
    let vote = |completion: &'_ Completion| -> Option<(Option<String>, bool)> {
        let right = completion.parts.get("correctness")?.value? >= 1.0;
        Some((completion.eval.as_ref()?.vote.clone(), right))
    };
    let votes: Option<Vec<(Option<String>, bool)>> = completions.iter().map(vote).collect();
    let Some(votes) = votes else { return Score::missing("the correctness of an answer is not known") };
    let votes: Vec<(Option<&str>, bool)> = votes.iter().map(|(answer, right)| (answer.as_deref(), *right)).collect();
    Score::of(stats::maj_at(&votes, k))
}

/// Returns the mean of the scores, or the first missing one: a mean of only the present ones would describe other
/// texts.
fn mean(scores: Vec<Score>) -> Score {
    let count = scores.len() as f64;
    let mut sum = 0.0;
    for score in scores {
        match score.value {
            Some(value) => sum += value,
            None => return score,
        }
    }
    Score::of(sum / count)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::{Choice, EvalRecord, StopReason};

    fn completion(rating: Option<f64>, weight: f64) -> Completion {
        let missing = rating.is_none().then(|| "no answer".to_owned());
        Completion {
            step: 1,
            row: 0,
            index: 0,
            prompt: "Longest bone?".to_owned(),
            completion: "femur".to_owned(),
            reference: None,
            answer: None,
            tokens: 4,
            stop_reason: StopReason::Length,
            reward: rating,
            advantage: None,
            player: None,
            parts: [("correctness".to_owned(), ComponentScore { value: rating, weight, missing })].into(),
            eval: Some(EvalRecord {
                question_id: "0".to_owned(),
                data_set: "mcq".to_owned(),
                out_of_domain: false,
                words: 3,
                vote: None,
                choice: Some(Choice { loglikelihoods: vec![-1.0, -2.0], correct: true, correct_norm: false }),
                slices: BTreeMap::new(),
            }),
        }
    }

    #[test]
    fn several_answers_score_their_mean_and_pass_by_the_best() {
        let found = scores_of(&[completion(Some(1.0), 1.0), completion(Some(0.0), 1.0)], &[1, 2, 3], &[]);
        let value = |name: &str| found[name].value;
        assert_eq!((value("eval/accuracy"), value("eval/reward/total")), (Some(0.5), Some(0.5)));
        assert_eq!((value("eval/pass_at_1"), value("eval/pass_at_2")), (Some(0.5), Some(1.0)));
        assert!(!found.contains_key("eval/pass_at_3"), "there are two answers");
        assert_eq!((value("eval/words_mean"), value("eval/truncated_frac")), (Some(3.0), Some(1.0)));
        assert_eq!(value("eval/loglikelihood_accuracy"), Some(1.0));
        assert_eq!(value("eval/loglikelihood_accuracy_norm"), Some(0.0));
    }

    #[test]
    fn a_missing_rating_makes_the_mean_missing() {
        let found = scores_of(&[completion(Some(1.0), 0.0), completion(None, 0.0)], &[1], &[]);
        assert_eq!(found["eval/accuracy"], Score::missing("no answer"));
        assert_eq!(found["eval/pass_at_1"].value, None);
        assert!(!found.contains_key("eval/reward/total"), "nothing has a weight");
    }
}
