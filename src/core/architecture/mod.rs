//! The decoder architectures: the meaning of their `config.json` and their linear layers. Recipes name those layers,
//! plans count their weights, and the engine builds them.
//!
//! # How to add an architecture of the same layers
//!
//! 1. Write `architecture/NAME.rs`, which reads its `config.json` into a [`DecoderConfig`], and add a line to
//!    `ARCHITECTURES`.
//! 2. Add a tiny model of it to `tests/golden/gen_golden.py`, run it, and name the result in `tests/engine/golden.rs`.
//!
//! An architecture with other layers also needs them in [`LINEAR_LAYERS`], in `engine/models/layers.rs` and, for
//! sampling on a CPU, in `engine/models/cpu`.

mod config;
mod linear_layers;
mod llama;
mod qwen2;
mod qwen3;
mod weight_count;

pub use config::{ConfigError, DecoderConfig, Llama3Scaling};
pub use linear_layers::{DOWN_PROJ, GATE_PROJ, K_PROJ, LINEAR_LAYERS, LinearLayer, O_PROJ, Q_PROJ, UP_PROJ, V_PROJ};
pub use weight_count::weight_count;

/// A function that reads a parsed `config.json`. Its error names the unsupported part.
type Read = fn(&serde_json::Value) -> Result<DecoderConfig, String>;

/// The architectures by their `model_type`.
const ARCHITECTURES: &[(&str, Read)] = &[("llama", llama::config), ("qwen2", qwen2::config), ("qwen3", qwen3::config)];
