//! The deduplicated graph of all variants' stages: their cache keys, their resources, and the order in which they run.

mod computing;
mod graph;
mod key;
mod kinds;
mod memory;
mod resources;
mod scheduler;

pub use computing::{Computing, Processor};
pub use graph::{Plan, PlannedStage, PlannedVariant};
pub use key::{KEY_FORMAT, StageKey, stage_key};
pub use kinds::{PlannedWork, planned};
pub use memory::{BusyGpu, MemoryEstimate, ModelShape, StageMemory, StageModel};
pub use resources::{Capacity, GpuNeed, GpuSlot, StageNeed};
pub use scheduler::{Outcome, Scheduler, Start};
