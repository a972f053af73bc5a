//! Allocates a machine's resources to stages, by arithmetic alone.
//!
//! | resource | use of a stage | capacity |
//! |---|---|---|
//! | places | one | `-j`, [`Capacity::jobs`] |
//! | GPU slots | one, if it runs on a GPU | one for each entry of [`Capacity::gpus`]; a device may have several |
//! | memory | its estimated peak, of its GPU or else of the host | what is free on the GPU, or the host's memory |
//! | CPU threads | the recipe's `threads`; without it none are counted | the cores |
//!
//! A stage that needs more threads or memory than there is may run when no other stage takes of them, so that nothing
//! waits for ever. A stage that is short of something has the first right to it: no less urgent one takes of that
//! before.

use std::collections::BTreeMap;

/// The resources of a machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Capacity {
    /// The maximum number of stages that run at the same time.
    pub jobs: usize,
    /// The number of CPU cores.
    pub threads: usize,
    /// The bytes of the host's memory; absent where the system does not report them.
    pub memory_bytes: Option<u64>,
    /// The slots of GPUs.
    pub gpus: Vec<GpuSlot>,
}

/// A slot for one stage on a GPU.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GpuSlot {
    /// The device as `CUDA_VISIBLE_DEVICES` names it.
    pub device: String,
    /// The bytes of the device's memory that are free before the run begins. All its slots share them; absent where the
    /// system does not report them.
    pub memory_bytes: Option<u64>,
}

/// The resources that a stage uses while it runs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StageNeed {
    /// The number of CPU threads that are counted.
    pub threads: usize,
    /// The bytes at the peak, of its GPU or else of the host; 0 when unknown.
    pub memory_bytes: u64,
    /// The GPU that the stage needs, if any.
    pub gpu: GpuNeed,
}

/// The need of a stage for a GPU.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum GpuNeed {
    /// The stage does not use a GPU.
    #[default]
    None,
    /// The stage may run on any free GPU.
    Any,
    /// The stage runs on this device.
    Device(String),
}

impl GpuNeed {
    fn accepts(&self, slot: &GpuSlot) -> bool {
        match self {
            Self::None => false,
            Self::Any => true,
            Self::Device(device) => *device == slot.device,
        }
    }
}

/// The used or reserved part of a [`Capacity`].
#[derive(Clone, Debug)]
pub(super) struct Tally<'a> {
    capacity: &'a Capacity,
    places: usize,
    threads: usize,
    memory_bytes: u64,
    slots: Vec<bool>,
    gpu_memory_bytes: BTreeMap<&'a str, u64>,
}

/// A place where a stage may run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Room {
    /// The slot, if the stage runs on a GPU.
    pub(super) gpu: Option<usize>,
}

/// The resources that a stage which cannot run now lacks.
#[derive(Clone, Copy, Debug, Default)]
struct Shortage {
    threads: bool,
    memory: bool,
    gpu: bool,
}

/// Whether `need` fits into `capacity` beside `taken`. A need always fits where nothing is taken.
fn has_room(taken: u64, need: u64, capacity: u64) -> bool {
    need == 0 || taken == 0 || taken.saturating_add(need) <= capacity
}

impl<'a> Tally<'a> {
    /// Returns the tally of stages with these needs and slots.
    pub(super) fn of(capacity: &'a Capacity, running: impl Iterator<Item = (&'a StageNeed, Option<usize>)>) -> Self {
        let mut tally = Self {
            capacity,
            places: 0,
            threads: 0,
            memory_bytes: 0,
            slots: vec![false; capacity.gpus.len()],
            gpu_memory_bytes: BTreeMap::new(),
        };
        for (need, slot) in running {
            tally.places += 1;
            tally.threads += need.threads;
            match slot {
                Some(slot) => {
                    tally.slots[slot] = true;
                    *tally.gpu_memory_bytes.entry(&capacity.gpus[slot].device).or_default() += need.memory_bytes;
                }
                None => tally.memory_bytes = tally.memory_bytes.saturating_add(need.memory_bytes),
            }
        }
        tally
    }

    /// Whether all places are taken.
    pub(super) fn is_full(&self) -> bool {
        self.places >= self.capacity.jobs
    }

    /// Returns the place where a stage with this need may run now. Without one, the resources that it lacks are
    /// reserved for it.
    pub(super) fn place(&mut self, need: &StageNeed) -> Option<Room> {
        let on_gpu = need.gpu != GpuNeed::None;
        let slot = (0..self.slots.len()).find(|&slot| self.is_free(slot, need));
        let host_memory = self.capacity.memory_bytes.unwrap_or(u64::MAX);
        let short = Shortage {
            threads: !has_room(self.threads as u64, need.threads as u64, self.capacity.threads as u64),
            memory: !on_gpu && !has_room(self.memory_bytes, need.memory_bytes, host_memory),
            gpu: on_gpu && slot.is_none(),
        };
        if short.threads || short.memory || short.gpu {
            self.reserve(need, short);
            return None;
        }
        Some(Room { gpu: slot })
    }

    fn is_free(&self, slot: usize, need: &StageNeed) -> bool {
        let GpuSlot { device, memory_bytes } = &self.capacity.gpus[slot];
        let taken = self.gpu_memory_bytes.get(device.as_str()).copied().unwrap_or(0);
        need.gpu.accepts(&self.capacity.gpus[slot])
            && !self.slots[slot]
            && has_room(taken, need.memory_bytes, memory_bytes.unwrap_or(u64::MAX))
    }

    /// Reserves the resources that a waiting stage lacks, so that later stages do not take them.
    fn reserve(&mut self, need: &StageNeed, short: Shortage) {
        if short.threads {
            self.threads = self.threads.saturating_add(need.threads);
        }
        if short.memory {
            self.memory_bytes = self.memory_bytes.saturating_add(need.memory_bytes);
        }
        if short.gpu {
            for (taken, slot) in self.slots.iter_mut().zip(&self.capacity.gpus) {
                *taken |= need.gpu.accepts(slot);
            }
        }
    }
}
