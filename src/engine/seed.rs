//! Derived seeds. Every random draw depends on the stage's seed and labels only, so an interruption loses no random
//! state.

use rand::{RngExt as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;
use sha2::{Digest as _, Sha256};
use tch::Tensor;

/// Derives a seed for the draw that `labels` identify, e.g. `["rollout", "12", "3", "0"]`.
pub fn derive(seed: u64, labels: &[&str]) -> u64 {
    let mut hasher = Sha256::new_with_prefix(seed.to_le_bytes());
    for label in labels {
        hasher.update((label.len() as u64).to_le_bytes());
        hasher.update(label.as_bytes());
    }
    let digest = hasher.finalize();
    u64::from_le_bytes(digest[..8].try_into().expect("a digest has more than 8 bytes"))
}

/// Returns a generator of random numbers for a derived seed.
pub fn generator(seed: u64) -> ChaCha8Rng {
    ChaCha8Rng::seed_from_u64(seed)
}

/// Returns `count` numbers drawn uniformly from `low..high`, on the CPU. // (count,)
pub fn uniform(seed: u64, count: i64, low: f64, high: f64) -> Tensor {
    let mut rng = generator(seed);
    let values: Vec<f32> = (0..count).map(|_| (low + (high - low) * rng.random::<f64>()) as f32).collect();
    Tensor::from_slice(&values)
}

/// Seeds libtorch's own generator, which draws dropout, with a derived seed.
pub fn seed_libtorch(seed: u64) {
    tch::manual_seed((seed >> 1).cast_signed());
}
