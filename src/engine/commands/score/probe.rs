//! Probes for reward hacking on a stage's own data.

use super::super::Answers;
use super::calibrate::{Rows, triple};
use super::{Mix, rewards};
use crate::error::StageResult;
use crate::seed;
use crate::stages::unrated;
use orchestrate_core::exec::ScoreRequest;
use orchestrate_core::rewards::{PER_ROW, ProbeTally, Probed, Probing, RewardScore, Sample};
use serde_json::json;

/// Number of rows rated between reports of progress.
const BATCH: usize = 8;

pub(super) fn run(request: &ScoreRequest, limit: Option<usize>, answers: &mut Answers) -> StageResult<()> {
    let rewards = rewards(&request.assignment)?;
    let Rows { rows, others } = Rows::draw(&request.assignment, limit)?;
    let mut mix = Mix::load(request, &rewards)?;
    let references: Vec<Option<&str>> = rows.iter().map(|row| row.reference.as_deref()).collect();
    let probing = Probing::new(&mut mix.reward_mix, &rewards, &references).map_err(unrated)?;
    let mut tally = ProbeTally::default();
    for start in (0..rows.len()).step_by(BATCH) {
        let batch = start..rows.len().min(start + BATCH);
        let samples: Vec<Sample<'_>> = batch.clone().flat_map(|row| triple(&rows[row], &rows[others[row]])).collect();
        let scores = mix.reward_mix.score(&samples).map_err(unrated)?;
        // a row's group is what calibration rates: its own completion, another row's and an empty one
        for group in scores.chunks(PER_ROW) {
            tally.add_group(&group.iter().collect::<Vec<&RewardScore>>());
        }
        let probed: Vec<Probed<'_>> = batch
            .clone()
            .zip(samples.iter().zip(&scores).step_by(PER_ROW))
            .map(|(row, (&sample, score))| {
                let seed = seed::derive(request.assignment.spec.seed, &["probe", &row.to_string()]);
                Probed { row, seed, sample, score }
            })
            .collect();
        probing.add(&mut mix.reward_mix, &probed, &mut tally).map_err(unrated)?;
        mix.warn();
        answers.line(&json!({"progress": {"done": batch.end, "total": rows.len()}}))?;
        answers.flush()?;
    }
    answers.line(&tally.report(rows.len(), &rewards))?;
    answers.flush()
}
