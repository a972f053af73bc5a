//! `orchestrate` turns TOML recipes into trained models and trustworthy comparisons.
//!
//! # Reading order
//!
//! 1. [`recipe`]: what a user writes, and [`recipe::spec`], the same with every default written out.
//! 2. [`plan`]: the deduplicated graph of all variants' stages, their cache keys, and which are hits.
//! 3. [`workspace`]: how an attempt at a stage becomes a complete checkpoint.
//! 4. [`event`]: the stream of events that a worker writes and all other parts read. [`evidence`] holds what the runs
//!    measured, question by question.
//! 5. [`rewards`]: the reward mix. [`arena`] computes ratings from judges' verdicts. [`program`] starts the user's
//!    programs, for rewards and `command` stages.
//! 6. `orchestrate-engine` (`src/engine`), the only importer of libtorch: models, data, optimizers, stages. It and this
//!    package share `orchestrate-core` (`src/core`), which has all of the above.
//! 7. [`hub`] downloads `hf://` paths into the user's Hugging Face cache before a plan is made.
//! 8. [`exec`] starts workers, [`store`] is the database, and [`run`] dispatches. [`history`] reads the records of past
//!    runs, [`report`] renders them, and [`serve`] shows them in a browser. [`cli`] is the command line.
//!
//! # Two binaries
//!
//! `orchestrate` plans, dispatches and answers questions; it does not link libtorch. Every stage runs in a child
//! process, `orchestrate-worker ATTEMPT_DIR`, which does. A crash or exhausted memory is therefore a failed stage, and
//! its memory is released. Only one process writes SQLite. Files are the source of truth; SQLite is an index of them.
//!
//! # Layers
//!
//! Imports go one way. The table in `tests/layers.rs` lists the allowed edges. The test fails on any other edge and on
//! an unused allowance. The lowest modules are [`digest`], [`stage`] (kinds and statuses), [`parallel`] (work on all
//! cores) and [`cpu`] (the CPU's features); the highest is [`cli`].

pub use orchestrate_core::{
    architecture, arena, cpu, data, digest, dtype, energy, event, evidence, exec, host, leakage, metric, number, pace,
    parallel, plan, printable, program, recipe, rewards, run_event, run_update, slice, stage, stats, suggestion,
    workspace,
};

pub mod cli;
pub mod export;
pub mod history;
pub mod hub;
pub mod report;
pub mod run;
pub mod serve;
pub mod store;
