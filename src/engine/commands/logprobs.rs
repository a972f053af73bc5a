//! The command `logprobs`: log-probabilities of the tokens of given sequences.

use super::input::{self, Line};
use super::{Answers, decoder};
use crate::error::StageResult;
use crate::head;
use crate::models::{Decoder, DecoderConfig, Packed, load_config};
use crate::policy::kind;
use crate::tokenizer::Tokenizer;
use orchestrate_core::exec::{Input, ModelRequest};
use serde::Serialize;
use tch::{Device, Tensor};

#[derive(Serialize)]
struct LogprobsLine<'a> {
    input_ids: &'a [i64],
    token_logprobs: Vec<f32>,
}

/// Maximum number of tokens computed at a time.
const BATCH_TOKENS: usize = 4096;

pub(super) fn run(request: &ModelRequest, input: &Input, device: Device, answers: &mut Answers) -> StageResult<()> {
    let lines = input::read(input, "text")?;
    let config = load_config(&request.model)?;
    // ids need no tokenizer, and the directory may not have one
    let needs_tokenizer = lines.iter().any(|line| line.field("text").is_some());
    let tokenizer = needs_tokenizer.then(|| Tokenizer::load(&request.model)).transpose()?;
    let sequences: Vec<Vec<i64>> =
        lines.iter().map(|line| token_ids(line, tokenizer.as_ref(), &config)).collect::<StageResult<_>>()?;
    let decoder = decoder(request, kind(request.dtype), device)?;
    let mut rest = sequences.as_slice();
    while !rest.is_empty() {
        let mut tokens = 0;
        let fits = rest.iter().take_while(|ids| {
            tokens += ids.len();
            tokens <= BATCH_TOKENS
        });
        let (batch, after) = rest.split_at(fits.count().max(1));
        for (ids, logprobs) in batch.iter().zip(token_logprobs(&decoder, batch)) {
            answers.line(&LogprobsLine { input_ids: ids, token_logprobs: logprobs })?;
        }
        answers.flush()?;
        rest = after;
    }
    Ok(())
}

/// Returns the tokens of a line: its ids, or its text encoded unchanged.
fn token_ids(line: &Line, tokenizer: Option<&Tokenizer>, config: &DecoderConfig) -> StageResult<Vec<i64>> {
    let ids: Vec<i64> = match (line.text("text")?, line.field("input_ids"), tokenizer) {
        (Some(text), None, Some(tokenizer)) => tokenizer.encode(text)?,
        (None, Some(ids), _) => serde_json::from_value(ids.clone())
            .map_err(|e| line.error(&format!("`input_ids` is not a list of token ids: {e}")))?,
        _ => return Err(line.one_of(["text", "input_ids"])),
    };
    if ids.is_empty() {
        return Err(line.error("the sequence has no tokens"));
    }
    if let Some(id) = ids.iter().find(|&&id| !(0..config.vocab_size).contains(&id)) {
        return Err(
            line.error(&format!("token id {id} is not below the model's vocabulary size {}", config.vocab_size))
        );
    }
    if i64::try_from(ids.len()).unwrap_or(i64::MAX) > config.max_position_embeddings {
        let limit = config.max_position_embeddings;
        return Err(line.error(&format!("the sequence has {} tokens, the model reads {limit}", ids.len())));
    }
    Ok(ids)
}

/// Computes the log-probability of every token but the first of each sequence, given the tokens before it.
fn token_logprobs(decoder: &Decoder, sequences: &[Vec<i64>]) -> Vec<Vec<f32>> {
    tch::no_grad(|| {
        let packed = Packed::new(sequences, decoder.device());
        let hidden = decoder.hidden(&packed); // (T, C)
        // the position before a token predicts it, in the same sequence
        let positions: Vec<i64> =
            packed.starts().iter().zip(&packed.lengths).flat_map(|(&start, &n)| start..start + n - 1).collect();
        if positions.is_empty() {
            return vec![Vec::new(); sequences.len()];
        }
        let positions = Tensor::from_slice(&positions).to_device(decoder.device()); // (N,)
        let targets = packed.input_ids.index_select(0, &(&positions + 1)); // (N,)
        let logprobs = head::logprobs(decoder, &hidden.index_select(0, &positions), &targets, 1.0).logprobs;
        let flat = Vec::<f32>::try_from(logprobs.to_device(Device::Cpu)).expect("log-probabilities are 32-bit");
        let mut rest = flat.into_iter();
        sequences.iter().map(|ids| rest.by_ref().take(ids.len() - 1).collect()).collect()
    })
}
