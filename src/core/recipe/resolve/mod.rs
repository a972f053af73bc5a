//! From the tables of a cell to stages: names looked up, files found and digested, what the schema cannot say checked.

pub(super) mod arena;
pub(super) mod command;
pub(super) mod command_words;
pub(super) mod component_table;
pub(super) mod data_sets;
pub(super) mod files;
mod grpo;
pub(super) mod inputs;
pub(super) mod measured;
mod model;
mod order;
pub(super) mod program;
pub(super) mod resolved;
pub(super) mod resolver;
pub(super) mod reward_mix;
pub(super) mod stages;
