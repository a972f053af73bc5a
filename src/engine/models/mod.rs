//! Models, built from Hugging Face directories: names of fields and weights are theirs.
//!
//! One file an architecture (`llama`, `qwen2`, `qwen3`), which says what its `config.json` means; the layers they
//! share are in `layers`, the stack of them in [`decoder`].
//!
//! Shapes: B rows, T tokens, C hidden size, H heads, K key-value heads, D head size, V vocabulary.

pub mod bert;
pub mod decoder;
mod kv_cache;
mod layers;
mod llama;
pub mod lora;
mod packed;
mod pass;
mod qwen2;
mod qwen3;
mod rotary;

pub use decoder::{Decoder, DecoderConfig};
pub use kv_cache::KvCache;
pub use packed::Packed;
pub use pass::{PassOptions, TrainingPass};
