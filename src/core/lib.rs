//! The code that the command line and the engine share: recipes, plans, the run directory, workers, events, rewards and
//! statistics. It does not depend on the command line, a database or libtorch.

pub mod architecture;
pub mod arena;
pub mod cpu;
pub mod data;
pub mod digest;
pub mod dtype;
pub mod energy;
pub mod event;
pub mod evidence;
pub mod exec;
pub mod host;
pub mod leakage;
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
pub mod slice;
pub mod stage;
pub mod stats;
pub mod suggestion;
pub mod workspace;
