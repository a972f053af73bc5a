//! Requests to a worker that do not run a stage: questions about a model, as one JSON argument.
//!
//! `orchestrate-worker model REQUEST` answers in JSON lines on stdout. On failure it exits with
//! [`super::exit::FAILED`], and the last line of its stderr is a [`Failure`].

use super::{ExecError, WorkerBinary, WorkerExit};
use crate::event::Failure;
use crate::recipe::spec::{Dtype, Sampling};
use crate::workspace::{DeviceChoice, Ending};
use serde::{Deserialize, Serialize};
use std::io::{self, BufRead as _, BufReader, Read, Write as _};
use std::path::PathBuf;
use std::process::Stdio;

/// A question about a model.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ModelRequest {
    /// The directory of the model, in Hugging Face's format.
    pub model: PathBuf,
    /// The directory of a PEFT adapter that is applied to the model.
    pub adapter: Option<PathBuf>,
    /// The data type of the weights during the computation.
    pub dtype: Dtype,
    /// The device of the tensors.
    pub device: DeviceChoice,
    /// The task.
    pub task: ModelTask,
}

/// A task for a model. The arrow separates the fields of an input line from those of an answer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum ModelTask {
    /// `{"text"}` or `{"input_ids"}` -> `{"input_ids","token_logprobs"}`, with a log-probability for each token but the
    /// first.
    Logprobs {
        /// The sequences.
        input: Input,
    },
    /// `{"text"}` -> `{"text","embedding"}`, where the embedding has length 1.
    Embed {
        /// The texts.
        input: Input,
    },
    /// `{"prompt"}` or `{"messages"}` -> the same with `{"index","completion","tokens","stop_reason"}`.
    Generate {
        /// The prompts.
        input: Input,
        /// The sampling parameters.
        sampling: Sampling,
        /// The seed of all draws.
        seed: u64,
        /// The number of completions per prompt.
        samples: usize,
        /// Whether prompts are used without the chat template.
        raw: bool,
    },
    /// Writes the model with the adapter added to its weights -> one line that describes the output.
    Merge {
        /// The directory to create.
        output: PathBuf,
        /// The data type of the saved weights; absent: that of the model's.
        save_dtype: Option<Dtype>,
    },
}

/// The source of a request's lines.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Input {
    /// A file of JSON lines.
    File(PathBuf),
    /// JSON lines on stdin.
    Stdin,
    /// One text from the command line.
    Text(String),
}

/// The end of a request.
#[derive(Clone, Debug, PartialEq)]
pub enum Answered {
    /// The worker answered every line.
    Whole,
    /// The worker reported a failure.
    Failed(Failure),
    /// The worker died without a report.
    Crashed(WorkerExit),
}

/// Sends a request to a worker and passes every line of its answer to `each` as it arrives.
///
/// The worker's messages on stderr go to stderr. The worker inherits this process's stdin if the request reads it, and
/// its process group, so Ctrl-C reaches both.
///
/// # Errors
/// Fails if the worker cannot be started or waited for, or with the error that `each` returns.
pub fn ask<E>(
    worker: &WorkerBinary,
    request: &ModelRequest,
    each: impl FnMut(&str) -> Result<(), E>,
) -> Result<Result<Answered, E>, ExecError> {
    let text = serde_json::to_string(request).expect("a request serializes");
    ask_worker(worker, ["model", &text], reads_stdin(&request.task), each)
}

/// Starts a worker with these arguments and passes on its answer.
pub(super) fn ask_worker<E>(
    worker: &WorkerBinary,
    arguments: [&str; 2],
    reads_stdin: bool,
    mut each: impl FnMut(&str) -> Result<(), E>,
) -> Result<Result<Answered, E>, ExecError> {
    let path = worker.program().to_owned();
    let mut child = worker
        .command()
        .args(arguments)
        .stdin(if reads_stdin { Stdio::inherit() } else { Stdio::null() })
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|source| ExecError::Start { path, source })?;
    let stderr = child.stderr.take().expect("stderr is piped");
    let errors = std::thread::spawn(move || pass_on(stderr));
    let stdout = child.stdout.take().expect("stdout is piped");
    for line in BufReader::new(stdout).lines() {
        if let Err(error) = each(&line.map_err(ExecError::Wait)?) {
            // The rest is not needed. A worker that is already gone is not an error.
            let _ = child.kill();
            child.wait().map_err(ExecError::Wait)?;
            return Ok(Err(error));
        }
    }
    let ended = WorkerExit::from(child.wait().map_err(ExecError::Wait)?);
    let last = errors.join().expect("reading stderr does not panic").map_err(ExecError::Wait)?;
    let failure = last.as_deref().and_then(|line| serde_json::from_str::<Failure>(line).ok());
    if let Some(line) = last.filter(|_| failure.is_none()) {
        say(&line);
    }
    Ok(Ok(match (ended, failure) {
        (WorkerExit::Said(Ending::Committed), _) => Answered::Whole,
        (WorkerExit::Said(Ending::Failed), Some(failure)) => Answered::Failed(failure),
        (ended, _) => Answered::Crashed(ended),
    }))
}

fn reads_stdin(task: &ModelTask) -> bool {
    match task {
        ModelTask::Logprobs { input } | ModelTask::Embed { input } | ModelTask::Generate { input, .. } => {
            *input == Input::Stdin
        }
        ModelTask::Merge { .. } => false,
    }
}

/// Copies all lines but the last, which may be a failure in JSON and is returned.
fn pass_on(stderr: impl Read) -> io::Result<Option<String>> {
    let mut held = None;
    for line in BufReader::new(stderr).split(b'\n') {
        let line = String::from_utf8_lossy(&line?).into_owned();
        if let Some(before) = held.replace(line) {
            say(&before);
        }
    }
    Ok(held)
}

fn say(line: &str) {
    // without stderr, the line cannot be reported
    let _ = writeln!(io::stderr(), "{line}");
}
