//! The model of a stage: base weights, tokenizer, adapter, and the parent stage's result.

use crate::adapter;
use crate::checkpoint;
use crate::error::{StageError, StageResult};
use crate::models::{Decoder, load_config};
use crate::tokenizer::Tokenizer;
use orchestrate_core::digest::Digest;
use orchestrate_core::recipe::spec::{Dtype, ModelSpec, ParentAdapter, PlayerModel, StageSpec};
use orchestrate_core::workspace::Assignment;
use std::path::{Path, PathBuf};
use tch::{Device, Kind};

/// A decoder with its tokenizer and the paths that both came from.
#[derive(Debug)]
pub struct Policy<'a> {
    /// The model, with its adapter if there is one.
    pub decoder: Decoder,
    /// The model's own tokenizer.
    pub tokenizer: Tokenizer,
    /// The Hugging Face directory of the base model.
    pub base: &'a Path,
    /// Adapters of earlier stages that are merged into the weights, in the order of merging.
    pub merged: Vec<PathBuf>,
}

impl<'a> Policy<'a> {
    /// Loads the model from which an assignment starts. It is one of:
    ///
    /// - the base model
    /// - the whole weights that the parent trained
    /// - the base with the parent's adapter, which is trained further or merged, as the recipe says
    pub fn load(assignment: &'a Assignment, device: Device) -> StageResult<Self> {
        let model = model(assignment)?;
        let base = input(assignment, &model.files)?;
        let tokenizer = tokenizer(assignment)?;
        let parent = assignment.parents.first().map(PathBuf::as_path);
        let (parents_weights, parents_adapter) = match parent {
            Some(parent) if checkpoint::has_adapter(parent) => (None, Some(parent)),
            other => (other, None),
        };
        let mut decoder = Decoder::load(parents_weights.unwrap_or(base), kind(model.dtype), device)?;
        decoder.set_records_steps(assignment.runtime.cuda_graphs);
        tokenizer.check_against(usize::try_from(decoder.config.vocab_size).unwrap_or(0))?;
        let mut merged = parents_adapter.map_or_else(|| Ok(Vec::new()), checkpoint::merged_adapters)?;
        let goes_on = parents_adapter.filter(|_| model.parent_adapter == ParentAdapter::Continue);
        merged.extend(parents_adapter.filter(|_| goes_on.is_none()).map(Path::to_owned));
        for dir in &merged {
            adapter::attach(dir, &mut decoder)?;
            decoder.merge_lora();
        }
        match &model.lora {
            Some(lora) => decoder.add_lora(lora, assignment.spec.seed)?,
            None => decoder.unfreeze(),
        }
        if let Some(parent) = goes_on {
            checkpoint::load(parent, &decoder)?;
        }
        Ok(Self { decoder, tokenizer, base, merged })
    }
}

/// Loads the tokenizer of an assignment's model, with the recipe's chat template if it has one.
pub fn tokenizer(assignment: &Assignment) -> StageResult<Tokenizer> {
    let model = model(assignment)?;
    Tokenizer::load_with(input(assignment, &model.files)?, model.chat_template.as_deref())
}

/// Returns the largest number of tokens that the assignment's model reads. Its weights are not loaded.
///
/// # Errors
/// Returns an error for a `config.json` that cannot be read.
pub fn context_length(assignment: &Assignment) -> StageResult<usize> {
    let parent = assignment.parents.first().filter(|parent| !checkpoint::has_adapter(parent));
    let dir = match parent {
        Some(parent) => parent,
        None => input(assignment, &model(assignment)?.files)?,
    };
    Ok(usize::try_from(load_config(dir)?.max_position_embeddings).unwrap_or(usize::MAX))
}

/// Returns the assignment that loads one model of an arena's player. It is the arena's assignment with the stage that
/// trained this model as the only parent.
///
/// # Errors
/// Returns an error if the assignment lacks that stage.
pub fn of_player(assignment: &Assignment, player: &PlayerModel) -> StageResult<Assignment> {
    let lacking =
        |parent| StageError::input(format!("the assignment of `{}` has no parent {parent}", assignment.stage));
    let parents = match player.parent {
        Some(parent) => vec![assignment.parents.get(parent).ok_or_else(|| lacking(parent))?.clone()],
        None => Vec::new(),
    };
    let spec = StageSpec { model: Some(player.model.clone()), ..assignment.spec.clone() };
    Ok(Assignment { spec, parents, ..assignment.clone() })
}

/// Returns the model from which an assignment starts.
pub fn model(assignment: &Assignment) -> StageResult<&ModelSpec> {
    let stage = &assignment.stage;
    assignment.spec.model.as_ref().ok_or_else(|| StageError::input(format!("the assignment of `{stage}` has no model")))
}

/// Returns the path of the input with the content `digest`.
pub fn input<'a>(assignment: &'a Assignment, digest: &Digest) -> StageResult<&'a Path> {
    assignment
        .inputs
        .get(digest)
        .map(std::path::PathBuf::as_path)
        .ok_or_else(|| StageError::input(format!("the assignment names no path for input {}", digest.short())))
}

/// Returns libtorch's name of a number format.
pub fn kind(dtype: Dtype) -> Kind {
    match dtype {
        Dtype::Float32 => Kind::Float,
        Dtype::Bfloat16 => Kind::BFloat16,
    }
}
