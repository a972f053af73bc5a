//! What is asked of a worker beside running a stage: questions about a model, one JSON argument each.
//!
//! `orchestrate-worker model REQUEST` answers in JSON lines on stdout. On failure it ends with [`super::exit::FAILED`] and the
//! last line of its stderr is a [`Failure`].

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
    /// A Hugging Face directory.
    pub model: PathBuf,
    /// A PEFT adapter directory, applied to the model.
    pub adapter: Option<PathBuf>,
    /// What the weights are held in while computing.
    pub dtype: Dtype,
    /// Where the tensors live.
    pub device: DeviceChoice,
    /// What is wanted.
    pub task: ModelTask,
}

/// What is wanted of a model.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum ModelTask {
    /// `{"text"}` or `{"input_ids"}` -> `{"input_ids","token_logprobs"}`, a log-probability of every token but the first.
    Logprobs {
        /// The sequences.
        input: Input,
    },
    /// `{"text"}` -> `{"text","embedding"}`, of length 1.
    Embed {
        /// The texts.
        input: Input,
    },
    /// `{"prompt"}` or `{"messages"}` -> the same with `{"index","completion","tokens","stop_reason"}`.
    Generate {
        /// The prompts.
        input: Input,
        /// How tokens are drawn.
        sampling: Sampling,
        /// Of all draws.
        seed: u64,
        /// Completions of each prompt.
        samples: usize,
        /// Whether prompts are taken as they stand, without the chat template.
        raw: bool,
    },
    /// Writes the model with the adapter added to its weights -> one line about what was written.
    Merge {
        /// The new directory.
        output: PathBuf,
        /// What the weights are saved in; absent: as the model's are.
        save_dtype: Option<Dtype>,
    },
}

/// Where the lines of a request come from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Input {
    /// A file of JSON lines.
    File(PathBuf),
    /// JSON lines on stdin.
    Stdin,
    /// One text, from the command line.
    Text(String),
}

/// How a request ended.
#[derive(Clone, Debug, PartialEq)]
pub enum Answered {
    /// Every line was answered.
    Whole,
    /// The worker says why it could not.
    Failed(Failure),
    /// The worker died without a word.
    Crashed(WorkerExit),
}

/// Asks a worker and hands every line of its answer to `each` as it comes; what it says on stderr goes to stderr. It
/// reads this process's stdin and lives in its process group, so Ctrl-C reaches both.
///
/// # Errors
/// A worker that cannot be started or waited for, and whatever `each` returns.
pub fn ask<E>(
    worker: &WorkerBinary,
    request: &ModelRequest,
    each: impl FnMut(&str) -> Result<(), E>,
) -> Result<Result<Answered, E>, ExecError> {
    let text = serde_json::to_string(request).expect("a request serializes");
    ask_worker(worker, ["model", &text], reads_stdin(&request.task), each)
}

/// Starts a worker with these arguments and hands on what it answers.
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
            // nobody reads any more, so the rest need not be computed; one that is gone already is no error
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

/// Copies all lines but the last, which may be a failure for the program to read and is returned.
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
    // with stderr gone there is nobody left to tell
    let _ = writeln!(io::stderr(), "{line}");
}
