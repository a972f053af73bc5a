//! Low-rank adapters on linear layers (arXiv:2106.09685), named and scaled as PEFT does.

use crate::seed;
use crate::torch::{AdapterMatrices, adapted_linear, copy_all_scaled};
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
    /// A and `scale` B in the number format of activations, for layers that compute in few launches. They are those of
    /// the last call of [`cast_all`].
    casts: Option<(Tensor, Tensor)>,
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
            casts: None,
        }
    }

    /// Makes room for casts in the number format `kind`, or gives it back.
    pub(super) fn keep_casts(&mut self, kind: Option<Kind>) {
        let like = |t: &Tensor, kind| Tensor::empty(t.size(), (kind, t.device()));
        self.casts = kind.map(|kind| (like(&self.a, kind), like(&self.b, kind)));
    }

    /// Computes `x W^T + bias` with the adapter, by the casts that [`cast_all`] made. Returns `None` without casts.
    /// // (T, in) -> (T, out)
    pub(super) fn with_layer(&self, x: &Tensor, weight: &Tensor, bias: Option<&Tensor>, train: bool) -> Option<Tensor> {
        let (cast_a, cast_b) = self.casts.as_ref()?;
        let dropped = self.dropped(x, train);
        let matrices = AdapterMatrices { a: &self.a, b: &self.b, cast_a, cast_b, scale: self.scale };
        Some(adapted_linear(x, dropped.as_ref(), weight, bias, matrices))
    }

    /// Returns the adapter's own input if dropout changes it.
    fn dropped(&self, x: &Tensor, train: bool) -> Option<Tensor> {
        (train && self.dropout > 0.0).then(|| x.dropout(self.dropout, true))
    }

    /// Adds the adapter's output for the input `x` to the layer's output `y`. The products are computed in `x`'s number
    /// format; the adapter itself is 32-bit. // (T, in), (T, out) -> (T, out)
    pub(super) fn add_to(&self, mut y: Tensor, x: &Tensor, train: bool) -> Tensor {
        let kind = x.kind();
        let dropped = self.dropped(x, train);
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

/// Makes the casts of all adapters that keep them, in a few launches.
pub(super) fn cast_all<'a>(adapters: impl Iterator<Item = &'a Lora>) {
    let (mut targets, mut sources, mut factors) = (Vec::new(), Vec::new(), Vec::new());
    for lora in adapters {
        let Some((cast_a, cast_b)) = &lora.casts else { continue };
        targets.extend([cast_a.shallow_clone(), cast_b.shallow_clone()]);
        sources.extend([lora.a.shallow_clone(), lora.b.shallow_clone()]);
        factors.extend([1.0, lora.scale]);
    }
    tch::no_grad(|| copy_all_scaled(&targets, &sources, &factors));
}

/// Returns PEFT's scale: `alpha / r`, or `alpha / sqrt(r)` if rank-stabilized (arXiv:2312.03732).
pub fn scale(spec: &LoraSpec) -> f64 {
    let rank = f64::from(spec.rank);
    if spec.rslora { spec.alpha / rank.sqrt() } else { spec.alpha / rank }
}
