//! Low-rank adapters on linear layers (arXiv:2106.09685), named and scaled as PEFT does.

use crate::seed;
use orchestrate_core::recipe::spec::LoraSpec;
use tch::{Device, Kind, Tensor};

/// The adapter of one linear layer: adds `scale * B A x`.
#[derive(Debug)]
pub struct Lora {
    /// Down-projection, held in 32 bits. // (r, in)
    pub a: Tensor,
    /// Up-projection, held in 32 bits. // (out, r)
    pub b: Tensor,
    scale: f64,
    dropout: f64,
}

impl Lora {
    /// A fresh adapter that changes nothing yet: A uniform as PEFT's Kaiming initialization (bound `1 / sqrt(in)`), drawn
    /// from `seed` and the layer's name; B zero.
    pub fn fresh(spec: &LoraSpec, name: &str, in_features: i64, out_features: i64, seed: u64, device: Device) -> Self {
        let rank = i64::from(spec.rank);
        let bound = 1.0 / (in_features as f64).sqrt();
        let a = seed::uniform(seed::derive(seed, &["lora", name]), rank * in_features, -bound, bound);
        Self {
            a: a.view([rank, in_features]).to_device(device).set_requires_grad(true),
            b: Tensor::zeros([out_features, rank], (Kind::Float, device)).set_requires_grad(true),
            scale: scale(spec),
            dropout: spec.dropout,
        }
    }

    /// Adds to the layer's output `y` what the adapter makes of its input `x`. The products run in `x`'s number format, the
    /// adapter itself stays 32-bit. // (T, in), (T, out) -> (T, out)
    pub(super) fn add_to(&self, mut y: Tensor, x: &Tensor, train: bool) -> Tensor {
        let kind = x.kind();
        let dropped = (train && self.dropout > 0.0).then(|| x.dropout(self.dropout, true));
        let x = dropped.as_ref().unwrap_or(x);
        let down = x.linear(&self.a.to_kind(kind), None::<&Tensor>); // (T, r)
        // in place: the sum costs no pass over the output of its own
        y.addmm_(&down, &(&self.b * self.scale).to_kind(kind).transpose(0, 1))
    }

    /// The factor of the update.
    pub(super) fn scale(&self) -> f64 {
        self.scale
    }

    /// Whether it changes nothing: its up-projection is zero.
    pub(super) fn is_neutral(&self) -> bool {
        self.b.count_nonzero(None).int64_value(&[]) == 0
    }

    /// The update of the weight in 32 bits, `scale * B A`. // (out, in)
    pub fn weight_update(&self) -> Tensor {
        tch::no_grad(|| self.b.matmul(&self.a) * self.scale)
    }
}

/// PEFT's scale: `alpha / r`, or `alpha / sqrt(r)` when rank-stabilized (arXiv:2312.03732).
pub fn scale(spec: &LoraSpec) -> f64 {
    let rank = f64::from(spec.rank);
    if spec.rslora { spec.alpha / rank.sqrt() } else { spec.alpha / rank }
}
