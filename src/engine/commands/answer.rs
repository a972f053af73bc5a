//! The entry point of requests about a model.

use super::{embed, generate, logprobs, merge};
use crate::checkpoint::CHAT_TEMPLATE;
use crate::error::{StageError, StageResult};
use crate::models::Decoder;
use crate::{adapter, device, policy};
use orchestrate_core::exec::{ModelRequest, ModelTask};
use serde::Serialize;
use std::io::{self, BufWriter, Write};
use std::path::PathBuf;
use tch::{Device, Kind};

/// Answers `request` on stdout.
///
/// # Errors
/// Returns an error for a model, adapter or line that cannot be used.
pub fn run(request: &ModelRequest) -> StageResult<()> {
    if !request.model.is_dir() {
        return Err(StageError::input(format!("`{}` is not a directory", request.model.display()))
            .hinted("`--model` takes the directory of a model, with config.json in it"));
    }
    let device = device::choose(&request.device)?;
    let mut answers = Answers::begin();
    match &request.task {
        ModelTask::Logprobs { input } => logprobs::run(request, input, device, &mut answers),
        ModelTask::Embed { input } => embed::run(request, input, device, &mut answers),
        ModelTask::Generate { input, sampling, seed, samples, raw } => {
            let knobs = generate::GenerateOptions { sampling, seed: *seed, samples: *samples, raw: *raw };
            generate::run(request, input, &knobs, device, &mut answers)
        }
        ModelTask::Merge { output, save_dtype } => {
            merge::run(request, output, save_dtype.map(policy::kind), device, &mut answers)
        }
    }
}

/// Loads the model of a request, with its adapter unmerged.
pub(super) fn decoder(request: &ModelRequest, kind: Kind, device: Device) -> StageResult<Decoder> {
    let mut decoder = Decoder::load(&request.model, kind, device)?;
    if let Some(dir) = &request.adapter {
        adapter::attach(dir, &mut decoder)?;
    }
    Ok(decoder)
}

/// Returns the path of the chat template that the adapter was trained with, if it is not the model's own.
pub(super) fn adapters_template(request: &ModelRequest) -> Option<PathBuf> {
    request.adapter.as_ref().map(|dir| dir.join(CHAT_TEMPLATE)).filter(|path| path.exists())
}

/// The answers on stdout.
pub(super) struct Answers(BufWriter<io::Stdout>);

impl Answers {
    pub(super) fn begin() -> Self {
        Self(BufWriter::new(io::stdout()))
    }

    pub(super) fn line(&mut self, answer: &impl Serialize) -> StageResult<()> {
        let line = serde_json::to_string(answer).expect("answers serialize");
        writeln!(self.0, "{line}").map_err(unwritten)
    }

    /// Makes the answers so far visible to the reader.
    pub(super) fn flush(&mut self) -> StageResult<()> {
        self.0.flush().map_err(unwritten)
    }
}

#[expect(clippy::needless_pass_by_value, reason = "it is the function that `map_err` is given")]
fn unwritten(error: io::Error) -> StageError {
    StageError::from(io::Error::other(format!("stdout: {error}")))
}
