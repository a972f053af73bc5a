//! Reading of `config.json`, with the errors of a stage.

use crate::error::{StageError, StageResult};
use orchestrate_core::architecture::{ConfigError, DecoderConfig};
use serde_json::json;
use std::path::Path;

/// The sizes of a Llama that has no checkpoint, for measurements and checks.
#[derive(Clone, Copy, Debug)]
pub struct LlamaSizes {
    /// Size of hidden states, C.
    pub hidden_size: i64,
    /// Size of the feed-forward layers.
    pub intermediate_size: i64,
    /// Number of layers.
    pub num_hidden_layers: i64,
    /// Number of query heads, H.
    pub num_attention_heads: i64,
    /// Number of key-value heads, K.
    pub num_key_value_heads: i64,
    /// Number of tokens, V.
    pub vocab_size: i64,
    /// Largest number of positions.
    pub max_position_embeddings: i64,
    /// Whether the head is the embedding.
    pub tie_word_embeddings: bool,
}

impl LlamaSizes {
    /// Returns the configuration of a Llama of these sizes.
    ///
    /// # Panics
    /// Panics if the sizes do not fit each other.
    pub fn config(self) -> DecoderConfig {
        let json = json!({
            "model_type": "llama", "hidden_size": self.hidden_size, "intermediate_size": self.intermediate_size,
            "num_hidden_layers": self.num_hidden_layers, "num_attention_heads": self.num_attention_heads,
            "num_key_value_heads": self.num_key_value_heads, "vocab_size": self.vocab_size,
            "max_position_embeddings": self.max_position_embeddings, "rms_norm_eps": 1e-5, "rope_theta": 500_000.0,
            "tie_word_embeddings": self.tie_word_embeddings,
        });
        DecoderConfig::of(&json).expect("the sizes fit each other")
    }
}

/// Reads the `config.json` of the Hugging Face directory `dir`.
///
/// # Errors
/// See [`DecoderConfig::read`].
pub fn load_config(dir: &Path) -> StageResult<DecoderConfig> {
    DecoderConfig::read(dir).map_err(|error| match error {
        ConfigError::Io { path, source } => StageError::io(&path, &source),
        ConfigError::Unsupported(message) => StageError::input(message),
    })
}
