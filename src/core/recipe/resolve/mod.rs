//! Resolves the tables of a variant to stages: looks up names, finds and digests files, and checks what the schema
//! cannot express.

pub(super) mod arena;
pub(super) mod best;
pub(super) mod command;
pub(super) mod command_words;
pub(super) mod component_table;
mod credit;
pub(super) mod data_sets;
pub(super) mod files;
mod generate;
mod grpo;
pub(super) mod inputs;
pub(super) mod leakage;
pub(super) mod measured;
mod model;
mod order;
pub(super) mod program;
pub(super) mod resolved;
pub(super) mod resolver;
pub(super) mod reward_mix;
mod snapshots;
pub(super) mod stage_data;
pub(super) mod stages;
