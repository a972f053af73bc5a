//! Planning of each kind of stage, with one file per kind.
//!
//! # How to add a kind of stage
//!
//! 1. `stage.rs`: a word in `StageKind`, and the answers of its methods.
//! 2. `recipe/spec/stage.rs`: the hashed spec, as a variant of `Work`. `recipe/tables/stage.rs`: its table.
//!    `recipe/tables/defaults.toml`: its defaults. `recipe/resolve/stages.rs`: the step from the table to the spec.
//! 3. `plan/kinds/KIND.rs`, and a line in [`planned`]: its version, size, memory and judge calls.
//! 4. `engine/stages/KIND.rs`, with the loop, and a line in `engine/stages/mod.rs`. `engine/data/stage_data.rs`: the
//!    data that it reads.
//! 5. `tests/recipes/full.toml` and `tests/every_key.rs`, which require its keys.

mod arena;
mod command;
mod eval;
mod generate;
mod grpo;
mod planned;
mod supervised;

pub(super) use arena::Arenas;
pub use planned::{PlannedWork, planned};

use planned::{DECODING, ROW_BYTES, TOKEN_BYTES, encoders_of};
