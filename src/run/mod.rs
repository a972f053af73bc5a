//! Runs a plan: scheduler, cache, workers, database and display in one loop.
//!
//! ```text
//! RunRequest -> Loop: ready? -> cached: hit
//!                            -> held by another process: wait for its checkpoint or its lease
//!                            -> attempt directory, worker --events--> display, database
//!                     ended? -> committed: its children may start
//!                            -> failed, stopped: its descendants are skipped, everything else goes on
//! -> RunSummary
//! ```
//!
//! What a run was asked and what it did is written to files first (`run_log`); the database is an index of them, so a
//! database that cannot be written costs the history of a run, not its results.

mod assignment;
mod costs;
mod dispatch;
mod execute;
mod failure;
mod machine;
mod memory;
mod outcome;
mod recorder;
mod request;
mod rerun;
mod selection;
mod signals;

pub use assignment::assignment;
pub use execute::run;
pub use memory::{TooLarge, plan_memory, too_large};
pub use outcome::{FailedStage, RunError, RunSummary, StageEnd};
pub use request::RunRequest;
pub use rerun::{Rerun, rerun, rerun_plan};
pub use selection::{limited, stage_names, stages_named, titles, unknown_stages};
