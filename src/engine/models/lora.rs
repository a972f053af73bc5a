//! Low-rank adapters on linear layers (arXiv:2106.09685), named and scaled as PEFT does.

use crate::seed;
use orchestrate_core::recipe::spec::LoraSpec;
use tch::{Device, Kind, Tensor};

/// The adapter of one linear layer, which adds `scale * B A x`.
#[derive(Debug)]
pub struct Lora {
    /// Down-projection, in 32 bits. // (r, in)
    pub a: Tensor,
    /// Up-projection, in 32 bits. // (out, r)
    pub b: Tensor,
    scale: f64,
    dropout: f64,
}

impl Lora {
    /// Creates an adapter that does not change the layer's output yet. A is uniform as in PEFT's Kaiming initialization
    /// (bound `1 / sqrt(in)`), drawn from `seed` and the layer's name. B is zero.
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

    /// Adds the adapter's output for the input `x` to the layer's output `y`. The products are computed in `x`'s number
    /// format; the adapter itself is 32-bit. // (T, in), (T, out) -> (T, out)
    pub(super) fn add_to(&self, mut y: Tensor, x: &Tensor, train: bool) -> Tensor {
        let kind = x.kind();
        let dropped = (train && self.dropout > 0.0).then(|| x.dropout(self.dropout, true));
        let x = dropped.as_ref().unwrap_or(x);
        let down = x.linear(&self.a.to_kind(kind), None::<&Tensor>); // (T, r)
        // in place, so the sum needs no extra pass over the output
        y.addmm_(&down, &(&self.b * self.scale).to_kind(kind).transpose(0, 1))
    }

    /// The factor of the update `B A`.
    pub(super) fn scale(&self) -> f64 {
        self.scale
    }

    /// Returns whether the adapter has no effect, since its up-projection is zero.
    pub(super) fn is_neutral(&self) -> bool {
        self.b.count_nonzero(None).int64_value(&[]) == 0
    }

    /// Computes the update of the weight in 32 bits, `scale * B A`. // (out, in)
    pub fn weight_update(&self) -> Tensor {
        tch::no_grad(|| self.b.matmul(&self.a) * self.scale)
    }
}

/// Returns PEFT's scale: `alpha / r`, or `alpha / sqrt(r)` if rank-stabilized (arXiv:2312.03732).
pub fn scale(spec: &LoraSpec) -> f64 {
    let rank = f64::from(spec.rank);
    if spec.rslora { spec.alpha / rank.sqrt() } else { spec.alpha / rank }
}
