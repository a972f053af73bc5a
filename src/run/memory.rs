//! Checks whether the stages of a plan fit into the machine's memory, and which of them need gradient checkpointing.

use super::gpus::{VisibleGpu, visible_gpus};
use crate::architecture::{DecoderConfig, weight_count};
use crate::cpu;
use crate::digest::Digest;
use crate::host;
use crate::number::{gib, gib_of};
use crate::plan::{
    BusyGpu, Computing, MemoryEstimate, ModelShape, Plan, PlannedStage, Processor, StageMemory, StageModel, planned,
};
use crate::recipe::spec::{Dtype, ModelSpec};
use crate::recipe::{Device, GradientCheckpointing};
use std::cell::LazyCell;
use std::collections::{BTreeMap, BTreeSet};

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
    let visible = LazyCell::new(visible_gpus);
    let mut shapes: BTreeMap<Digest, Option<ModelShape>> = BTreeMap::new();
    let mut encoder_weights: BTreeMap<Digest, u64> = BTreeMap::new();
    for stage in &mut plan.stages {
        let models = models_of(stage);
        if models.is_empty() {
            continue;
        }
        let (device, gpus) = (stage.runtime.device, stage.runtime.gpus.as_deref());
        let DeviceMemory { processor, available, busy_gpu } = DeviceMemory::of(device, gpus, || &visible);
        for model in &models {
            shapes.entry(model.files.clone()).or_insert_with(|| model_shape(stage, &model.files));
        }
        // Estimates for a CPU were fitted to peaks without encoders.
        let counted = if processor == Processor::Gpu { planned(&stage.spec.work).encoders() } else { Vec::new() };
        let mut encoders = 0;
        for (files, dtype) in counted {
            let known = encoder_weights.entry(files.clone());
            encoders += dtype.bytes() * *known.or_insert_with(|| encoder_weights_of(stage, files));
        }
        let estimate = |model: &ModelSpec, checkpointing: bool| {
            let on_cpu = processor == Processor::Cpu;
            let widened = model.dtype == Dtype::Bfloat16 && on_cpu && stage.runtime.bfloat16_products.widens(is_fast);
            let (shape, computing) = (shapes[&model.files].as_ref()?, Computing { processor, checkpointing, widened });
            let estimate = planned(&stage.spec.work).memory(&StageModel { spec: model, shape, computing })?;
            Some(MemoryEstimate { encoders, ..estimate })
        };
        let largest = |checkpointing: bool| {
            let estimates = models.iter().filter_map(|model| estimate(model, checkpointing));
            estimates.max_by_key(MemoryEstimate::total)
        };
        let with = |checkpointing: bool| StageMemory {
            estimate: largest(checkpointing),
            available,
            busy_gpu,
            can_checkpoint: false,
        };
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
    let MemoryEstimate { weights, training, activations, kv_cache, logits, encoders, .. } = estimate;
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
        (encoders, "encoders", "`dtype = \"bfloat16\"` of a component halves its encoder"),
    ];
    let (bytes, what, knob) = parts.into_iter().max_by_key(|part| part.0)?;
    let without = stage.runtime.gradient_checkpointing == GradientCheckpointing::Off && bytes == activations;
    let also = if without { "; or set `runtime.gradient_checkpointing = \"auto\"`" } else { "" };
    let device = memory.busy_gpu.map_or_else(|| format!("the device has {}", gib(available)), busy);
    let message = format!("the stage `{}` needs about {} of memory, and {device}", stage.name, gib(estimate.total()));
    let hint = match memory.busy_gpu {
        Some(gpu) if estimate.total() <= gpu.total => {
            "end that process, or choose another GPU by `runtime.device` or `runtime.gpus`".to_owned()
        }
        _ => format!("{} of it are {what}: {knob}{also}", gib(bytes)),
    };
    Some(TooLarge { message, hint })
}

/// Returns a sentence for each GPU on which one of `stages` will run, and of which other processes hold much memory.
pub fn busy_gpus<'a>(stages: impl Iterator<Item = &'a PlannedStage>) -> BTreeSet<String> {
    stages.filter_map(|stage| stage.memory.busy_gpu).map(busy).collect()
}

fn busy(gpu: BusyGpu) -> String {
    format!("gpu {} has {} free: another process uses it", gpu.index, gib_of(gpu.free, gpu.total))
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

/// Returns the number of weights of an encoder; 0 where it is unknown.
fn encoder_weights_of(stage: &PlannedStage, files: &Digest) -> u64 {
    stage.inputs.get(files).and_then(|dir| weight_count(dir).ok()).unwrap_or(0)
}

/// The device of a stage, with its memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct DeviceMemory {
    processor: Processor,
    /// The bytes that a stage may use; absent where the system does not report them.
    available: Option<u64>,
    /// The GPU, if other processes hold much of it.
    busy_gpu: Option<BusyGpu>,
}

impl DeviceMemory {
    /// Returns the device of a stage with the settings `device` and `gpus`, on a machine with these `visible` GPUs. For
    /// `auto` without a GPU, it is the host; with several, the one with the least free memory, because any of them may
    /// get the stage.
    fn of<'a>(device: Device, gpus: Option<&[usize]>, visible: impl FnOnce() -> &'a [VisibleGpu]) -> Self {
        let host = || Self { processor: Processor::Cpu, available: host::memory_bytes(), busy_gpu: None };
        if device == Device::Cpu {
            return host();
        }
        let visible = visible();
        let indices = match device {
            Device::Cuda(index) => vec![index],
            _ if visible.is_empty() => return host(),
            _ => gpus.map_or_else(|| (0..visible.len()).collect(), <[usize]>::to_vec),
        };
        let known = indices.into_iter().filter_map(|index| Some((index, visible.get(index)?.memory?)));
        let Some((index, memory)) = known.min_by_key(|(_, memory)| memory.free) else {
            return Self { processor: Processor::Gpu, available: None, busy_gpu: None };
        };
        let busy_gpu = memory.is_busy().then_some(BusyGpu { index, free: memory.free, total: memory.total });
        Self { processor: Processor::Gpu, available: Some(memory.free), busy_gpu }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::GpuMemory;

    fn gpu(free: u64) -> VisibleGpu {
        let total = 80 << 30;
        VisibleGpu { device: "0".to_owned(), memory: Some(GpuMemory { total, free, used: total - free }) }
    }

    fn of(device: Device, gpus: Option<&[usize]>, visible: &[VisibleGpu]) -> (Processor, Option<u64>, Option<usize>) {
        let memory = DeviceMemory::of(device, gpus, || visible);
        (memory.processor, memory.available, memory.busy_gpu.map(|gpu| gpu.index))
    }

    #[test]
    fn a_stage_may_use_what_is_free_on_any_gpu_that_it_may_get() {
        let visible = [gpu(79 << 30), gpu(12 << 30), VisibleGpu { device: "2".to_owned(), memory: None }];
        let on_gpu = |bytes: Option<u64>, busy| (Processor::Gpu, bytes, busy);
        assert_eq!(of(Device::Cuda(0), None, &visible), on_gpu(Some(79 << 30), None));
        assert_eq!(of(Device::Cuda(1), Some(&[0]), &visible), on_gpu(Some(12 << 30), Some(1)));
        assert_eq!(of(Device::Auto, None, &visible), on_gpu(Some(12 << 30), Some(1)));
        assert_eq!(of(Device::Auto, Some(&[0, 0]), &visible), on_gpu(Some(79 << 30), None));
        assert_eq!(of(Device::Auto, Some(&[2]), &visible), on_gpu(None, None));
        assert_eq!(of(Device::Cuda(3), None, &visible), on_gpu(None, None));
        for (device, visible) in [(Device::Cpu, &visible[..]), (Device::Auto, &[])] {
            assert_eq!(of(device, Some(&[0]), visible), (Processor::Cpu, host::memory_bytes(), None));
        }
    }

    #[test]
    fn a_busy_gpu_is_named_with_what_is_free() {
        let (free, total) = ((123 << 30) / 10, 80 << 30);
        let said = busy(BusyGpu { index: 0, free, total });
        assert_eq!(said, "gpu 0 has 12.3 of 80.0 GiB free: another process uses it");
    }
}
