//! The fields of a decoder's `config.json` that the architectures share. Unsupported values are rejected.

use super::ARCHITECTURES;
use serde::Deserialize;
use std::io;
use std::path::{Path, PathBuf};

/// The scaling of inverse frequencies for contexts longer than those of pre-training.
#[derive(Clone, Debug, PartialEq, Deserialize)]
pub struct Llama3Scaling {
    /// The divisor of slow frequencies.
    pub factor: f64,
    /// The factor that defines slow frequencies, which have wavelengths above
    /// `original_max_position_embeddings / low_freq_factor`.
    pub low_freq_factor: f64,
    /// The factor that defines unscaled frequencies, which have wavelengths below
    /// `original_max_position_embeddings / high_freq_factor`.
    pub high_freq_factor: f64,
    /// The context length of pre-training.
    pub original_max_position_embeddings: f64,
}

/// The largest accepted size. A file with a larger one is damaged or malicious.
const LARGEST_SIZE: i64 = 1 << 24;
/// The largest accepted table of rotations, in numbers: a million positions of heads of size 256.
const LARGEST_ROTATION: i64 = 1 << 28;

/// The configuration of a decoder from its `config.json`, as its architecture's module reads it.
#[derive(Clone, Debug, PartialEq)]
#[expect(clippy::struct_excessive_bools, reason = "each is an independent field of config.json")]
pub struct DecoderConfig {
    /// The width C of the hidden states.
    pub hidden_size: i64,
    /// The width inside the feed-forward block.
    pub intermediate_size: i64,
    /// The number of layers.
    pub num_hidden_layers: usize,
    /// The number H of query heads.
    pub num_attention_heads: i64,
    /// The number K of key and value heads.
    pub num_key_value_heads: i64,
    /// The size D of a head.
    pub head_dim: i64,
    /// The size V of the vocabulary.
    pub vocab_size: i64,
    /// The maximum sequence length.
    pub max_position_embeddings: i64,
    /// The constant added to the mean square in RMS norms.
    pub rms_norm_eps: f64,
    /// The base of the rotary frequencies.
    pub rope_theta: f64,
    /// The scaling of the rotary frequencies.
    pub rope_scaling: Option<Llama3Scaling>,
    /// Whether the head shares the embedding's weights.
    pub tie_word_embeddings: bool,
    /// Whether `q_proj`, `k_proj` and `v_proj` have biases.
    pub qkv_bias: bool,
    /// Whether `o_proj` has a bias.
    pub o_bias: bool,
    /// Whether the feed-forward block has biases.
    pub mlp_bias: bool,
    /// Whether queries and keys are normalized per head.
    pub qk_norm: bool,
}

/// The reason why a `config.json` cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("cannot read `{}`", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// The I/O error.
        source: io::Error,
    },
    /// The file is not JSON, or contains an unsupported value.
    #[error("{0}")]
    Unsupported(String),
}

impl DecoderConfig {
    /// Reads `config.json` of the Hugging Face directory `dir`.
    ///
    /// # Errors
    /// A missing or malformed file, an unsupported architecture, or an unsupported field, by name.
    pub fn read(dir: &Path) -> Result<Self, ConfigError> {
        let path = dir.join("config.json");
        let text = match fs_err::read_to_string(&path) {
            Ok(text) => text,
            Err(source) => return Err(ConfigError::Io { path, source }),
        };
        let json: serde_json::Value = serde_json::from_str(&text)
            .map_err(|e| ConfigError::Unsupported(format!("`{}` is not JSON: {e}", path.display())))?;
        Self::of(&json).map_err(|e| ConfigError::Unsupported(format!("`{}`: {e}", path.display())))
    }

    /// Returns the total width of all query heads.
    pub fn query_size(&self) -> i64 {
        self.num_attention_heads * self.head_dim
    }

    /// Returns the total width of all key heads, which equals that of all value heads.
    pub fn key_value_size(&self) -> i64 {
        self.num_key_value_heads * self.head_dim
    }

    /// Returns the configuration in a parsed `config.json`.
    ///
    /// # Errors
    /// An unsupported architecture or an unsupported field, by name.
    pub fn of(json: &serde_json::Value) -> Result<Self, String> {
        let model_type = json.get("model_type").and_then(|v| v.as_str()).unwrap_or("absent");
        let known = ARCHITECTURES.iter().find(|(name, _)| *name == model_type);
        let Some((_, read)) = known else {
            let names: Vec<&str> = ARCHITECTURES.iter().map(|(name, _)| *name).collect();
            return Err(format!("model_type `{model_type}` is not supported; supported are {}", names.join(", ")));
        };
        read(json)
    }
}

/// Reads the fields that Llama, Qwen2 and Qwen3 share, and rejects unsupported values.
pub(super) fn common_config(json: &serde_json::Value) -> Result<DecoderConfig, String> {
    let size = |name: &str| match json.get(name).filter(|value| !value.is_null()) {
        None => Ok(None),
        Some(value) => match value.as_i64().filter(|size| (1..=LARGEST_SIZE).contains(size)) {
            Some(size) => Ok(Some(size)),
            None => Err(format!("`{name}` is {value}, not a whole number from 1 to {LARGEST_SIZE}")),
        },
    };
    let needed = |name: &str| size(name)?.ok_or_else(|| format!("`{name}` is missing"));
    let positive = |name: &str, value: Option<&serde_json::Value>, default: f64| match value {
        None => Ok(default),
        Some(value) => {
            let number = value.as_f64().filter(|number| *number > 0.0);
            number.ok_or_else(|| format!("`{name}` is {value}, not a positive number"))
        }
    };
    let flag = |name: &str| json.get(name).and_then(serde_json::Value::as_bool).unwrap_or(false);
    let hidden_act = json.get("hidden_act").and_then(|v| v.as_str()).unwrap_or("silu");
    if hidden_act != "silu" {
        return Err(format!("`hidden_act` is `{hidden_act}`; supported is `silu`"));
    }
    if flag("use_sliding_window") {
        return Err("`use_sliding_window` is true; sliding-window attention is not supported".to_owned());
    }
    if json.get("quantization_config").is_some_and(|v| !v.is_null()) {
        return Err("`quantization_config` is present; quantized weights are not supported".to_owned());
    }
    let hidden_size = needed("hidden_size")?;
    let num_attention_heads = needed("num_attention_heads")?;
    let num_key_value_heads = size("num_key_value_heads")?.unwrap_or(num_attention_heads);
    if num_attention_heads % num_key_value_heads != 0 {
        return Err(format!(
            "`num_key_value_heads` is {num_key_value_heads}, which does not divide the {num_attention_heads} attention heads"
        ));
    }
    let head_dim = size("head_dim")?.unwrap_or(hidden_size / num_attention_heads);
    if head_dim == 0 || head_dim % 2 != 0 {
        return Err(format!("`head_dim` is {head_dim}, and rotary positions turn pairs of numbers"));
    }
    let max_position_embeddings = needed("max_position_embeddings")?;
    if max_position_embeddings * head_dim > LARGEST_ROTATION {
        return Err(format!("`max_position_embeddings` is {max_position_embeddings}, more than can be prepared for"));
    }
    // transformers 5 has both in `rope_parameters`; earlier versions have `rope_theta` and `rope_scaling`.
    let rope = ["rope_parameters", "rope_scaling"].into_iter().find_map(|n| json.get(n).filter(|v| v.is_object()));
    let rope_theta = [json.get("rope_theta"), rope.and_then(|r| r.get("rope_theta"))].into_iter().flatten().next();
    Ok(DecoderConfig {
        hidden_size,
        intermediate_size: needed("intermediate_size")?,
        num_hidden_layers: usize::try_from(needed("num_hidden_layers")?).map_err(|e| e.to_string())?,
        num_attention_heads,
        num_key_value_heads,
        head_dim,
        vocab_size: needed("vocab_size")?,
        max_position_embeddings,
        rms_norm_eps: positive("rms_norm_eps", json.get("rms_norm_eps"), 1e-6)?,
        rope_theta: positive("rope_theta", rope_theta, 10_000.0)?,
        rope_scaling: rope.map(rope_scaling).transpose()?.flatten(),
        tie_word_embeddings: flag("tie_word_embeddings"),
        qkv_bias: flag("attention_bias"),
        o_bias: flag("attention_bias"),
        mlp_bias: flag("mlp_bias"),
        qk_norm: false,
    })
}

fn rope_scaling(rope: &serde_json::Value) -> Result<Option<Llama3Scaling>, String> {
    let kind = ["rope_type", "type"].into_iter().find_map(|n| rope.get(n)).and_then(|v| v.as_str());
    match kind.unwrap_or("default") {
        "default" => Ok(None),
        "llama3" => serde_json::from_value(rope.clone()).map(Some).map_err(|e| format!("`rope_scaling`: {e}")),
        other => Err(format!("rope type `{other}` is not supported; supported are default and llama3")),
    }
}
