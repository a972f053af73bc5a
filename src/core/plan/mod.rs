//! The deduplicated graph of all variants' stages, their cache keys, what they need of the machine, and the order they run in.

mod arena;
mod graph;
mod judge_calls;
mod key;
mod memory;
mod resources;
mod scheduler;
mod work_size;

pub use graph::{Plan, PlannedStage, PlannedVariant};
pub use judge_calls::judge_calls;
pub use key::{KEY_FORMAT, StageKey, stage_key, stage_version};
pub use memory::{Computing, MemoryEstimate, ModelShape, StageMemory, memory_estimate};
pub use resources::{Capacity, GpuNeed, GpuSlot, Need};
pub use scheduler::{Outcome, Scheduler, Start};
pub use work_size::work_size;
