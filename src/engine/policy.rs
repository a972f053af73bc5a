//! The model a stage works on: base weights, tokenizer, adapter, and what the parent stage made of them.

use crate::checkpoint;
use crate::error::{StageError, StageResult};
use crate::models::Decoder;
use crate::tokenizer::Tokenizer;
use orchestrate::cache::Assignment;
use orchestrate::digest::Digest;
use orchestrate::recipe::spec::Dtype;
use std::path::Path;
use tch::{Device, Kind};

/// A decoder, its tokenizer, and where both came from.
#[derive(Debug)]
pub struct Policy<'a> {
    /// The model, with its adapter if there is one.
    pub decoder: Decoder,
    /// The model's own tokenizer.
    pub tokenizer: Tokenizer,
    /// The Hugging Face directory.
    pub base: &'a Path,
}

impl<'a> Policy<'a> {
    /// Loads the model an assignment starts from: the base model with a fresh adapter (or all weights trainable), then the
    /// parent's checkpoint over it. A later stage goes on training the adapter of the one before.
    pub fn load(assignment: &'a Assignment, device: Device) -> StageResult<Self> {
        let model = &assignment.spec.model;
        let base = input(assignment, &model.files)?;
        let tokenizer = Tokenizer::load(base)?;
        let mut decoder = Decoder::load(base, kind(model.dtype), device)?;
        tokenizer.check_against(usize::try_from(decoder.config.vocab_size).unwrap_or(0))?;
        match &model.lora {
            Some(lora) => decoder.add_lora(lora, assignment.spec.seed)?,
            None => decoder.unfreeze(),
        }
        if let Some(parent) = &assignment.parent {
            checkpoint::load(parent, &decoder)?;
        }
        Ok(Self { decoder, tokenizer, base })
    }
}

/// Where the content named `digest` lies.
pub fn input<'a>(assignment: &'a Assignment, digest: &Digest) -> StageResult<&'a Path> {
    assignment
        .inputs
        .get(digest)
        .map(std::path::PathBuf::as_path)
        .ok_or_else(|| StageError::input(format!("the assignment names no path for input {}", digest.short())))
}

/// libtorch's name of a number format.
pub fn kind(dtype: Dtype) -> Kind {
    match dtype {
        Dtype::Float32 => Kind::Float,
        Dtype::Bfloat16 => Kind::BFloat16,
    }
}
