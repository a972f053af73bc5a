//! Text encoders: unit vectors of texts, from a sentence-transformers directory and its own settings.
//!
//! Tokens are truncated at the model's limit. The model runs on batches of texts of similar length, and the token
//! vectors of a text are pooled to one vector.
//!
//! Vectors are scaled to length 1 even if the directory names no `Normalize` module. They are used for cosines, which
//! do not depend on length. Directories with other modules, such as a `Dense` layer, are rejected.
//!
//! All settings are read from files that the directory's digest covers.

mod batches;
mod encode;
mod pooling;
mod settings;

pub(crate) use batches::batches;
pub use encode::*;
