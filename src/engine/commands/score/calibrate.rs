//! Calibration on a stage's own data: each row is rated with its own completion, with another row's, and with an empty
//! one.

use super::super::Answers;
use super::{Mix, rewards, tell};
use crate::data::{Answered, answered};
use crate::error::{StageError, StageResult};
use crate::policy;
use crate::seed;
use crate::stages::unrated;
use orchestrate_core::exec::ScoreRequest;
use orchestrate_core::recipe::spec::RewardSpec;
use orchestrate_core::rewards::{PER_ROW, RewardScore, Sample, calibrate};
use orchestrate_core::workspace::Assignment;
use rand::RngExt as _;
use rand::seq::SliceRandom as _;
use rand_chacha::ChaCha8Rng;
use serde_json::json;
use std::collections::BTreeMap;

/// Number of rows rated between reports of progress.
const BATCH: usize = 16;

pub(super) fn run(request: &ScoreRequest, limit: Option<usize>, answers: &mut Answers) -> StageResult<()> {
    let rewards = calibrated(rewards(&request.assignment)?)?;
    let Rows { rows, others } = Rows::draw(&request.assignment, limit)?;
    let mut mix = Mix::load(request, &rewards)?;
    let mut scores: Vec<RewardScore> = Vec::with_capacity(PER_ROW * rows.len());
    for (batch, others_of) in rows.chunks(BATCH).zip(others.chunks(BATCH)) {
        let triples = batch.iter().zip(others_of);
        let samples: Vec<Sample<'_>> = triples.flat_map(|(row, &other)| triple(row, &rows[other])).collect();
        scores.extend(mix.reward_mix.score(&samples).map_err(unrated)?);
        mix.warn();
        answers.line(&json!({"progress": {"done": scores.len() / PER_ROW, "total": rows.len()}}))?;
        answers.flush()?;
    }
    answers.line(&calibrate(&scores, &rewards))?;
    answers.flush()
}

/// Returns the components that can be calibrated. A component that reads the policy has no value for a row's
/// completion.
///
/// # Errors
/// Returns an error if there are none.
fn calibrated(mut rewards: BTreeMap<String, RewardSpec>) -> StageResult<BTreeMap<String, RewardSpec>> {
    rewards.retain(|name, reward| {
        let reads = reward.component.measure().reads_the_policy();
        if reads {
            let kind = reward.component.kind();
            tell(vec![format!("`{name}` is left out: `{kind}` measures how the policy samples, not a row's text")]);
        }
        !reads
    });
    if rewards.is_empty() {
        return Err(StageError::input("the mix has no component that can be calibrated".to_owned()));
    }
    Ok(rewards)
}

/// Rows of a stage's data in random order, each with the index of another row whose completion it is also rated with.
pub(super) struct Rows {
    pub(super) rows: Vec<Answered>,
    pub(super) others: Vec<usize>,
}

impl Rows {
    /// Draws at most `limit` rows.
    ///
    /// # Errors
    /// Returns an error for data without completions and for fewer than two rows.
    pub(super) fn draw(assignment: &Assignment, limit: Option<usize>) -> StageResult<Self> {
        let tokenizer = policy::tokenizer(assignment)?;
        let mut rows = Vec::new();
        for set in assignment.spec.work.prompts() {
            rows.extend(answered(set, &assignment.inputs, &tokenizer)?);
        }
        let mut rng = seed::generator(seed::derive(assignment.spec.seed, &["calibrate"]));
        rows.shuffle(&mut rng);
        rows.truncate(limit.unwrap_or(usize::MAX));
        if rows.len() < 2 {
            let message = format!("there are too few rows: {}", rows.len());
            return Err(
                StageError::input(message).hinted("2 are needed: each row is rated with another row's completion too")
            );
        }
        let others = derangement(rows.len(), &mut rng);
        Ok(Self { rows, others })
    }
}

/// Returns a row with its own completion, with that of `other`, and with an empty one.
pub(super) fn triple<'a>(row: &'a Answered, other: &'a Answered) -> [Sample<'a>; PER_ROW] {
    [&*row.completion, &*other.completion, ""].map(|completion| sample(row, completion))
}

/// Returns the sample of `row` with this completion.
pub(super) fn sample<'a>(row: &'a Answered, completion: &'a str) -> Sample<'a> {
    let (reference, answer) = (row.reference.as_deref(), row.answer.as_deref());
    Sample { prompt: &row.prompt, completion, reference, answer, index: 0, policy: None, row: Some(&row.id) }
}

/// Returns a permutation of 0..`count` without fixed points: a single cycle (S. Sattolo, 1986).
fn derangement(count: usize, rng: &mut ChaCha8Rng) -> Vec<usize> {
    let mut order: Vec<usize> = (0..count).collect();
    for i in (1..count).rev() {
        order.swap(i, rng.random_range(0..i));
    }
    order
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn in_a_derangement_every_row_gets_anothers_and_every_other_once() {
        for count in 2..40 {
            let order = derangement(count, &mut seed::generator(count as u64));
            assert!(order.iter().enumerate().all(|(i, other)| i != *other), "{order:?}");
            let mut sorted = order;
            sorted.sort_unstable();
            assert!(sorted.into_iter().eq(0..count));
        }
    }
}
