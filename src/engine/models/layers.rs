//! Layers of the decoders. Activations are packed rows, (T, C).

use super::kv_cache::{LayerCache, NextToken, SlotLayer};
use super::lora::Lora;
use super::rotary::Rotation;
use super::sequences::Sequences;
use super::shared_prefix::{self, SharedPrefix};
use crate::products;
use tch::Tensor;

/// The structure of a packed row, computed once for all layers.
pub(super) struct Layout<'a> {
    pub(super) rotation: Rotation,
    /// Number of tokens of each sequence.
    pub(super) lengths: &'a [i64],
    /// The calls of attention.
    pub(super) calls: Calls,
    /// Whether operations are joined where that gives the same bits in fewer launches.
    pub(super) few_launches: bool,
}

/// The calls by which the attention of a packed row is computed.
pub(super) enum Calls {
    /// A call for each sequence, or one if all have the same length.
    OfSequences,
    /// Calls for the row's prompts and for runs of their completions.
    OfGroups(Vec<SharedPrefix>),
    /// One call for the whole row.
    One(Sequences),
}

/// A linear layer `x W^T + b`, with an adapter if the recipe has one for it.
#[derive(Debug)]
pub(super) struct Linear {
    /// The layer's path in the checkpoint, without `.weight`.
    pub(super) name: String,
    pub(super) weight: Tensor,       // (out, in)
    pub(super) bias: Option<Tensor>, // (out,)
    pub(super) lora: Option<Lora>,
}

impl Linear {
    pub(super) fn forward(&self, x: &Tensor, train: bool) -> Tensor {
        let plain = || products::linear(x, &self.weight, self.bias.as_ref());
        let Some(lora) = &self.lora else { return plain() };
        lora.with_layer(x, &self.weight, self.bias.as_ref(), train).unwrap_or_else(|| lora.add_to(plain(), x, train))
    }
}

/// Root-mean-square norm (arXiv:1910.07467).
#[derive(Debug)]
pub(super) struct RmsNorm {
    pub(super) name: String,
    pub(super) weight: Tensor, // (C,)
    pub(super) eps: f64,
}

impl RmsNorm {
    pub(super) fn forward(&self, x: &Tensor) -> Tensor {
        x.rms_norm(self.weight.size(), Some(&self.weight.to_kind(x.kind())), self.eps)
    }
}

/// Grouped-query attention with rotary position embedding.
#[derive(Debug)]
pub(super) struct Attention {
    pub(super) q_proj: Linear,
    pub(super) k_proj: Linear,
    pub(super) v_proj: Linear,
    pub(super) o_proj: Linear,
    pub(super) q_norm: Option<RmsNorm>,
    pub(super) k_norm: Option<RmsNorm>,
    pub(super) num_heads: i64,
    pub(super) num_key_value_heads: i64,
    pub(super) head_dim: i64,
}

impl Attention {
    /// Computes causal attention inside each sequence of a packed row, and from completions to their prompts. Stores
    /// keys and values in `cache` if it is given. // (T, C) -> (T, C)
    pub(super) fn forward(
        &self,
        x: &Tensor,
        layout: &Layout<'_>,
        cache: Option<&mut LayerCache>,
        train: bool,
    ) -> Tensor {
        let (q, k, v) = self.project(x, &layout.rotation, layout.few_launches, train);
        if let Some(cache) = cache {
            cache.prefill(&k, &v, layout.lengths);
        }
        // (T, H, D): each sequence is its own (1, H, length, D) problem; sequences of equal length are one batch
        let repeat = self.num_heads / self.num_key_value_heads;
        let y = match (&layout.calls, layout.lengths) {
            (Calls::One(sequences), _) => sequences.attention(&q, &k, &v),
            (Calls::OfGroups(groups), _) => shared_prefix::attention(&q, &k, &v, groups),
            (Calls::OfSequences, [first, rest @ ..]) if rest.iter().all(|l| l == first) => {
                let rows = i64::try_from(layout.lengths.len()).expect("row counts fit i64");
                causal(&q, &k, &v, rows, *first, repeat)
            }
            (Calls::OfSequences, lengths) => {
                // one split instead of narrows, since the gradient of each narrow would be as large as the whole row
                let split = |t: &Tensor| t.split_with_sizes(lengths, 0);
                let parts: Vec<Tensor> = (split(&q).iter().zip(split(&k)).zip(split(&v)).zip(lengths))
                    .map(|(((q, k), v), &length)| causal(q, &k, &v, 1, length, repeat))
                    .collect();
                Tensor::cat(&parts, 0)
            }
        };
        self.o_proj.forward(&y, train)
    }

    /// Computes attention of one new token in each slot over the cache. // (S, C) -> (S, C)
    pub(super) fn decode(&self, x: &Tensor, rotation: &Rotation, cache: &mut SlotLayer, next: &NextToken) -> Tensor {
        let (q, k, v) = self.project(x, rotation, next.few_launches, false);
        cache.append(&k, &v, next);
        self.o_proj.forward(&cache.attention(&q, next), false)
    }

    /// Returns queries (T, H, D), keys (T, K, D) and values (T, K, D), with norms and rotation applied.
    fn project(&self, x: &Tensor, rotation: &Rotation, few_launches: bool, train: bool) -> (Tensor, Tensor, Tensor) {
        let tokens = x.size()[0];
        let q = self.q_proj.forward(x, train).view([tokens, self.num_heads, self.head_dim]);
        let k = self.k_proj.forward(x, train).view([tokens, self.num_key_value_heads, self.head_dim]);
        let v = self.v_proj.forward(x, train).view([tokens, self.num_key_value_heads, self.head_dim]);
        let q = self.q_norm.as_ref().map_or_else(|| q.shallow_clone(), |norm| norm.forward(&q));
        let k = self.k_norm.as_ref().map_or_else(|| k.shallow_clone(), |norm| norm.forward(&k));
        if few_launches {
            let (q, k) = rotation.apply_to_both(&q, &k);
            return (q, k, v);
        }
        (rotation.apply(&q), rotation.apply(&k), v)
    }
}

/// Computes causal attention over `rows` sequences of `length` tokens each.
/// // (rows * length, H, D) -> (rows * length, H * D)
pub(super) fn causal(q: &Tensor, k: &Tensor, v: &Tensor, rows: i64, length: i64, repeat: i64) -> Tensor {
    let split = |t: &Tensor| {
        let (_, heads, dim) = t.size3().expect("t is (T, H, D)");
        t.view([rows, length, heads, dim]).transpose(1, 2) // (rows, H, length, D)
    };
    let (k, v) = if repeat == 1 {
        (split(k), split(v))
    } else {
        (split(k).repeat_interleave_self_int(repeat, 1, None), split(v).repeat_interleave_self_int(repeat, 1, None))
    };
    let y = Tensor::scaled_dot_product_attention(&split(q), &k, &v, None::<&Tensor>, 0.0, true, None, false);
    let (_, heads, _, dim) = y.size4().expect("y is (rows, H, length, D)");
    y.transpose(1, 2).reshape([rows * length, heads * dim])
}

/// Gated feed-forward (`SwiGLU`, arXiv:2002.05202).
#[derive(Debug)]
#[expect(clippy::struct_field_names, reason = "the names of the checkpoint")]
pub(super) struct Mlp {
    pub(super) gate_proj: Linear,
    pub(super) up_proj: Linear,
    pub(super) down_proj: Linear,
}

impl Mlp {
    pub(super) fn forward(&self, x: &Tensor, train: bool) -> Tensor {
        let gated = self.gate_proj.forward(x, train).silu() * self.up_proj.forward(x, train);
        self.down_proj.forward(&gated, train)
    }
}

/// One pre-norm transformer layer.
#[derive(Debug)]
pub(super) struct Layer {
    pub(super) input_layernorm: RmsNorm,
    pub(super) self_attn: Attention,
    pub(super) post_attention_layernorm: RmsNorm,
    pub(super) mlp: Mlp,
}

impl Layer {
    pub(super) fn forward(
        &self,
        x: &Tensor,
        layout: &Layout<'_>,
        cache: Option<&mut LayerCache>,
        train: bool,
    ) -> Tensor {
        let x = x + self.self_attn.forward(&self.input_layernorm.forward(x), layout, cache, train);
        &x + self.mlp.forward(&self.post_attention_layernorm.forward(&x), train)
    }

    pub(super) fn decode(&self, x: &Tensor, rotation: &Rotation, cache: &mut SlotLayer, next: &NextToken) -> Tensor {
        let x = x + self.self_attn.decode(&self.input_layernorm.forward(x), rotation, cache, next);
        &x + self.mlp.forward(&self.post_attention_layernorm.forward(&x), false)
    }

    /// Returns the layer's linear layers, in the order of the checkpoint.
    pub(super) fn linears_mut(&mut self) -> [&mut Linear; 7] {
        let a = &mut self.self_attn;
        let m = &mut self.mlp;
        [&mut a.q_proj, &mut a.k_proj, &mut a.v_proj, &mut a.o_proj, &mut m.gate_proj, &mut m.up_proj, &mut m.down_proj]
    }

    pub(super) fn linears(&self) -> [&Linear; 7] {
        let (a, m) = (&self.self_attn, &self.mlp);
        [&a.q_proj, &a.k_proj, &a.v_proj, &a.o_proj, &m.gate_proj, &m.up_proj, &m.down_proj]
    }

    pub(super) fn norms(&self) -> Vec<&RmsNorm> {
        let mut norms = vec![&self.input_layernorm, &self.post_attention_layernorm];
        norms.extend(self.self_attn.q_norm.iter());
        norms.extend(self.self_attn.k_norm.iter());
        norms
    }
}
