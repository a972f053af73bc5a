//! Recipes: from what a user writes to what each stage does, with every default written out.
//!
//! ```text
//! files, environment, --set                                 text::{located, layers}   texts with the places of values
//!   -> one merged table                                     text::layers              figment
//!   -> checked against the schema                           tables::{schema, validate} unknown keys, types, ranges
//!   -> variants x zip x matrix                              sweep                     each checked again
//!   -> variants over the built-in defaults                  tables::defaults
//!   -> the tables of tables::{recipe, stage, arena} and rewards::table
//!   -> spec::StageSpec, one per stage                       resolve                   references, files, digests
//!   -> components that evaluations measure                  resolve::measured
//! ```
//!
//! All problems are collected and reported at once ([`RecipeError`]), each at the text that set the value. No key is
//! ignored. A key is either in the schema and reaches a spec or [`RuntimeSettings`], or it is an error. A value that is
//! overridden everywhere is an error too.
//!
//! Paths in recipes are relative to the project directory; only `extends` is relative to the file that contains it.
//! [`Inputs`] provides content digests and the files of the Hugging Face hub. Apart from them, this module reads recipe
//! files and checks that the files they name exist.

mod load;
mod resolve;
mod runtime;
pub mod spec;
mod sweep;
pub mod tables;
mod text;

pub use crate::cpu::Bfloat16Products;
pub use crate::rewards::{HttpEndpoint, JudgeServer};
pub use load::{LoadedRecipe, load};
pub use resolve::arena::FanIn;
pub use resolve::command::ProgramRun;
pub use resolve::command_words::CommandWords;
pub use resolve::inputs::{HubFiles, HubRefusal, Inputs};
pub use resolve::measured::{Training, training_of};
pub use resolve::resolved::{NamedData, OverlapLimit, ResolvedStage, ResolvedVariant};
pub use runtime::settings::{Device, GradientCheckpointing, Retries, RuntimeSettings};
pub use sweep::pattern::VariantPattern;
pub use tables::compare::CompareSettings;
pub use tables::reference::{KeySection, RecipeKey, key_sections};
pub use tables::schema::{layer_schema, schema};
pub use text::diagnostic::{Place, Problem, RecipeError, Source};
pub use text::hub_reference::{HUB_SCHEME, HubReference, HubRepoKind, is_commit, is_path};
pub use text::layers::{Overrides, PROGRAM_VARIABLES};
