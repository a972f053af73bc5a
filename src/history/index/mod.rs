//! Reads the files of runs into the database, each from where the last reading ended. A run that is going on, a query
//! that finds the database behind, and `db rebuild` all use this code, so the rows are the same.
//!
//! ```text
//! log/<run>/plan.json, run.jsonl          -> run_rows, stage_rows, result_rows
//! cache/<key>/ or work/<key>/events.jsonl -> step_rows, metric_rows, completion_rows, reward_rows, result_rows
//! cache/<key>/manifest.json               -> key_rows
//! ```

mod files;
mod runs;

pub use runs::*;
