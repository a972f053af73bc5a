//! The deduplicated graph of all variants' stages, their cache keys, and the order they run in.

mod graph;
mod key;
mod scheduler;

pub use graph::{Plan, PlannedStage, PlannedVariant};
pub use key::{KEY_FORMAT, StageKey, stage_key, stage_version};
pub use scheduler::{Outcome, Scheduler};
