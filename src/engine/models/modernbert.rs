//! ModernBERT (arXiv:2412.13663): rotary positions, gated feed-forward, and attention over the whole text in some
//! layers and over a window in the others.

use super::encoder_layers::{Checkpoint, LayerNorm, Linear, attention, check, score_mask};
use super::rotary::{Rotary, Rotation};
use super::text_model::{TextLimits, TextModel};
use crate::error::StageResult;
use serde::Deserialize;
use serde_json::Value;
use tch::{Kind, Tensor};

/// The fields of a ModernBERT `config.json`.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct ModernBertConfig {
    /// Hidden size, C.
    hidden_size: i64,
    /// Width of the feed-forward layers.
    intermediate_size: i64,
    /// Number of layers.
    num_hidden_layers: i64,
    /// Number of attention heads, H.
    num_attention_heads: i64,
    /// Vocabulary size, V.
    vocab_size: i64,
    /// Maximum number of tokens of a sequence.
    max_position_embeddings: i64,
    /// Value that norms add to the variance.
    norm_eps: f64,
    /// Size of a local layer's window: half of it on each side of the token.
    local_attention: i64,
    pad_token_id: i64,
    /// Attention type of each layer.
    #[serde(skip)]
    layer_types: Vec<Attention>,
    #[serde(skip)]
    global_rope_theta: f64,
    #[serde(skip)]
    local_rope_theta: f64,
}

/// The range of a layer's attention.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
enum Attention {
    #[serde(rename = "full_attention")]
    Global,
    #[serde(rename = "sliding_attention")]
    Local,
}

/// Reads a ModernBERT `config.json`, as written by transformers 5 or by earlier versions.
pub(super) fn config(json: &Value) -> Result<ModernBertConfig, String> {
    let mut config = ModernBertConfig::deserialize(json).map_err(|e| e.to_string())?;
    check(json, "hidden_activation", config.hidden_size, config.num_attention_heads)?;
    if config.hidden_size / config.num_attention_heads % 2 != 0 || config.max_position_embeddings < 1 {
        return Err(
            "`hidden_size`, `num_attention_heads` or `max_position_embeddings` leaves no rotary positions".to_owned()
        );
    }
    for name in ["attention_bias", "mlp_bias", "norm_bias"] {
        if json[name] == true {
            return Err(format!("`{name}` is true; supported is false"));
        }
    }
    if !json["rope_scaling"].is_null() {
        return Err("`rope_scaling` is not supported".to_owned());
    }
    config.layer_types = layer_types(json, config.num_hidden_layers)?;
    config.global_rope_theta = theta(json, "full_attention", "global_rope_theta")?.unwrap_or(160_000.0);
    let local = theta(json, "sliding_attention", "local_rope_theta")?;
    // before transformers 5, an explicit null meant the global value
    let absent = if json.get("local_rope_theta").is_some() { config.global_rope_theta } else { 10_000.0 };
    config.local_rope_theta = local.unwrap_or(absent);
    Ok(config)
}

fn layer_types(json: &Value, layers: i64) -> Result<Vec<Attention>, String> {
    if json["layer_types"].is_null() {
        let every = json.get("global_attn_every_n_layers").map_or(Some(3), Value::as_i64).filter(|&n| n > 0);
        let every = every.ok_or("`global_attn_every_n_layers` is not a positive integer")?;
        return Ok((0..layers).map(|i| if i % every == 0 { Attention::Global } else { Attention::Local }).collect());
    }
    let types = Vec::<Attention>::deserialize(&json["layer_types"]).map_err(|e| format!("`layer_types`: {e}"))?;
    if i64::try_from(types.len()) != Ok(layers) {
        return Err(format!("`layer_types` has {} entries, `num_hidden_layers` is {layers}", types.len()));
    }
    Ok(types)
}

/// Returns the base of the rotary frequencies of a layer type, from `rope_parameters` or from the field `older`.
fn theta(json: &Value, layer_type: &str, older: &str) -> Result<Option<f64>, String> {
    let rope = &json["rope_parameters"][layer_type];
    let rope_type = rope["rope_type"].as_str().unwrap_or("default");
    if rope_type != "default" {
        return Err(format!("rope type `{rope_type}` is not supported; supported is default"));
    }
    Ok(rope["rope_theta"].as_f64().or_else(|| json[older].as_f64()))
}

/// A ModernBERT encoder with its weights.
#[derive(Debug)]
pub(super) struct ModernBert {
    config: ModernBertConfig,
    tok_embeddings: Tensor, // (V, C)
    norm: LayerNorm,
    layers: Vec<Layer>,
    final_norm: LayerNorm,
    global_rotary: Rotary,
    local_rotary: Rotary,
    kind: Kind,
}

#[derive(Debug)]
struct Layer {
    /// Absent in the first layer, since the embedding's norm precedes it.
    attn_norm: Option<LayerNorm>,
    wqkv: Linear,
    attn_wo: Linear,
    mlp_norm: LayerNorm,
    mlp_wi: Linear,
    mlp_wo: Linear,
    num_heads: i64,
}

/// The rotation and mask that layers of one attention type share.
struct View {
    rotation: Rotation,
    mask: Tensor, // (B, 1, 1 or T, T)
}

impl ModernBert {
    /// Loads the weights that `config` requires.
    ///
    /// # Errors
    /// Returns an error for weights that are missing or of another shape.
    pub(super) fn load(config: ModernBertConfig, from: &Checkpoint) -> StageResult<Self> {
        let c = &config;
        let (hidden, wide) = (c.hidden_size, c.intermediate_size);
        let norm = |name: &str| from.layer_norm_without_bias(name, hidden, c.norm_eps);
        let layers = (0..c.num_hidden_layers)
            .map(|i| {
                let at = |rest: &str| format!("layers.{i}.{rest}");
                Ok(Layer {
                    attn_norm: if i == 0 { None } else { Some(norm(&at("attn_norm"))?) },
                    wqkv: from.linear_without_bias(&at("attn.Wqkv"), 3 * hidden, hidden)?,
                    attn_wo: from.linear_without_bias(&at("attn.Wo"), hidden, hidden)?,
                    mlp_norm: norm(&at("mlp_norm"))?,
                    mlp_wi: from.linear_without_bias(&at("mlp.Wi"), 2 * wide, hidden)?,
                    mlp_wo: from.linear_without_bias(&at("mlp.Wo"), hidden, wide)?,
                    num_heads: c.num_attention_heads,
                })
            })
            .collect::<StageResult<Vec<_>>>()?;
        let rotary = |theta: f64| {
            let head_dim = hidden / c.num_attention_heads;
            Rotary::new(head_dim, c.max_position_embeddings, theta, None, from.activations(), from.device())
        };
        Ok(Self {
            tok_embeddings: from.tensor("embeddings.tok_embeddings.weight", &[c.vocab_size, hidden])?,
            norm: norm("embeddings.norm")?,
            layers,
            final_norm: norm("final_norm")?,
            global_rotary: rotary(c.global_rope_theta),
            local_rotary: rotary(c.local_rope_theta),
            kind: from.activations(),
            config,
        })
    }
}

impl TextModel for ModernBert {
    fn limits(&self) -> TextLimits {
        let ModernBertConfig { vocab_size, max_position_embeddings: max_tokens, pad_token_id, .. } = self.config;
        TextLimits { vocab_size, max_tokens, pad_token_id, causal: false }
    }

    fn forward(&self, input_ids: &Tensor, attention_mask: &Tensor) -> Tensor {
        let (rows, tokens) = input_ids.size2().expect("input_ids is (B, T)");
        let index = Tensor::arange(tokens, (Kind::Int64, input_ids.device())); // (T,)
        let distance = (index.unsqueeze(1) - index.unsqueeze(0)).abs(); // (T, T)
        let visible = attention_mask.ne(0).unsqueeze(1).unsqueeze(1); // (B, 1, 1, T)
        // padding far from any token attends to itself, since a softmax over no scores would be NaN and spread
        let near = visible.logical_and(&distance.le(self.config.local_attention / 2)).logical_or(&distance.eq(0));
        let positions = index.repeat([rows]); // (B * T,)
        let view = |rotary: &Rotary, visible: &Tensor| View {
            rotation: rotary.at(&positions),
            mask: score_mask(visible, self.kind),
        };
        let (global, local) = (view(&self.global_rotary, &visible), view(&self.local_rotary, &near));
        let words = Tensor::embedding(&self.tok_embeddings, input_ids, -1, false, false).to_kind(self.kind);
        let mut x = self.norm.forward(&words); // (B, T, C)
        for (layer, sees) in self.layers.iter().zip(&self.config.layer_types) {
            x = layer.forward(&x, if *sees == Attention::Global { &global } else { &local });
        }
        self.final_norm.forward(&x)
    }
}

impl Layer {
    fn forward(&self, x: &Tensor, view: &View) -> Tensor {
        let (b, t, c) = x.size3().expect("x is (B, T, C)");
        let normed = self.attn_norm.as_ref().map_or_else(|| x.shallow_clone(), |norm| norm.forward(x));
        let head_dim = c / self.num_heads;
        let qkv = self.wqkv.forward(&normed).view([b * t, 3, self.num_heads, head_dim]);
        let heads = |i: i64| qkv.select(1, i); // (B * T, H, D)
        let batch = |y: Tensor| y.view([b, t, self.num_heads, head_dim]); // (B, T, H, D)
        let (q, k) = (view.rotation.apply(&heads(0)), view.rotation.apply(&heads(1)));
        let v = qkv.view([b, t, 3, self.num_heads, head_dim]).select(2, 2);
        let x = x + self.attn_wo.forward(&attention(&batch(q), &batch(k), &v, Some(&view.mask)));
        let wide = self.mlp_wi.forward(&self.mlp_norm.forward(&x)).chunk(2, -1);
        &x + self.mlp_wo.forward(&(wide[0].gelu("none") * &wide[1])) // GeGLU, arXiv:2002.05202
    }
}
