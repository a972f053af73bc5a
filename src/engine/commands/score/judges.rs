//! Measurement of a stage's judges, on texts of a file or on its own data.

use super::super::Answers;
use super::super::input;
use super::calibrate::{Rows, sample};
use super::texts::Text;
use super::{rewards, tell};
use crate::error::{StageError, StageResult};
use crate::stages::{judge_access, unbuilt, unrated};
use orchestrate_core::exec::{Input, ScoreRequest};
use orchestrate_core::rewards::{JudgeLab, Sample, StopCheck};
use serde_json::json;

pub(super) fn run(
    request: &ScoreRequest,
    input: Option<&Input>,
    limit: Option<usize>,
    repeats: u32,
    answers: &mut Answers,
) -> StageResult<()> {
    let rewards = rewards(&request.assignment)?;
    let ledgers = tempfile::tempdir()?;
    let never = StopCheck::never();
    let access = judge_access(&request.assignment, &request.judge_cache, ledgers.path(), &never);
    let mut lab = JudgeLab::new(&rewards, access).map_err(|error| unbuilt(&error))?;
    if lab.is_empty() {
        let stage = &request.assignment.stage;
        return Err(StageError::input(format!("no reward of `{stage}` is a judge"))
            .hinted("a component of the kind `judge` asks the models that `judges` names"));
    }
    let (texts, rows);
    let samples: Vec<Sample<'_>> = if let Some(input) = input {
        let lines = input::stream(input, "completion")?;
        texts = lines.map(|line| Text::new(&line?)).collect::<StageResult<Vec<Text>>>()?;
        if texts.is_empty() {
            return Err(input::no_lines(input));
        }
        texts.iter().map(Text::sample).collect()
    } else {
        rows = Rows::draw(&request.assignment, limit)?;
        let pairs = rows.rows.iter().zip(&rows.others);
        pairs
            .flat_map(|(row, &other)| {
                [&row.completion, &rows.rows[other].completion].map(|completion| sample(row, completion))
            })
            .collect()
    };
    let mut written = Ok(());
    let mut progress = |done: usize, total: usize| {
        let line = json!({"progress": {"done": done, "total": total}});
        let telling = answers.line(&line).and_then(|()| answers.flush());
        if written.is_ok() {
            written = telling;
        }
    };
    let reports = lab.measure(&samples, repeats, &mut progress);
    tell(lab.warnings());
    written?;
    answers.line(&json!({"components": reports.map_err(unrated)?}))?;
    answers.flush()
}
