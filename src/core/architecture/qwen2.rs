//! Qwen2 and Qwen2.5 (arXiv:2407.10671): Llama with biases on queries, keys and values.

use super::config::{DecoderConfig, common_config};

/// Reads a Qwen2 `config.json`.
pub(super) fn config(json: &serde_json::Value) -> Result<DecoderConfig, String> {
    Ok(DecoderConfig { qkv_bias: true, o_bias: false, mlp_bias: false, ..common_config(json)? })
}
