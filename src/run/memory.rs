//! Checks whether the stages of a plan fit into the machine's memory, and which of them need gradient checkpointing.

use crate::architecture::DecoderConfig;
use crate::cpu;
use crate::digest::Digest;
use crate::host;
use crate::number::gib;
use crate::plan::{Computing, MemoryEstimate, ModelShape, Plan, PlannedStage, StageMemory, StageModel, planned};
use crate::recipe::spec::{Dtype, ModelSpec};
use crate::recipe::{Device, GradientCheckpointing};
use std::collections::BTreeMap;

/// A stage that cannot fit into memory.
#[derive(Clone, Debug)]
pub struct TooLarge {
    /// The message, one sentence.
    pub message: String,
    /// Settings that would reduce the memory.
    pub hint: String,
}

/// Estimates the memory of every stage of `plan`. Where a recipe leaves gradient checkpointing open, it is decided
/// here: off if the stage fits without it.
pub fn plan_memory(plan: &mut Plan) {
    let is_fast = cpu::cpu().is_ok_and(|cpu| cpu.fast_bfloat16);
    let mut devices: Vec<(Device, DeviceMemory)> = Vec::new();
    let mut shapes: BTreeMap<Digest, Option<ModelShape>> = BTreeMap::new();
    for stage in &mut plan.stages {
        let models = models_of(stage);
        if models.is_empty() {
            continue;
        }
        let device = stage.runtime.device;
        let known = devices.iter().find(|(other, _)| *other == device).map(|(_, memory)| *memory);
        let DeviceMemory { on_cpu, bytes: available } = known.unwrap_or_else(|| {
            let memory = DeviceMemory::of(device);
            devices.push((device, memory));
            memory
        });
        for model in &models {
            shapes.entry(model.files.clone()).or_insert_with(|| model_shape(stage, &model.files));
        }
        let estimate = |model: &ModelSpec, checkpointing: bool| {
            let widened = model.dtype == Dtype::Bfloat16 && on_cpu && stage.runtime.bfloat16_products.widens(is_fast);
            let (shape, computing) = (shapes[&model.files].as_ref()?, Computing { checkpointing, widened });
            planned(&stage.spec.work).memory(&StageModel { spec: model, shape, computing })
        };
        let largest = |checkpointing: bool| {
            let estimates = models.iter().filter_map(|model| estimate(model, checkpointing));
            estimates.max_by_key(MemoryEstimate::total)
        };
        let with =
            |checkpointing: bool| StageMemory { estimate: largest(checkpointing), available, can_checkpoint: false };
        let asked = stage.runtime.gradient_checkpointing;
        let checkpointing = match asked {
            GradientCheckpointing::Auto => !with(false).fits(),
            GradientCheckpointing::On => true,
            GradientCheckpointing::Off => false,
        };
        let trains = stage.spec.work.kind().is_training();
        let can_checkpoint = trains && !checkpointing && asked == GradientCheckpointing::Auto;
        stage.memory = StageMemory { can_checkpoint, ..with(checkpointing) };
        let decided = if checkpointing { GradientCheckpointing::On } else { GradientCheckpointing::Off };
        stage.runtime.gradient_checkpointing = decided;
    }
}

/// Returns the message for a stage that cannot fit; `None` for a stage that fits.
pub fn too_large(stage: &PlannedStage) -> Option<TooLarge> {
    let memory = stage.memory;
    if memory.fits() {
        return None;
    }
    let (estimate, available) = (memory.estimate?, memory.available?);
    let MemoryEstimate { weights, training, activations, kv_cache, logits, .. } = estimate;
    let trains_all = stage.spec.model.as_ref().is_some_and(|model| model.lora.is_none());
    let parts = [
        (weights, "weights", "`model.dtype = \"bfloat16\"` halves them"),
        (
            training,
            "gradients and optimizer state",
            if trains_all { "train adapters with `[model.lora]`" } else { "lower `lora.rank`" },
        ),
        (activations, "activations", "lower `micro_batch_size`, or the lengths the stage allows"),
        (kv_cache, "keys and values", "decode fewer rows at a time, or lower `max_new_tokens`"),
        (logits, "logits", "lower `micro_batch_size`"),
    ];
    let (bytes, what, knob) = parts.into_iter().max_by_key(|part| part.0)?;
    let without = stage.runtime.gradient_checkpointing == GradientCheckpointing::Off && bytes == activations;
    let also = if without { "; or set `runtime.gradient_checkpointing = \"auto\"`" } else { "" };
    Some(TooLarge {
        message: format!(
            "the stage `{}` needs about {} of memory, and the device has {}",
            stage.name,
            gib(estimate.total()),
            gib(available)
        ),
        hint: format!("{} of it are {what}: {knob}{also}", gib(bytes)),
    })
}

/// Returns the distinct models that the stage holds in memory: its own, or those of an arena's players. A program has
/// none.
fn models_of(stage: &PlannedStage) -> Vec<ModelSpec> {
    if stage.program.is_some() {
        return Vec::new();
    }
    let mut models: Vec<ModelSpec> = stage.spec.model.iter().cloned().collect();
    for model in planned(&stage.spec.work).further_models() {
        if !models.contains(model) {
            models.push(model.clone());
        }
    }
    models
}

fn model_shape(stage: &PlannedStage, files: &Digest) -> Option<ModelShape> {
    let dir = stage.inputs.get(files)?;
    DecoderConfig::read(dir).ok().map(ModelShape::from)
}

/// The memory of a device.
#[derive(Clone, Copy)]
struct DeviceMemory {
    /// Whether it is the host's memory.
    on_cpu: bool,
    /// The size in bytes; absent where the system does not report it.
    bytes: Option<u64>,
}

impl DeviceMemory {
    /// Returns the memory of `device`. For `auto` without a GPU, it is the host's.
    fn of(device: Device) -> Self {
        let gpu = match device {
            Device::Cpu => None,
            Device::Cuda(index) => return Self { on_cpu: false, bytes: gpu_memory(index) },
            Device::Auto => gpu_memory(0),
        };
        Self { on_cpu: gpu.is_none(), bytes: gpu.or_else(host::memory_bytes) }
    }
}

fn gpu_memory(index: usize) -> Option<u64> {
    Some(host::installed_gpus().get(index)?.memory?.total)
}
