//! Llama (arXiv:2302.13971, arXiv:2407.21783) and models with the same layout, e.g. SmolLM2.

use super::config::{DecoderConfig, common_config};

/// Reads a Llama `config.json`.
pub(super) fn config(json: &serde_json::Value) -> Result<DecoderConfig, String> {
    common_config(json)
}
