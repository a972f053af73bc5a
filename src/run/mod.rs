//! Runs a plan: scheduler, cache, workers, database and display in one loop.
//!
//! ```text
//! RunRequest -> Loop: ready? -> cached: hit
//!                            -> held by another process: wait for its checkpoint or its lease
//!                            -> attempt directory, worker --events--> display, database
//!                     ended? -> committed: its children may start
//!                            -> failed, stopped: its descendants are skipped, everything else continues
//! -> RunSummary
//! ```
//!
//! The invocation and the events of a run are written to files first (`run_log`); the database is an index of them. If
//! the database cannot be written, the run keeps its results and its log.

mod assignment;
mod costs;
mod dispatch;
mod execute;
mod failure;
mod gpus;
mod machine;
mod memory;
mod outcome;
mod recorder;
mod request;
mod rerun;
mod selection;
mod signals;

pub use assignment::assignment;
pub use costs::expected_seconds;
pub use execute::run;
pub use memory::{TooLarge, busy_gpus, plan_memory, too_large};
pub use outcome::{FailedStage, RunError, RunSummary, StageEnd};
pub use request::RunRequest;
pub use rerun::{Rerun, rerun, rerun_plan};
pub use selection::{limited, stage_names, stages_named, titles, unknown_stages};
