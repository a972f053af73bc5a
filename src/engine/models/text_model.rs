//! Text models, which compute hidden states for sentence embeddings.

use super::bert::Bert;
use super::causal_text::CausalText;
use super::encoder_layers::Checkpoint;
use super::modernbert::ModernBert;
use super::{modernbert, xlm_roberta};
use crate::error::{StageError, StageResult};
use serde_json::Value;
use std::path::Path;
use tch::{Device, Kind, Tensor};

/// The limits of a text model's input, and properties that pooling depends on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TextLimits {
    /// Vocabulary size, V.
    pub vocab_size: i64,
    /// Maximum number of tokens of a sequence.
    pub max_tokens: i64,
    /// Token at padded positions.
    pub pad_token_id: i64,
    /// Whether a token attends only to those before it. If so, only the last token depends on the whole text.
    pub causal: bool,
}

/// A model that computes a vector for each token of a text.
pub trait TextModel: std::fmt::Debug + Send {
    /// Returns the limits of the model's input.
    fn limits(&self) -> TextLimits;

    /// Computes the hidden states of the last layer. Each row must have at least one token. Hidden states at padding
    /// are undefined. The mask has 1 for tokens and 0 for padding. // (B, T), (B, T) -> (B, T, C)
    fn forward(&self, input_ids: &Tensor, attention_mask: &Tensor) -> Tensor;

    /// Computes hidden states like [`Self::forward`], of texts whose tokens are in these segments. Only BERT tells
    /// segments apart. // (B, T), (B, T), (B, T) -> (B, T, C)
    fn forward_segments(&self, input_ids: &Tensor, _segments: &Tensor, attention_mask: &Tensor) -> Tensor {
        self.forward(input_ids, attention_mask)
    }
}

/// Loads the encoder in the Hugging Face directory `dir`. The architecture is selected by `model_type`.
///
/// # Errors
/// Returns an error for:
///
/// - a missing or malformed file
/// - an unsupported architecture or field, by name
/// - weights that are missing or of another shape
pub fn load_text_model(dir: &Path, kind: Kind, device: Device) -> StageResult<Box<dyn TextModel>> {
    load(dir, kind, device, &["qwen3"])
}

/// Loads the text model in the Hugging Face directory `dir`, which may be any decoder. Its head is left out.
///
/// # Errors
/// See [`load_text_model`].
pub(super) fn load_body(dir: &Path, kind: Kind, device: Device) -> StageResult<Box<dyn TextModel>> {
    load(dir, kind, device, &["llama", "qwen2", "qwen3"])
}

fn load(dir: &Path, kind: Kind, device: Device, decoders: &[&str]) -> StageResult<Box<dyn TextModel>> {
    let path = dir.join("config.json");
    let text = fs_err::read_to_string(&path).map_err(|e| StageError::io(&path, &e))?;
    let at = |what: String| StageError::input(format!("`{}`: {what}", path.display()));
    let json: Value = serde_json::from_str(&text).map_err(|e| at(format!("not JSON: {e}")))?;
    refuse(&json).map_err(at)?;
    let open = |prefix| Checkpoint::open(dir, prefix, kind, device);
    let model: Box<dyn TextModel> = match json["model_type"].as_str().unwrap_or("absent") {
        "bert" => Box::new(Bert::load(super::bert::config(&json).map_err(at)?, &open("bert.")?)?),
        "xlm-roberta" | "roberta" => Box::new(Bert::load(xlm_roberta::config(&json).map_err(at)?, &open("roberta.")?)?),
        "modernbert" => Box::new(ModernBert::load(modernbert::config(&json).map_err(at)?, &open("model.")?)?),
        decoder if decoders.contains(&decoder) => Box::new(CausalText::load(dir, &json, kind, device)?),
        other => {
            return Err(at(format!("encoder model_type `{other}` is not supported"))
                .hinted(format!("supported are bert, xlm-roberta, roberta, modernbert, {}", decoders.join(", "))));
        }
    };
    let TextLimits { vocab_size, max_tokens, pad_token_id, .. } = model.limits();
    if max_tokens < 1 || !(0..vocab_size).contains(&pad_token_id) {
        return Err(at(format!(
            "`max_position_embeddings` ({max_tokens} usable) or `pad_token_id` {pad_token_id} is out of range"
        )));
    }
    Ok(model)
}

/// Rejects settings that change any of these architectures and are implemented for none.
fn refuse(json: &Value) -> Result<(), String> {
    let expected = [
        ("position_embedding_type", Value::from("absolute")),
        ("is_decoder", false.into()),
        ("add_cross_attention", false.into()),
        ("quantization_config", Value::Null),
    ];
    for (name, value) in expected {
        if !json[name].is_null() && json[name] != value {
            return Err(format!("`{name}` is {}, which is not supported", json[name]));
        }
    }
    if !json["auto_map"]["AutoModel"].is_null() {
        return Err("`auto_map` says that the model brings code of its own, which is not run".to_owned());
    }
    Ok(())
}
