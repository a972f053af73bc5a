//! What may be written: one table type a kind of table, their defaults, and the schema that follows from them.
//!
//! # How to add a key
//!
//! 1. Add the field, with a doc comment and its bounds, to the table: `optimizer.rs` and `sampling.rs` for all stages
//!    that train or
//!    sample, `stage.rs` and `arena.rs` for one kind of stage, `recipe.rs` for the rest.
//! 2. Add its default, and the reason, to `defaults.toml`.
//! 3. Add it to the spec (`recipe/spec/stage.rs`), and read it where the table is resolved. A default that means "as
//!    before" is
//!    not serialized, so that cache keys stay ([`crate::plan`]).
//! 4. Use it in the engine.
//! 5. Add it to `tests/recipes/full.toml` and `tests/every_key.rs`, which demand it.

pub mod arena;
pub(super) mod compare;
pub mod credit;
pub(super) mod defaults;
pub mod generate;
mod one_or_many;
pub mod optimizer;
pub mod recipe;
pub(super) mod reference;
#[cfg(test)]
mod reward_pages_tests;
pub mod sampling;
pub(super) mod schema;
pub mod stage;
mod synonyms;
pub(super) mod validate;
