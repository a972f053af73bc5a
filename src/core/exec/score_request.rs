//! What is asked of a worker about a stage's reward mix.
//!
//! `orchestrate-worker score REQUEST` answers in JSON lines on stdout, and fails as `orchestrate-worker model` does.

use super::request::{Answered, Input, ask_worker};
use super::{ExecError, WorkerBinary};
use crate::workspace::Assignment;
use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// Texts to rate with the reward mix of a stage.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ScoreRequest {
    /// The stage, of the kind `grpo` or `eval`. Its parent's checkpoint need not exist.
    pub assignment: Assignment,
    /// The directory of judges' answers, which runs share.
    pub judge_cache: PathBuf,
    /// Which texts.
    pub task: ScoreTask,
}

/// Which texts are rated.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum ScoreTask {
    /// `{"prompt","completion","reference","answer"}` -> `{"total","parts":{NAME:{"value","weight","status","reason",
    /// "explanation"}}}`.
    Texts {
        /// The lines.
        input: Input,
        /// Whether each part says why it is what it is.
        explain: bool,
        /// Whether the answer repeats the line's place and texts.
        repeat: bool,
    },
    /// `{"progress":{"done","total"}}`, often, then one `Calibration`.
    Calibrate {
        /// Rows at most; absent: all.
        limit: Option<usize>,
    },
    /// `{"progress":{"done","total"}}`, often, then `{"components":{NAME:JudgeReport}}`.
    Judges {
        /// The lines that are judged; absent: rows of the stage's data, each with its own completion and another row's.
        input: Option<Input>,
        /// Rows at most; absent: all.
        limit: Option<usize>,
        /// How often each judge is asked.
        repeats: u32,
    },
}

/// Asks a worker and hands every line of its answer to `each`, as [`super::ask`] does.
///
/// # Errors
/// A worker that cannot be started or waited for, and whatever `each` returns.
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
