//! Layers of the encoders. Activations are padded batches, (B, T, C), or only their tokens, (N, C).

use crate::error::StageResult;
use crate::products;
use crate::weights::Weights;
use serde_json::Value;
use std::path::Path;
use tch::{Device, Kind, Tensor};

/// The weights from which layers are loaded.
pub(super) struct Checkpoint {
    weights: Weights,
    prefix: &'static str,
    kind: Kind,
    /// Number format of the hidden states.
    activations: Kind,
    device: Device,
}

impl Checkpoint {
    /// Opens the weights in `dir`. A bare encoder has plain names; in a model with a head, the names have a `prefix`.
    pub(super) fn open(dir: &Path, prefix: &'static str, kind: Kind, device: Device) -> StageResult<Self> {
        let weights = Weights::open(dir)?;
        let prefix = if weights.names().any(|name| name.starts_with(prefix)) { prefix } else { "" };
        Ok(Self { weights, prefix, kind, activations: products::activations(kind, device), device })
    }

    pub(super) fn tensor(&self, name: &str, shape: &[i64]) -> StageResult<Tensor> {
        self.weights.get_shaped(&format!("{}{name}", self.prefix), shape, self.kind, self.device)
    }

    /// Reads a tensor that stays in 32 bits, for any format of the model.
    pub(super) fn tensor_in_32_bits(&self, name: &str, shape: &[i64]) -> StageResult<Tensor> {
        self.weights.get_shaped(&format!("{}{name}", self.prefix), shape, Kind::Float, self.device)
    }

    pub(super) fn linear(&self, name: &str, out: i64, input: i64) -> StageResult<Linear> {
        let bias = Some(self.tensor(&format!("{name}.bias"), &[out])?);
        Ok(Linear { bias, ..self.linear_without_bias(name, out, input)? })
    }

    pub(super) fn linear_without_bias(&self, name: &str, out: i64, input: i64) -> StageResult<Linear> {
        let weight = self.tensor(&format!("{name}.weight"), &[out, input])?;
        Ok(Linear { weight, bias: None, activations: self.activations })
    }

    /// Reads a norm that is computed in 32 bits.
    pub(super) fn layer_norm(&self, name: &str, size: i64, eps: f64) -> StageResult<LayerNorm> {
        // the first BERT checkpoints have the names of the TensorFlow originals
        let old = self.weights.names().any(|n| n.strip_prefix(self.prefix) == Some(&format!("{name}.gamma")));
        let (weight, bias) = if old { ("gamma", "beta") } else { ("weight", "bias") };
        let part = |part: &str| self.tensor_in_32_bits(&format!("{name}.{part}"), &[size]);
        Ok(LayerNorm { weight: part(weight)?, bias: Some(part(bias)?), eps })
    }

    pub(super) fn layer_norm_without_bias(&self, name: &str, size: i64, eps: f64) -> StageResult<LayerNorm> {
        Ok(LayerNorm { weight: self.tensor(&format!("{name}.weight"), &[size])?, bias: None, eps })
    }

    pub(super) fn activations(&self) -> Kind {
        self.activations
    }

    pub(super) fn device(&self) -> Device {
        self.device
    }
}

/// A linear layer `x W^T + b`.
#[derive(Debug)]
pub(super) struct Linear {
    weight: Tensor,       // (out, in)
    bias: Option<Tensor>, // (out,)
    activations: Kind,
}

impl Linear {
    /// Joins layers with the same input into one, with their outputs side by side.
    pub(super) fn side_by_side(layers: &[Self]) -> Self {
        let weights: Vec<&Tensor> = layers.iter().map(|layer| &layer.weight).collect();
        let biases: Option<Vec<&Tensor>> = layers.iter().map(|layer| layer.bias.as_ref()).collect();
        let activations = layers.first().expect("there is a layer").activations;
        Self { weight: Tensor::cat(&weights, 0), bias: biases.map(|biases| Tensor::cat(&biases, 0)), activations }
    }

    /// Converts the input to the format of activations and applies the layer. // (..., in) -> (..., out)
    pub(super) fn forward(&self, x: &Tensor) -> Tensor {
        products::linear(&x.to_kind(self.activations), &self.weight, self.bias.as_ref())
    }
}

/// The positions of a padded batch that hold tokens, N of them. Layers that act on each token separately run on these
/// only.
pub(super) struct Tokens {
    /// B and T of the batch.
    batch: [i64; 2],
    /// Index of each token among the B * T positions; absent if there is no padding.
    places: Option<Tensor>, // (N,)
    /// Mask that is added to attention scores; absent if there is no padding.
    mask: Option<Tensor>, // (B, 1, 1, T)
}

impl Tokens {
    /// Creates the layout from a mask of 1 and 0, for attention scores of `kind`. // (B, T)
    pub(super) fn new(attention_mask: &Tensor, kind: Kind) -> Self {
        let (b, t) = attention_mask.size2().expect("attention_mask is (B, T)");
        let visible = attention_mask.ne(0);
        let places = visible.view([-1]).nonzero().squeeze_dim(1);
        if places.size()[0] == b * t {
            return Self { batch: [b, t], places: None, mask: None };
        }
        let mask = score_mask(&visible.unsqueeze(1).unsqueeze(1), kind);
        Self { batch: [b, t], places: Some(places), mask: Some(mask) }
    }

    /// Returns the tokens of a padded batch. // (B, T, ...) -> (N, ...)
    pub(super) fn pack(&self, padded: &Tensor) -> Tensor {
        let flat = padded.flatten(0, 1);
        self.places.as_ref().map_or_else(|| flat.shallow_clone(), |places| flat.index_select(0, places))
    }

    /// Returns the padded batch, with 0 at padding. // (N, C) -> (B, T, C)
    pub(super) fn pad(&self, packed: &Tensor) -> Tensor {
        let [b, t] = self.batch;
        let Some(places) = &self.places else { return packed.view([b, t, -1]) };
        let mut padded = packed.new_zeros([b * t, packed.size()[1]], (packed.kind(), packed.device()));
        padded.index_copy_(0, places, packed).view([b, t, -1])
    }

    pub(super) fn mask(&self) -> Option<&Tensor> {
        self.mask.as_ref()
    }
}

/// Layer normalization (arXiv:1607.06450).
#[derive(Debug)]
pub(super) struct LayerNorm {
    weight: Tensor,       // (C,)
    bias: Option<Tensor>, // (C,)
    eps: f64,
}

impl LayerNorm {
    pub(super) fn forward(&self, x: &Tensor) -> Tensor {
        x.layer_norm(self.weight.size(), Some(&self.weight.to_kind(x.kind())), self.bias.as_ref(), self.eps, false)
    }
}

/// Computes bidirectional attention. // three of (B, T, H, D), mask (B, 1, 1 or T, T) -> (B, T, C)
pub(super) fn attention(q: &Tensor, k: &Tensor, v: &Tensor, mask: Option<&Tensor>) -> Tensor {
    let heads = |t: &Tensor| t.transpose(1, 2); // (B, H, T, D)
    let y = Tensor::scaled_dot_product_attention(&heads(q), &heads(k), &heads(v), mask, 0.0, false, None, false);
    y.transpose(1, 2).flatten(2, 3)
}

/// Returns the mask to add to attention scores: 0 where `visible` is true, else minus infinity.
pub(super) fn score_mask(visible: &Tensor, kind: Kind) -> Tensor {
    visible.zeros_like().to_kind(kind).masked_fill(&visible.logical_not(), f64::NEG_INFINITY)
}

/// Rejects an activation other than the exact GELU, and a number of heads that does not divide the hidden size.
pub(super) fn check(json: &Value, activation: &str, hidden_size: i64, num_heads: i64) -> Result<(), String> {
    if json[activation] != "gelu" {
        return Err(format!("`{activation}` is {}; supported is \"gelu\"", json[activation]));
    }
    if num_heads < 1 || hidden_size % num_heads != 0 {
        return Err(format!("`hidden_size` {hidden_size} is not a multiple of `num_attention_heads` {num_heads}"));
    }
    Ok(())
}
