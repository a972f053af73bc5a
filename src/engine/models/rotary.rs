//! Rotary position embedding (arXiv:2104.09864), with the `llama3` frequency scaling of Llama 3.1.

use orchestrate_core::architecture::Llama3Scaling;
use std::f64::consts::PI;
use tch::{Device, Kind, Tensor};

/// Cosines and sines of every position up to the model's limit.
#[derive(Debug)]
pub(super) struct Rotary {
    pub(super) cos: Tensor, // (max positions, D)
    /// The first half is negated, since `rotate_half` negates the values that it multiplies.
    pub(super) sin: Tensor, // (max positions, D)
}

impl Rotary {
    pub(super) fn new(
        head_dim: i64,
        max_positions: i64,
        theta: f64,
        scaling: Option<&Llama3Scaling>,
        kind: Kind,
        device: Device,
    ) -> Self {
        let inverse: Vec<f32> = (0..head_dim / 2)
            .map(|i| {
                let frequency = 1.0 / theta.powf(2.0 * i as f64 / head_dim as f64);
                scale(frequency, scaling) as f32
            })
            .collect();
        let inverse = Tensor::from_slice(&inverse);
        let positions = Tensor::arange(max_positions, (Kind::Float, Device::Cpu));
        let angles = positions.outer(&inverse); // (max positions, D/2)
        let angles = Tensor::cat(&[&angles, &angles], -1); // (max positions, D)
        let signs = Tensor::cat(&[&inverse.full_like(-1.0), &inverse.ones_like()], 0); // (D,)
        let placed = |t: Tensor| t.to_kind(kind).to_device(device);
        Self { cos: placed(angles.cos()), sin: placed(angles.sin() * signs) }
    }

    /// Returns the rotation of each of `positions`, to be broadcast over heads. // two of (T, 1, D)
    pub(super) fn at(&self, positions: &Tensor) -> Rotation {
        Rotation {
            cos: self.cos.index_select(0, positions).unsqueeze(1),
            sin: self.sin.index_select(0, positions).unsqueeze(1),
        }
    }
}

/// The cosines and sines of a list of positions.
pub(super) struct Rotation {
    cos: Tensor, // (T, 1, D)
    sin: Tensor, // (T, 1, D)
}

impl Rotation {
    /// Rotates `x`, with the halves of a head as pairs (Hugging Face's `rotate_half`). // (T, H, D)
    pub(super) fn apply(&self, x: &Tensor) -> Tensor {
        let half = x.size()[2] / 2;
        x * &self.cos + x.roll([half], [2]) * &self.sin
    }

    /// Rotates queries and keys together, to the same bits, in half of the launches. // (T, H, D), (T, K, D)
    pub(super) fn apply_to_both(&self, q: &Tensor, k: &Tensor) -> (Tensor, Tensor) {
        let heads = [q.size()[1], k.size()[1]];
        let rotated = self.apply(&Tensor::cat(&[q, k], 1)).split_with_sizes(heads, 1);
        (rotated[0].shallow_clone(), rotated[1].shallow_clone())
    }
}

/// Scales an inverse frequency as transformers' `_compute_llama3_parameters` does.
fn scale(frequency: f64, scaling: Option<&Llama3Scaling>) -> f64 {
    let Some(s) = scaling else { return frequency };
    let wavelength = 2.0 * PI / frequency;
    let turns = s.original_max_position_embeddings / wavelength;
    if turns < s.low_freq_factor {
        frequency / s.factor
    } else if turns > s.high_freq_factor {
        frequency
    } else {
        let smooth = (turns - s.low_freq_factor) / (s.high_freq_factor - s.low_freq_factor);
        (1.0 - smooth) * frequency / s.factor + smooth * frequency
    }
}
