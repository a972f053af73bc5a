//! The command `merge`: adds an adapter to the weights and writes a Hugging Face directory.

use super::{Answers, adapters_template, decoder};
use crate::checkpoint::{self, CHAT_TEMPLATE};
use crate::device;
use crate::error::{StageError, StageResult};
use crate::models::{Decoder, Packed};
use crate::tokenizer::Tokenizer;
use crate::weights::{Weights, save_sharded};
use orchestrate_core::event::FailureClass;
use orchestrate_core::exec::ModelRequest;
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use tch::{Device, Kind, Tensor};

/// Maximum size of a file of weights in bytes, as in the hub's own tools.
const SHARD_BYTES: usize = 5_000_000_000;
/// Maximum difference of merged and unmerged logits in 32 bits.
const TOLERANCE: f64 = 1e-3;
/// Text on which the logits are compared.
const TEXT: &str = "The heart pumps blood through the arteries, and 2 + 2 = 4.\nIl cuore umano ha quattro cavità.\n";

pub(super) fn run(
    request: &ModelRequest,
    output: &Path,
    save_kind: Option<Kind>,
    device: Device,
    answers: &mut Answers,
) -> StageResult<()> {
    if output.symlink_metadata().is_ok() {
        return Err(StageError::input(format!("`{}` already exists", output.display()))
            .hinted("name a directory that does not exist; nothing is overwritten"));
    }
    let mut decoder = decoder(request, Kind::Float, device)?;
    let kind = save_kind.map_or_else(|| kind_of(&request.model, &decoder), Ok)?;
    let ids = sample_ids(&request.model, &decoder)?;
    let before = logits(&decoder, &ids);
    decoder.merge_lora();
    let difference = (logits(&decoder, &ids) - before).abs().max().double_value(&[]);
    if difference.is_nan() || difference > TOLERANCE {
        return Err(StageError {
            class: FailureClass::NonFinite,
            message: format!("merged and unmerged logits differ by {difference:.1e}, over {TOLERANCE:.0e}"),
            hint: Some("check that the adapter belongs to this model and that its weights are finite".to_owned()),
        });
    }
    let part = PartialDirectory::beside(output)?;
    save_sharded(&part.0, &decoder.weights(), kind, SHARD_BYTES)?;
    checkpoint::copy_companions(&request.model, &part.0)?;
    if let Some(template) = adapters_template(request) {
        fs_err::copy(template, part.0.join(CHAT_TEMPLATE))?;
    }
    declare_dtype(&part.0.join("config.json"), kind)?;
    check_written(&part.0, &decoder, kind)?;
    fs_err::rename(&part.0, output)?;
    answers.line(&json!({
        "output": output, "dtype": dtype_name(kind), "tensors": decoder.weights().len(),
        "device": device::name(device), "max_abs_logit_difference": difference,
    }))?;
    answers.flush()
}

/// Returns the number format of the model's own weights.
fn kind_of(model: &Path, decoder: &Decoder) -> StageResult<Kind> {
    let weights = Weights::open(model)?;
    let kind = decoder.weights().iter().find_map(|(name, _)| weights.kind(name));
    kind.ok_or_else(|| StageError::input(format!("`{}` has weights of no known format", model.display())))
}

/// Returns the text in the model's tokens, or, without a tokenizer, tokens spread over the vocabulary.
fn sample_ids(model: &Path, decoder: &Decoder) -> StageResult<Vec<i64>> {
    let vocabulary = decoder.config.vocab_size;
    let mut ids = if model.join("tokenizer.json").exists() {
        Tokenizer::load(model)?.encode(TEXT)?
    } else {
        (0..64).map(|i| i * vocabulary / 64).collect()
    };
    ids.retain(|id| (0..vocabulary).contains(id));
    ids.truncate(usize::try_from(decoder.config.max_position_embeddings).unwrap_or(usize::MAX));
    Ok(ids)
}

/// Computes the logits of every token. // (T,) -> (T, V)
fn logits(decoder: &Decoder, ids: &[i64]) -> Tensor {
    tch::no_grad(|| decoder.logits(&decoder.hidden(&Packed::new(&[ids], decoder.device()))))
}

/// Sets the number format of the weights in `config.json`, under the name that the file uses.
fn declare_dtype(path: &Path, kind: Kind) -> StageResult<()> {
    let text = fs_err::read_to_string(path)?;
    let mut config: Value =
        serde_json::from_str(&text).map_err(|e| StageError::input(format!("`{}` is not JSON: {e}", path.display())))?;
    let mut changed = false;
    for name in ["dtype", "torch_dtype"] {
        if let Some(value) = config.get_mut(name).filter(|value| **value != dtype_name(kind)) {
            *value = dtype_name(kind).into();
            changed = true;
        }
    }
    if changed {
        fs_err::write(path, serde_json::to_string_pretty(&config).expect("JSON serializes") + "\n")?;
    }
    Ok(())
}

fn dtype_name(kind: Kind) -> &'static str {
    match kind {
        Kind::BFloat16 => "bfloat16",
        Kind::Half => "float16",
        _ => "float32",
    }
}

/// Reads back the written weights. Every tensor must be the merged one, rounded to `kind`.
fn check_written(dir: &Path, decoder: &Decoder, kind: Kind) -> StageResult<()> {
    let weights = Weights::open(dir)?;
    for (name, tensor) in decoder.weights() {
        let written = weights.get_shaped(&name, &tensor.size(), kind, decoder.device())?;
        if written != tensor.detach().to_kind(kind) {
            return Err(StageError {
                class: FailureClass::Io,
                message: format!("`{name}` in `{}` differs from what was written", dir.display()),
                hint: Some("check the disk".to_owned()),
            });
        }
    }
    Ok(())
}

/// An incomplete directory beside its final path. It is removed unless it was renamed to that path.
struct PartialDirectory(PathBuf);

impl PartialDirectory {
    fn beside(output: &Path) -> StageResult<Self> {
        let name = output
            .file_name()
            .ok_or_else(|| StageError::input(format!("`{}` is not the name of a new directory", output.display())))?;
        let part = output.with_file_name(format!(".{}.{}.part", name.to_string_lossy(), std::process::id()));
        fs_err::create_dir_all(&part)?;
        Ok(Self(part))
    }
}

impl Drop for PartialDirectory {
    fn drop(&mut self) {
        // after the rename there is nothing to remove; after a failure, a directory that remains only costs space
        let _ = std::fs::remove_dir_all(&self.0);
    }
}
