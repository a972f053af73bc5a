//! What may be written: one table type a kind of table, their defaults, and the schema that follows from them.

pub mod arena;
pub(super) mod compare;
pub(super) mod defaults;
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
