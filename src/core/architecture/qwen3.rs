//! Qwen3 (arXiv:2505.09388): queries and keys are normalized per head, and the head size is independent of the width.

use super::config::{DecoderConfig, common_config};

/// Reads a Qwen3 `config.json`.
pub(super) fn config(json: &serde_json::Value) -> Result<DecoderConfig, String> {
    let common = common_config(json)?;
    let head_dim = if json.get("head_dim").is_some() { common.head_dim } else { 128 };
    Ok(DecoderConfig { head_dim, qk_norm: true, mlp_bias: false, ..common })
}
