//! Texts to unit vectors: a sentence-transformers directory, as its own files say it is to be used.
//!
//! Tokens are cut at the model's limit, run through the model in batches of like length, pooled to one vector a text, and
//! scaled to length 1. The last holds whether or not the directory names a `Normalize` module: the vectors serve cosines,
//! to which their lengths make no difference. Directories that would do more (a `Dense` layer, say) are refused.
//!
//! Everything is read from files that the directory's digest covers.

mod batches;
mod encode;
mod pooling;
mod settings;

pub use encode::*;
