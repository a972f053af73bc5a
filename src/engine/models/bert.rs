//! BERT (arXiv:1810.04805), the encoder behind sentence embeddings such as all-MiniLM-L6-v2.

use super::encoder_layers::{Checkpoint, LayerNorm, Linear, attention, check, score_mask};
use super::text_model::{TextLimits, TextModel};
use super::xlm_roberta;
use crate::error::StageResult;
use serde::Deserialize;
use tch::{Kind, Tensor};

/// What a BERT `config.json` says.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct BertConfig {
    /// C.
    pub(super) hidden_size: i64,
    /// Width inside the feed-forward.
    pub(super) intermediate_size: i64,
    /// Layers.
    pub(super) num_hidden_layers: i64,
    /// H.
    pub(super) num_attention_heads: i64,
    /// V.
    pub(super) vocab_size: i64,
    /// Rows of the position embedding.
    pub(super) max_position_embeddings: i64,
    /// Segment kinds.
    pub(super) type_vocab_size: i64,
    /// Added to the variance in norms.
    pub(super) layer_norm_eps: f64,
    pub(super) pad_token_id: Option<i64>,
    /// Which row of the position embedding is a token's.
    #[serde(skip)]
    pub(super) positions: Positions,
}

/// How tokens are numbered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Positions {
    /// From 0.
    #[default]
    FromZero,
    /// From the one after this padding token, which itself is not counted.
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
    segment_embedding: Tensor,   // (C,), of the first segment
    norm: LayerNorm,
    layers: Vec<Layer>,
    kind: Kind,
}

#[derive(Debug)]
struct Layer {
    query: Linear,
    key: Linear,
    value: Linear,
    attention_output: Linear,
    attention_norm: LayerNorm,
    intermediate: Linear,
    output: Linear,
    output_norm: LayerNorm,
    num_heads: i64,
}

impl Bert {
    /// Reads the weights that `config` asks for.
    ///
    /// # Errors
    /// Weights that are missing or of another shape.
    pub(super) fn load(config: BertConfig, from: &Checkpoint) -> StageResult<Self> {
        let c = &config;
        let (hidden, wide) = (c.hidden_size, c.intermediate_size);
        let norm = |name: &str| from.layer_norm(name, hidden, c.layer_norm_eps);
        let layers = (0..c.num_hidden_layers)
            .map(|i| {
                let at = |rest: &str| format!("encoder.layer.{i}.{rest}");
                Ok(Layer {
                    query: from.linear(&at("attention.self.query"), hidden, hidden)?,
                    key: from.linear(&at("attention.self.key"), hidden, hidden)?,
                    value: from.linear(&at("attention.self.value"), hidden, hidden)?,
                    attention_output: from.linear(&at("attention.output.dense"), hidden, hidden)?,
                    attention_norm: norm(&at("attention.output.LayerNorm"))?,
                    intermediate: from.linear(&at("intermediate.dense"), wide, hidden)?,
                    output: from.linear(&at("output.dense"), hidden, wide)?,
                    output_norm: norm(&at("output.LayerNorm"))?,
                    num_heads: c.num_attention_heads,
                })
            })
            .collect::<StageResult<Vec<_>>>()?;
        let embedding = |name: &str, rows: i64| from.tensor(&format!("embeddings.{name}.weight"), &[rows, hidden]);
        Ok(Self {
            word_embeddings: embedding("word_embeddings", c.vocab_size)?,
            position_embeddings: embedding("position_embeddings", c.max_position_embeddings)?,
            segment_embedding: embedding("token_type_embeddings", c.type_vocab_size)?.get(0),
            norm: norm("embeddings.LayerNorm")?,
            layers,
            kind: from.kind(),
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
        let (_, tokens) = input_ids.size2().expect("input_ids is (B, T)");
        let words = Tensor::embedding(&self.word_embeddings, input_ids, -1, false, false);
        let positions = match self.config.positions {
            Positions::FromZero => self.position_embeddings.narrow(0, 0, tokens), // (T, C)
            Positions::After { pad_token_id } => {
                let ids = xlm_roberta::position_ids(input_ids, pad_token_id);
                Tensor::embedding(&self.position_embeddings, &ids, -1, false, false) // (B, T, C)
            }
        };
        let embedded = self.norm.forward(&(words + positions + &self.segment_embedding));
        let mask = score_mask(&attention_mask.ne(0).unsqueeze(1).unsqueeze(1), self.kind); // (B, 1, 1, T)
        self.layers.iter().fold(embedded, |x, layer| layer.forward(&x, &mask))
    }
}

impl Layer {
    fn forward(&self, x: &Tensor, mask: &Tensor) -> Tensor {
        let (b, t, _) = x.size3().expect("x is (B, T, C)");
        let heads = |y: Tensor| y.view([b, t, self.num_heads, -1]); // (B, T, H, D)
        let (q, k, v) = (self.query.forward(x), self.key.forward(x), self.value.forward(x));
        let y = self.attention_output.forward(&attention(&heads(q), &heads(k), &heads(v), mask));
        let x = self.attention_norm.forward(&(x + y));
        let y = self.output.forward(&self.intermediate.forward(&x).gelu("none"));
        self.output_norm.forward(&(x + y))
    }
}
