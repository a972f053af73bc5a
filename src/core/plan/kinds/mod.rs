//! What planning has to know of each kind of stage: one file a kind.
//!
//! # How to add a kind of stage
//!
//! 1. `stage.rs`: a word in `StageKind`, and what its methods say of it.
//! 2. `recipe/spec/stage.rs`: what is hashed, as a variant of `Work`. `recipe/tables/stage.rs`: its table. `recipe/tables/defaults.toml`: its
//!    defaults. `recipe/resolve/stages.rs`: from one to the other.
//! 3. `plan/kinds/KIND.rs`, and a line in [`planned`]: its version, its size, its memory, its judge calls.
//! 4. `engine/stages/KIND.rs`, with the loop, and a line in `engine/stages/mod.rs`; what it reads in
//!    `engine/data/stage_data.rs`.
//! 5. `tests/recipes/full.toml` and `tests/every_key.rs`, which demand its keys.

mod arena;
mod command;
mod eval;
mod grpo;
mod planned;
mod supervised;

pub(super) use arena::Arenas;
pub use planned::{PlannedWork, planned};

use planned::{DECODING, ROW_BYTES, TOKEN_BYTES};
