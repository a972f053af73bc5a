//! Recipes: from what a user writes to what each stage does, with every default written out.
//!
//! ```text
//! files, environment, --set                                 located, layers   texts that remember where a value stands
//!   -> one merged table                                     layers            figment
//!   -> checked against the schema                           schema, validate  unknown keys, types, ranges
//!   -> cells = variants x zip x matrix                      sweep             each checked again, with its changes
//!   -> cells over the built-in defaults                     defaults
//!   -> the tables of file, stage_file, rewards::table
//!   -> spec::StageSpec, one a stage                         resolve           references, files, digests
//!   -> what evaluations measure of all variants' rewards    measured
//! ```
//!
//! All problems are collected and reported at once ([`RecipeError`]), each at the text that set the value. No key is
//! ignored: a key is either in the schema and reaches a spec or [`RuntimeSettings`], or it is an error; and a value that
//! something else would override everywhere is an error too.
//!
//! Paths in recipes are relative to the project directory; only `extends` is relative to the file it stands in.
//! Content digests and what is on the Hugging Face hub come in through [`Inputs`]; apart from them this module reads
//! recipe files and looks whether the files they name are there.

pub mod arena_file;
mod cell_pattern;
mod command_words;
mod compare;
mod component_table;
mod data_sets;
mod defaults;
mod diagnostic;
pub mod file;
mod files;
mod http_endpoint;
mod hub_reference;
mod inputs;
mod judge_server;
mod layers;
mod load;
mod located;
mod measured;
mod optimizer_table;
mod order;
mod patterns;
mod program;
mod reference;
mod resolve;
mod resolve_arena;
mod resolve_command;
mod resolve_grpo;
mod resolve_model;
mod reward_mix;
#[cfg(test)]
mod reward_pages_tests;
mod runtime;
mod sampling_table;
mod schema;
pub mod spec;
pub mod stage_file;
mod sweep;
mod sweep_axes;
mod synonyms;
mod validate;

pub use crate::cpu::Bfloat16Products;
pub use crate::rewards::{HttpEndpoint, JudgeServer};
pub use cell_pattern::CellPattern;
pub use command_words::CommandWords;
pub use compare::CompareSettings;
pub use diagnostic::{Place, Problem, RecipeError, Source};
pub use hub_reference::{HUB_SCHEME, HubReference, HubRepoKind, is_commit, is_path};
pub use inputs::{HubFiles, HubRefusal, Inputs};
pub use layers::{Overrides, PROGRAM_VARIABLES};
pub use load::{LoadedRecipe, ResolvedVariant, load};
pub use measured::{Training, training_of};
pub use reference::{KeySection, RecipeKey, key_sections};
pub use resolve::ResolvedStage;
pub use resolve_arena::FanIn;
pub use resolve_command::ProgramRun;
pub use runtime::{Device, GradientCheckpointing, Retries, RuntimeSettings};
pub use schema::{layer_schema, schema};
