//! Reads the files of runs into the database, each from where it was read last. What a run writes while it goes on, what a
//! question finds missing, and `db rebuild` all come this way, so the rows are the same.
//!
//! ```text
//! log/<run>/plan.json, run.jsonl          -> run_rows, stage_rows, result_rows
//! cache/<key>/ or work/<key>/events.jsonl -> step_rows, metric_rows, completion_rows, reward_rows, result_rows
//! cache/<key>/manifest.json               -> key_rows
//! ```

mod files;
mod runs;

pub use runs::*;
