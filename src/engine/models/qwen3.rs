//! Qwen3 (arXiv:2505.09388): queries and keys normed per head, a head size of its own.

use super::decoder::{DecoderConfig, common_config};

/// Reads a Qwen3 `config.json`.
pub(super) fn config(json: &serde_json::Value) -> Result<DecoderConfig, String> {
    let head_dim = json.get("head_dim").and_then(serde_json::Value::as_i64).unwrap_or(128);
    Ok(DecoderConfig { head_dim, qk_norm: true, mlp_bias: false, ..common_config(json)? })
}
