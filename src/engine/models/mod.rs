//! Models, built from Hugging Face directories: names of fields and weights are theirs.
//!
//! What a decoder's `config.json` means is in `orchestrate_core::architecture`; the layers that all decoders share are in `layers`,
//! the stack of them in [`decoder`]. Encoders are one file an architecture (`bert`, `xlm_roberta`, `modernbert`,
//! `qwen3_embedding`), behind [`TextModel`]; their layers are in `encoder_layers`.
//!
//! Shapes: B rows, T tokens, C hidden size, H heads, K key-value heads, D head size, V vocabulary.

mod bert;
mod config;
mod cpu;
pub mod decoder;
mod decoding;
mod encoder_layers;
mod kv_cache;
mod layers;
pub mod lora;
mod modernbert;
mod packed;
mod pass;
mod qwen3_embedding;
mod rotary;
mod shared_prefix;
mod text_model;
mod xlm_roberta;

pub use config::load_config;
pub use decoder::Decoder;
pub use decoding::{Decoding, Prompt};
pub use orchestrate_core::architecture::DecoderConfig;
pub use packed::{Group, Packed};
pub use pass::{PassOptions, TrainingPass};
pub use text_model::{TextLimits, TextModel, load_text_model};
