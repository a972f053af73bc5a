//! BERT (arXiv:1810.04805), the encoder behind sentence embeddings such as all-MiniLM-L6-v2.

use crate::error::{StageError, StageResult};
use crate::weights::Weights;
use serde::Deserialize;
use std::path::Path;
use tch::{Device, Kind, Tensor};

/// What a BERT `config.json` says.
#[derive(Clone, Debug, Deserialize)]
pub struct BertConfig {
    /// Architecture; `bert`.
    pub model_type: String,
    /// C.
    pub hidden_size: i64,
    /// Width inside the feed-forward.
    pub intermediate_size: i64,
    /// Layers.
    pub num_hidden_layers: i64,
    /// H.
    pub num_attention_heads: i64,
    /// V.
    pub vocab_size: i64,
    /// Longest sequence.
    pub max_position_embeddings: i64,
    /// Segment kinds.
    pub type_vocab_size: i64,
    /// Added to the variance in norms.
    pub layer_norm_eps: f64,
    /// Activation of the feed-forward; `gelu`, the exact one.
    pub hidden_act: String,
}

/// A BERT encoder with its weights.
#[derive(Debug)]
pub struct Bert {
    /// What its `config.json` says.
    pub config: BertConfig,
    word_embeddings: Tensor,     // (V, C)
    position_embeddings: Tensor, // (max positions, C)
    segment_embedding: Tensor,   // (C,), of the first segment
    norm: LayerNorm,
    layers: Vec<Layer>,
    kind: Kind,
}

#[derive(Debug)]
struct LayerNorm {
    weight: Tensor,
    bias: Tensor,
    eps: f64,
}

impl LayerNorm {
    fn forward(&self, x: &Tensor) -> Tensor {
        x.layer_norm(self.weight.size(), Some(&self.weight), Some(&self.bias), self.eps, false)
    }
}

#[derive(Debug)]
struct Linear {
    weight: Tensor, // (out, in)
    bias: Tensor,   // (out,)
}

impl Linear {
    fn forward(&self, x: &Tensor) -> Tensor {
        x.linear(&self.weight, Some(&self.bias))
    }
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
    /// Reads an encoder from the Hugging Face directory `dir`.
    ///
    /// # Errors
    /// A missing or malformed file, another architecture, weights that are missing or of another shape.
    pub fn load(dir: &Path, kind: Kind, device: Device) -> StageResult<Self> {
        let path = dir.join("config.json");
        let text = fs_err::read_to_string(&path).map_err(|e| StageError::io(&path, &e))?;
        let at = |what: String| StageError::input(format!("`{}`: {what}", path.display()));
        let json: serde_json::Value = serde_json::from_str(&text).map_err(|e| at(format!("not JSON: {e}")))?;
        let model_type = json["model_type"].as_str().unwrap_or("absent");
        if model_type != "bert" {
            return Err(at(format!("encoder model_type `{model_type}` is not supported; supported is bert")));
        }
        let config: BertConfig = serde_json::from_value(json).map_err(|e| at(e.to_string()))?;
        if config.hidden_act != "gelu" {
            return Err(at(format!("`hidden_act` is `{}`; supported is `gelu`", config.hidden_act)));
        }
        let weights = Weights::open(dir)?;
        // a checkpoint of the bare encoder has no prefix, one of a model with a head has
        let prefix = if weights.names().any(|name| name.starts_with("bert.embeddings.")) { "bert." } else { "" };
        let get = |name: &str, shape: &[i64]| weights.get_shaped(&format!("{prefix}{name}"), shape, kind, device);
        let c = &config;
        let linear = |name: String, out: i64, input: i64| -> StageResult<Linear> {
            Ok(Linear {
                weight: get(&format!("{name}.weight"), &[out, input])?,
                bias: get(&format!("{name}.bias"), &[out])?,
            })
        };
        let norm = |name: String| -> StageResult<LayerNorm> {
            let part = |part: &str| get(&format!("{name}.{part}"), &[c.hidden_size]);
            Ok(LayerNorm { weight: part("weight")?, bias: part("bias")?, eps: c.layer_norm_eps })
        };
        let layers = (0..c.num_hidden_layers)
            .map(|i| {
                let at = |rest: &str| format!("encoder.layer.{i}.{rest}");
                Ok(Layer {
                    query: linear(at("attention.self.query"), c.hidden_size, c.hidden_size)?,
                    key: linear(at("attention.self.key"), c.hidden_size, c.hidden_size)?,
                    value: linear(at("attention.self.value"), c.hidden_size, c.hidden_size)?,
                    attention_output: linear(at("attention.output.dense"), c.hidden_size, c.hidden_size)?,
                    attention_norm: norm(at("attention.output.LayerNorm"))?,
                    intermediate: linear(at("intermediate.dense"), c.intermediate_size, c.hidden_size)?,
                    output: linear(at("output.dense"), c.hidden_size, c.intermediate_size)?,
                    output_norm: norm(at("output.LayerNorm"))?,
                    num_heads: c.num_attention_heads,
                })
            })
            .collect::<StageResult<Vec<_>>>()?;
        Ok(Self {
            word_embeddings: get("embeddings.word_embeddings.weight", &[c.vocab_size, c.hidden_size])?,
            position_embeddings: get(
                "embeddings.position_embeddings.weight",
                &[c.max_position_embeddings, c.hidden_size],
            )?,
            segment_embedding: get("embeddings.token_type_embeddings.weight", &[c.type_vocab_size, c.hidden_size])?
                .get(0),
            norm: norm("embeddings.LayerNorm".to_owned())?,
            layers,
            kind,
            config,
        })
    }

    /// Hidden states of the last layer. // (B, T), (B, T) of 1 and 0 -> (B, T, C)
    pub fn forward(&self, input_ids: &Tensor, attention_mask: &Tensor) -> Tensor {
        let (_, tokens) = input_ids.size2().expect("input_ids is (B, T)");
        let words = Tensor::embedding(&self.word_embeddings, input_ids, -1, false, false);
        let embedded = words + self.position_embeddings.narrow(0, 0, tokens) + &self.segment_embedding;
        let hidden = attention_mask.eq(0).unsqueeze(1).unsqueeze(1); // (B, 1, 1, T)
        let mask = hidden.zeros_like().to_kind(self.kind).masked_fill(&hidden, f64::NEG_INFINITY);
        self.layers.iter().fold(self.norm.forward(&embedded), |x, layer| layer.forward(&x, &mask))
    }
}

impl Layer {
    fn forward(&self, x: &Tensor, mask: &Tensor) -> Tensor {
        let (b, t, c) = x.size3().expect("x is (B, T, C)");
        let heads = |y: Tensor| y.view([b, t, self.num_heads, c / self.num_heads]).transpose(1, 2); // (B, H, T, D)
        let (q, k, v) = (self.query.forward(x), self.key.forward(x), self.value.forward(x));
        let y =
            Tensor::scaled_dot_product_attention(&heads(q), &heads(k), &heads(v), Some(mask), 0.0, false, None, false);
        let y = self.attention_output.forward(&y.transpose(1, 2).reshape([b, t, c]));
        let x = self.attention_norm.forward(&(x + y));
        let y = self.output.forward(&self.intermediate.forward(&x).gelu("none"));
        self.output_norm.forward(&(x + y))
    }
}
