//! `orchestrate` turns TOML recipes into trained models and trustworthy comparisons.
//!
//! # Reading order
//!
//! 1. [`recipe`]: what a user writes, and [`recipe::spec`], what it means with every default written out.
//! 2. [`plan`]: the deduplicated graph of all variants' stages, their cache keys, and which are hits.
//! 3. [`workspace`]: how an attempt at a stage becomes a checkpoint, complete or not visible.
//! 4. [`event`]: the one stream a worker writes and everybody else reads.
//!    [`evidence`] is what the runs measured, question by question.
//! 5. [`rewards`]: the reward mix.
//!    What an arena of models makes of judges' verdicts is [`arena`].
//!    Programs of the user's, which rewards ask and stages are, are started by [`program`].
//! 6. `orchestrate-engine` (`src/engine`), the only importer of libtorch: models, data, optimizers, stages.
//!    It and this package share `orchestrate-core` (`src/core`), which has all of the above.
//! 7. [`hub`] brings `hf://` paths into the user's Hugging Face cache before a plan is made.
//! 8. [`exec`] starts workers, [`store`] remembers, [`run`] dispatches, [`history`] reads what it left, [`report`] prints, [`serve`] shows it in a browser,
//!    [`cli`] decides.
//!
//! # Two binaries
//!
//! `orchestrate` plans, dispatches and answers questions; it does not link libtorch. Every stage runs in a child,
//! `orchestrate-worker ATTEMPT_DIR`, which does. So a crash or an exhausted memory is a failed stage, the memory comes
//! back, and only one process writes SQLite. Files are the truth; SQLite is an index of them.
//!
//! # Layers
//!
//! Imports go one way. `tests/layers.rs` has the table of allowed imports, and fails on any other edge and on an
//! allowance that no module uses. Lowest are [`digest`], [`stage`] (the words for kinds and states), [`parallel`] (work
//! on all cores) and [`cpu`] (what the CPU can do); highest is [`cli`].

pub use orchestrate_core::{
    architecture, arena, cpu, digest, dtype, energy, event, evidence, exec, host, metric, number, pace, parallel, plan,
    printable, program, recipe, rewards, run_event, run_update, stage, stats, suggestion, workspace,
};

pub mod cli;
pub mod export;
pub mod history;
pub mod hub;
pub mod report;
pub mod run;
pub mod serve;
pub mod store;
