//! Checkpoints: adapters in PEFT's format or whole weights in Hugging Face's, and resume points.

use crate::data::pools::Pools;
use crate::error::{StageError, StageResult};
use crate::loss::RunningStd;
use crate::models::Decoder;
use crate::optim::Optimizer;
use crate::weights::{load_tensors, save_tensors};
use orchestrate_core::recipe::spec::ModelSpec;
use orchestrate_core::rewards::RewardWatch;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use tch::Tensor;

pub(crate) const ADAPTER: &str = "adapter_model.safetensors";
pub(crate) const ADAPTER_CONFIG: &str = "adapter_config.json";
/// Folder of the adapters that are merged into the base below this directory's adapter.
const MERGED: &str = "merged";
const MODEL: &str = "model.safetensors";
/// Files that a directory of weights needs to be a Hugging Face model. They are copied beside whole weights.
const COMPANIONS: [&str; 10] = [
    "config.json",
    "generation_config.json",
    "tokenizer.json",
    "tokenizer.model",
    "tokenizer_config.json",
    "vocab.json",
    "merges.txt",
    "added_tokens.json",
    "special_tokens_map.json",
    CHAT_TEMPLATE,
];

/// File name of the chat template in a Hugging Face directory.
pub(crate) const CHAT_TEMPLATE: &str = "chat_template.jinja";

/// Writes the trained weights into `dir`.
///
/// With LoRA these are a PEFT adapter and, in `merged/`, the adapters below it, in the order in which they are merged
/// into the base. Without LoRA it is a Hugging Face model, with configuration and tokenizer copied from `base`. The
/// recipe's chat template, if there is one, is written as `chat_template.jinja`.
pub fn save(dir: &Path, decoder: &Decoder, model: &ModelSpec, base: &Path, merged: &[PathBuf]) -> StageResult<()> {
    if model.lora.is_none() {
        save_tensors(&dir.join(MODEL), &decoder.trainable(), &[("format", "pt")])?;
        copy_companions(base, dir)?;
    }
    if let Some(template) = &model.chat_template {
        fs_err::write(dir.join(CHAT_TEMPLATE), template)?;
    }
    let Some(lora) = &model.lora else { return Ok(()) };
    save_tensors(&dir.join(ADAPTER), &decoder.trainable(), &[("format", "pt")])?;
    let config = serde_json::json!({
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": null,
        "r": lora.rank,
        "lora_alpha": lora.alpha,
        "lora_dropout": lora.dropout,
        "use_rslora": lora.rslora,
        "target_modules": lora.target_modules,
        "bias": "none",
        "fan_in_fan_out": false,
        "inference_mode": true,
        "modules_to_save": null,
    });
    let text = serde_json::to_string_pretty(&config).expect("a literal serializes");
    fs_err::write(dir.join(ADAPTER_CONFIG), text + "\n")?;
    for (index, from) in merged.iter().enumerate() {
        let to = dir.join(MERGED).join(format!("{index:03}"));
        fs_err::create_dir_all(&to)?;
        for name in [ADAPTER, ADAPTER_CONFIG] {
            fs_err::copy(from.join(name), to.join(name))?;
        }
    }
    Ok(())
}

/// Returns whether the checkpoint `dir` is an adapter rather than whole weights.
pub fn has_adapter(dir: &Path) -> bool {
    dir.join(ADAPTER).exists()
}

/// Returns the adapters below the adapter in `dir`, in the order in which they are merged into the base.
pub fn merged_adapters(dir: &Path) -> StageResult<Vec<PathBuf>> {
    let merged = dir.join(MERGED);
    if !merged.exists() {
        return Ok(Vec::new());
    }
    let mut adapters = Vec::new();
    for entry in fs_err::read_dir(merged)? {
        adapters.push(entry?.path());
    }
    adapters.sort();
    Ok(adapters)
}

/// Copies the files beside the weights (configuration, tokenizer, chat template) from `base` to `dir`.
pub(crate) fn copy_companions(base: &Path, dir: &Path) -> StageResult<()> {
    for name in COMPANIONS.into_iter().filter(|name| base.join(name).exists()) {
        fs_err::copy(base.join(name), dir.join(name))?;
    }
    Ok(())
}

/// Replaces the trainable tensors of `decoder` by those that [`save`] wrote into `dir`.
///
/// # Errors
/// Returns an error for a tensor that is missing, unknown, or of another shape.
pub fn load(dir: &Path, decoder: &Decoder) -> StageResult<()> {
    let adapter = dir.join(ADAPTER);
    let path = if adapter.exists() { adapter } else { dir.join(MODEL) };
    copy_into(&path, &decoder.trainable())
}

fn copy_into(path: &Path, targets: &[(String, Tensor)]) -> StageResult<()> {
    let saved = load_tensors(path)?;
    let names: std::collections::BTreeSet<&str> = targets.iter().map(|(name, _)| name.as_str()).collect();
    if let Some(unknown) = saved.keys().find(|name| !names.contains(name.as_str())) {
        return Err(StageError::input(format!("`{}` holds `{unknown}`, which is not trained here", path.display()))
            .hinted("was it made with other `lora.target_modules`, or without LoRA?"));
    }
    tch::no_grad(|| {
        for (name, target) in targets {
            let tensor = saved
                .get(name)
                .ok_or_else(|| StageError::input(format!("`{}` lacks the tensor `{name}`", path.display())))?;
            if tensor.size() != target.size() {
                return Err(StageError::input(format!(
                    "`{name}` in `{}` has shape {:?}, expected {:?}",
                    path.display(),
                    tensor.size(),
                    target.size()
                ))
                .hinted("was it made with another `lora.rank`?"));
            }
            target.shallow_clone().copy_(tensor);
        }
        Ok(())
    })
}

/// Progress of a training stage after a step. With the tensors beside it, it determines the next step.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TrainingProgress {
    /// Number of optimizer steps done.
    pub step: u64,
    /// Number of tokens trained on so far.
    pub tokens: u64,
    /// Number of prompts drawn so far, which is the next prompt's position in the data order. It is used by GRPO, where
    /// a step may draw more than `prompts_per_step`.
    pub prompts: u64,
    /// Main value (loss, or mean reward) of each of the last steps.
    pub recent: Vec<f64>,
    /// Rewards of the last steps, from which GRPO derives warnings.
    #[serde(default)]
    pub watch: RewardWatch,
    /// Difficulty of the prompts, with `sampler = "pools"`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pools: Option<Pools>,
    /// The running deviation of each reward component, with `component_std = "running"`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub running_std: BTreeMap<String, RunningStd>,
}

/// Writes a resume point of a training stage into `dir`.
pub fn save_resume(
    dir: &Path,
    decoder: &Decoder,
    optimizer: &Optimizer,
    progress: &TrainingProgress,
) -> StageResult<()> {
    save_tensors(&dir.join("trainable.safetensors"), &decoder.trainable(), &[])?;
    save_tensors(&dir.join("optimizer.safetensors"), &optimizer.state(), &[])?;
    let text = serde_json::to_string(progress).expect("progress serializes");
    Ok(fs_err::write(dir.join("progress.json"), text)?)
}

/// Restores the state that [`save_resume`] wrote.
pub fn load_resume(dir: &Path, decoder: &Decoder, optimizer: &mut Optimizer) -> StageResult<TrainingProgress> {
    copy_into(&dir.join("trainable.safetensors"), &decoder.trainable())?;
    optimizer.load_state(&load_tensors(&dir.join("optimizer.safetensors"))?)?;
    let path = dir.join("progress.json");
    serde_json::from_str(&fs_err::read_to_string(&path)?)
        .map_err(|e| StageError::input(format!("`{}`: {e}", path.display())))
}
