//! Models, loaded from Hugging Face directories. Fields and weights have Hugging Face's names.
//!
//! `orchestrate_core::architecture` interprets a decoder's `config.json`. All decoders share the layers in `layers`,
//! which [`decoder`] stacks. Each encoder architecture has its own file (`bert`, `xlm_roberta`, `modernbert`,
//! `causal_text`) and implements [`TextModel`]. `encoder_layers` has layers that encoders share.
//!
//! Shapes: B rows, T tokens, C hidden size, H heads, K key-value heads, D head size, V vocabulary.

mod bert;
mod causal_text;
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
mod rotary;
mod sequence_classifier;
mod sequences;
mod shared_prefix;
mod text_model;
mod xlm_roberta;

pub use config::{LlamaSizes, load_config};
pub use decoder::Decoder;
pub use decoding::{Decoding, NextLogits, Prompt};
pub use orchestrate_core::architecture::DecoderConfig;
pub use packed::{Group, Packed};
pub use pass::{PassOptions, TrainingPass};
pub use sequence_classifier::SequenceClassifier;
pub use text_model::{TextLimits, TextModel, load_text_model};
