//! BERT (arXiv:1810.04805), the encoder behind sentence embeddings such as all-MiniLM-L6-v2.
//!
//! In 16 bits, only matrix products and attention use the shorter format. Embeddings, norms and activations between the
//! layers stay in 32 bits. Otherwise the error of cosines of all-MiniLM-L6-v2 would be half as large again. Padding
//! takes part only in attention.

use super::encoder_layers::{Checkpoint, LayerNorm, Linear, Tokens, attention, check};
use super::text_model::{TextLimits, TextModel};
use super::xlm_roberta;
use crate::error::StageResult;
use serde::Deserialize;
use tch::{Kind, Tensor};

/// The fields of a BERT `config.json`.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct BertConfig {
    /// Hidden size, C.
    pub(super) hidden_size: i64,
    /// Width of the feed-forward layers.
    pub(super) intermediate_size: i64,
    /// Number of layers.
    pub(super) num_hidden_layers: i64,
    /// Number of attention heads, H.
    pub(super) num_attention_heads: i64,
    /// Vocabulary size, V.
    pub(super) vocab_size: i64,
    /// Number of rows of the position embedding.
    pub(super) max_position_embeddings: i64,
    /// Number of segment types.
    pub(super) type_vocab_size: i64,
    /// Value that norms add to the variance.
    pub(super) layer_norm_eps: f64,
    pub(super) pad_token_id: Option<i64>,
    /// Numbering of the rows of the position embedding.
    #[serde(skip)]
    pub(super) positions: Positions,
}

/// The numbering of tokens.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Positions {
    /// Positions count from 0.
    #[default]
    FromZero,
    /// Positions count from `pad_token_id + 1`; padding tokens are not counted.
    After { pad_token_id: i64 },
}

/// Reads a BERT `config.json`.
pub(super) fn config(json: &serde_json::Value) -> Result<BertConfig, String> {
    let config = BertConfig::deserialize(json).map_err(|e| e.to_string())?;
    check(json, "hidden_act", config.hidden_size, config.num_attention_heads)?;
    if config.type_vocab_size < 1 {
        return Err(format!("`type_vocab_size` is {}; at least one segment is needed", config.type_vocab_size));
    }
    Ok(config)
}

/// A BERT encoder with its weights.
#[derive(Debug)]
pub(super) struct Bert {
    config: BertConfig,
    word_embeddings: Tensor,     // (V, C)
    position_embeddings: Tensor, // (max positions, C)
    segment_embeddings: Tensor,  // (segments, C)
    norm: LayerNorm,
    layers: Vec<Layer>,
    kind: Kind,
}

#[derive(Debug)]
struct Layer {
    query_key_value: Linear,
    attention_output: Linear,
    attention_norm: LayerNorm,
    intermediate: Linear,
    output: Linear,
    output_norm: LayerNorm,
    num_heads: i64,
}

impl Bert {
    /// Loads the weights that `config` requires.
    ///
    /// # Errors
    /// Returns an error for weights that are missing or of another shape.
    pub(super) fn load(config: BertConfig, from: &Checkpoint) -> StageResult<Self> {
        let c = &config;
        let (hidden, wide) = (c.hidden_size, c.intermediate_size);
        let norm = |name: &str| from.layer_norm(name, hidden, c.layer_norm_eps);
        let layers = (0..c.num_hidden_layers)
            .map(|i| {
                let at = |rest: &str| format!("encoder.layer.{i}.{rest}");
                let of_attention = |part: &str| from.linear(&at(&format!("attention.self.{part}")), hidden, hidden);
                Ok(Layer {
                    query_key_value: Linear::side_by_side(&[
                        of_attention("query")?,
                        of_attention("key")?,
                        of_attention("value")?,
                    ]),
                    attention_output: from.linear(&at("attention.output.dense"), hidden, hidden)?,
                    attention_norm: norm(&at("attention.output.LayerNorm"))?,
                    intermediate: from.linear(&at("intermediate.dense"), wide, hidden)?,
                    output: from.linear(&at("output.dense"), hidden, wide)?,
                    output_norm: norm(&at("output.LayerNorm"))?,
                    num_heads: c.num_attention_heads,
                })
            })
            .collect::<StageResult<Vec<_>>>()?;
        let embedding =
            |name: &str, rows: i64| from.tensor_in_32_bits(&format!("embeddings.{name}.weight"), &[rows, hidden]);
        Ok(Self {
            word_embeddings: embedding("word_embeddings", c.vocab_size)?,
            position_embeddings: embedding("position_embeddings", c.max_position_embeddings)?,
            segment_embeddings: embedding("token_type_embeddings", c.type_vocab_size)?,
            norm: norm("embeddings.LayerNorm")?,
            layers,
            kind: from.activations(),
            config,
        })
    }
}

impl TextModel for Bert {
    fn limits(&self) -> TextLimits {
        let (pad_token_id, unused) = match self.config.positions {
            Positions::FromZero => (self.config.pad_token_id.unwrap_or(0), 0),
            Positions::After { pad_token_id } => (pad_token_id, pad_token_id + 1),
        };
        let max_tokens = self.config.max_position_embeddings - unused;
        TextLimits { vocab_size: self.config.vocab_size, max_tokens, pad_token_id, causal: false }
    }

    fn forward(&self, input_ids: &Tensor, attention_mask: &Tensor) -> Tensor {
        self.hidden(input_ids, None, attention_mask)
    }

    fn forward_segments(&self, input_ids: &Tensor, segments: &Tensor, attention_mask: &Tensor) -> Tensor {
        // RoBERTa has one segment
        let segments = (self.config.type_vocab_size > 1).then_some(segments);
        self.hidden(input_ids, segments, attention_mask)
    }
}

impl Bert {
    /// Computes the hidden states of the last layer. Without `segments`, all tokens are in the first.
    /// // (B, T), (B, T), (B, T) -> (B, T, C)
    fn hidden(&self, input_ids: &Tensor, segments: Option<&Tensor>, attention_mask: &Tensor) -> Tensor {
        let tokens = Tokens::new(attention_mask, self.kind);
        let positions = match self.config.positions {
            Positions::FromZero => {
                let width = input_ids.size()[1];
                Tensor::arange(width, (Kind::Int64, input_ids.device())).expand_as(input_ids)
            }
            Positions::After { pad_token_id } => xlm_roberta::position_ids(input_ids, pad_token_id),
        }; // (B, T)
        let embedded = |table: &Tensor, ids: &Tensor| Tensor::embedding(table, &tokens.pack(ids), -1, false, false);
        let x = embedded(&self.word_embeddings, input_ids) + embedded(&self.position_embeddings, &positions);
        let segment = match segments {
            Some(segments) => embedded(&self.segment_embeddings, segments), // (N, C)
            None => self.segment_embeddings.get(0),                         // (C,)
        };
        let x = self.norm.forward(&(x + segment)); // (N, C)
        tokens.pad(&self.layers.iter().fold(x, |x, layer| layer.forward(&x, &tokens)))
    }
}

impl Layer {
    /// Applies the layer. // (N, C) -> (N, C)
    fn forward(&self, x: &Tensor, tokens: &Tokens) -> Tensor {
        let qkv = tokens.pad(&self.query_key_value.forward(x)); // (B, T, 3 * C)
        let (b, t, _) = qkv.size3().expect("a padded batch is (B, T, 3 * C)");
        let qkv = qkv.view([b, t, 3, self.num_heads, -1]);
        let heads = |i: i64| qkv.select(2, i); // (B, T, H, D)
        let y = tokens.pack(&attention(&heads(0), &heads(1), &heads(2), tokens.mask()));
        let x = self.attention_norm.forward(&(x + self.attention_output.forward(&y)));
        let y = self.output.forward(&self.intermediate.forward(&x).gelu_("none"));
        self.output_norm.forward(&(x + y))
    }
}
