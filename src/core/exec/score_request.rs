//! Requests to a worker about a stage's reward mix.
//!
//! `orchestrate-worker score REQUEST` answers in JSON lines on stdout, and fails as `orchestrate-worker model` does.

use super::request::{Answered, Input, ask_worker};
use super::{ExecError, WorkerBinary};
use crate::workspace::Assignment;
use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// A request to rate texts with the reward mix of a stage.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ScoreRequest {
    /// The stage, of the kind `grpo` or `eval`. Its parent's checkpoint need not exist.
    pub assignment: Assignment,
    /// The directory of cached judge answers, which runs share.
    pub judge_cache: PathBuf,
    /// The task.
    pub task: ScoreTask,
}

/// The texts to rate. The arrow separates the fields of an input line from those of an answer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum ScoreTask {
    /// `{"prompt","completion","reference","answer"}` -> `{"total","parts":{NAME:{"value","weight","status","reason",
    /// "explanation","credit":[{"text","credit"}]}}}`.
    Texts {
        /// The lines to rate.
        input: Input,
        /// Whether each component explains its value.
        explain: bool,
        /// Whether the segments of the texts are credited, by each component that can value them.
        #[serde(default)]
        credit: bool,
        /// Whether the answer repeats the line's position and texts.
        repeat: bool,
    },
    /// Answers `{"progress":{"done","total"}}` repeatedly, then one `Calibration`.
    Calibrate {
        /// The largest number of rows; absent: all.
        limit: Option<usize>,
    },
    /// Answers `{"progress":{"done","total"}}` repeatedly, then one `ProbeReport`.
    Probe {
        /// The largest number of rows; absent: all.
        limit: Option<usize>,
    },
    /// Answers `{"progress":{"done","total"}}` repeatedly, then `{"components":{NAME:JudgeReport}}`.
    Judges {
        /// The lines to judge; absent: rows of the stage's data, each with its own completion and another row's.
        input: Option<Input>,
        /// The largest number of rows; absent: all.
        limit: Option<usize>,
        /// The number of times that each judge is asked.
        repeats: u32,
    },
}

/// Sends a request to a worker and passes every line of its answer to `each`, as [`super::ask`] does.
///
/// # Errors
/// Fails if the worker cannot be started or waited for, or with the error that `each` returns.
pub fn ask_score<E>(
    worker: &WorkerBinary,
    request: &ScoreRequest,
    each: impl FnMut(&str) -> Result<(), E>,
) -> Result<Result<Answered, E>, ExecError> {
    let reads_stdin = matches!(
        &request.task,
        ScoreTask::Texts { input: Input::Stdin, .. } | ScoreTask::Judges { input: Some(Input::Stdin), .. }
    );
    let request = serde_json::to_string(request).expect("a request serializes");
    ask_worker(worker, ["score", &request], reads_stdin, each)
}
