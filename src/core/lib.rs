//! What the command line and the engine share: what is asked (recipes, plans), where it happens (the run directory, workers),
//! what comes of it (events, rewards, statistics). No command line, no database and no libtorch.

pub mod architecture;
pub mod arena;
pub mod cpu;
pub mod digest;
pub mod dtype;
pub mod energy;
pub mod event;
pub mod evidence;
pub mod exec;
pub mod host;
pub mod metric;
pub mod number;
pub mod pace;
pub mod parallel;
pub mod plan;
pub mod printable;
pub mod program;
pub mod recipe;
pub mod rewards;
pub mod run_event;
pub mod run_update;
pub mod stage;
pub mod stats;
pub mod suggestion;
pub mod workspace;
