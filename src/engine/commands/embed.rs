//! The command `embed`: sentence embeddings.

use super::Answers;
use super::input;
use crate::encoder::Encoder;
use crate::error::{StageError, StageResult};
use crate::policy::kind;
use orchestrate_core::exec::{Input, ModelRequest};
use orchestrate_core::rewards::TextEncoder as _;
use serde::Serialize;
use tch::Device;

#[derive(Serialize)]
struct EmbedLine<'a> {
    text: &'a str,
    embedding: Vec<f32>,
}

/// Number of texts that are encoded before their answers are written.
const BATCH: usize = 256;

pub(super) fn run(request: &ModelRequest, input: &Input, device: Device, answers: &mut Answers) -> StageResult<()> {
    let lines = input::read(input, "text")?;
    let texts: Vec<&str> = lines
        .iter()
        .map(|line| line.text("text")?.ok_or_else(|| line.error("the line has no `text`")))
        .collect::<StageResult<_>>()?;
    let mut encoder = Encoder::load(&request.model, device, kind(request.dtype))?;
    for batch in texts.chunks(BATCH) {
        let embeddings = encoder.embed(batch).map_err(|e| StageError::input(format!("the encoder failed: {e}")))?;
        for (text, embedding) in batch.iter().zip(embeddings) {
            answers.line(&EmbedLine { text, embedding })?;
        }
        answers.flush()?;
    }
    Ok(())
}
