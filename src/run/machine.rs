//! The resources of this machine, and the needs of each stage of a plan.

use super::gpus::{VISIBLE, VisibleGpu, visible_gpus};
use crate::host::memory_bytes;
use crate::plan::{Capacity, GpuNeed, GpuSlot, Plan, PlannedStage, StageNeed};
use crate::recipe::Device;

/// The variable for CUDA's numbering of GPUs, and the value for the driver's order, by bus id.
const ORDER: (&str, &str) = ("CUDA_DEVICE_ORDER", "PCI_BUS_ID");

/// The machine of a run.
#[derive(Debug)]
pub(super) struct Machine {
    pub(super) capacity: Capacity,
    /// The GPUs that this process sees, as `CUDA_VISIBLE_DEVICES` names them.
    visible: Vec<GpuSlot>,
    /// Whether the user selected the GPUs. Then the user's numbering applies.
    chosen: bool,
}

impl Machine {
    /// Detects the resources of this machine for `plan`. `jobs` stages run at the same time; by default one on each
    /// GPU, and one without GPUs. GPUs are searched only if a stage `will_run`.
    pub(super) fn find(plan: &Plan, jobs: Option<usize>, will_run: bool) -> Self {
        let wants_gpu = will_run && plan.stages.iter().any(|stage| stage.runtime.device != Device::Cpu);
        let visible = if wants_gpu { visible_gpus().into_iter().map(slot).collect() } else { Vec::new() };
        let named = plan.stages.iter().find_map(|stage| stage.runtime.gpus.as_deref());
        let gpus = named.map_or_else(|| visible.clone(), |named| slots(named, &visible));
        let capacity = Capacity {
            jobs: jobs.unwrap_or(gpus.len()).max(1),
            threads: std::thread::available_parallelism().map_or(1, usize::from),
            memory_bytes: memory_bytes(),
            gpus,
        };
        Self { capacity, visible, chosen: std::env::var(VISIBLE).is_ok() }
    }

    /// Returns the number of CPU threads of a stage. It is the recipe's setting, or an even share of the cores if
    /// several stages may run at the same time. `None` means all cores.
    pub(super) fn threads(&self, stage: &PlannedStage) -> Option<usize> {
        let share = || (self.capacity.threads / self.capacity.jobs).max(1);
        stage.runtime.threads.or_else(|| (self.capacity.jobs > 1 && self.capacity.gpus.is_empty()).then(share))
    }

    /// Returns the resources that `stage` needs while it runs.
    pub(super) fn need(&self, stage: &PlannedStage) -> StageNeed {
        let is_slot = |device: &String| self.capacity.gpus.iter().any(|slot| slot.device == *device);
        let gpu = match stage.runtime.device {
            Device::Auto if !self.capacity.gpus.is_empty() => GpuNeed::Any,
            Device::Auto | Device::Cpu => GpuNeed::None,
            // The worker reports a device that does not exist.
            Device::Cuda(index) => name_of(index, &self.visible).filter(is_slot).map_or(GpuNeed::None, GpuNeed::Device),
        };
        let on_cpu = gpu == GpuNeed::None && !matches!(stage.runtime.device, Device::Cuda(_));
        StageNeed {
            threads: if on_cpu { stage.runtime.threads.unwrap_or(0) } else { 0 },
            memory_bytes: stage
                .memory
                .estimate
                .filter(|_| on_cpu || gpu != GpuNeed::None)
                .map_or(0, |need| need.total()),
            gpu,
        }
    }

    /// Returns the environment that gives a worker only the GPU of this slot.
    pub(super) fn environment(&self, slot: usize) -> Vec<(&'static str, String)> {
        let mut environment = vec![(VISIBLE, self.capacity.gpus[slot].device.clone())];
        if !self.chosen {
            environment.push((ORDER.0, ORDER.1.to_owned()));
        }
        environment
    }
}

/// Returns a slot with the memory that is free before the run begins.
fn slot(gpu: VisibleGpu) -> GpuSlot {
    GpuSlot { device: gpu.device, memory_bytes: gpu.memory.map(|memory| memory.free) }
}

/// Returns the slots that a recipe's `gpus` names. A device that is named twice has two slots.
fn slots(named: &[usize], visible: &[GpuSlot]) -> Vec<GpuSlot> {
    let slot = |&index: &usize| {
        visible.get(index).cloned().unwrap_or(GpuSlot { device: index.to_string(), memory_bytes: None })
    };
    named.iter().map(slot).collect()
}

/// Returns the name of the device that CUDA counts as number `index`.
fn name_of(index: usize, visible: &[GpuSlot]) -> Option<String> {
    if visible.is_empty() { Some(index.to_string()) } else { visible.get(index).map(|slot| slot.device.clone()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(slots: &[GpuSlot]) -> Vec<&str> {
        slots.iter().map(|slot| slot.device.as_str()).collect()
    }

    #[test]
    fn a_recipe_counts_gpus_as_cuda_does() {
        let visible = ["2", "1"].map(|device| slot(VisibleGpu { device: device.to_owned(), memory: None }));
        assert_eq!(names(&slots(&[0, 0, 1], &visible)), ["2", "2", "1"]);
        assert_eq!(names(&slots(&[0, 3], &[])), ["0", "3"]);
        assert_eq!((name_of(1, &visible), name_of(2, &visible)), (Some("1".to_owned()), None));
    }
}
