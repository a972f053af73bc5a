//! Draws by hash, which depend on a seed and labels alone.

use sha2::{Digest as _, Sha256};

/// Returns 64 random bits for the draw that `labels` identify.
pub(super) fn bits(seed: u64, labels: &[&str]) -> u64 {
    let mut hasher = Sha256::new_with_prefix(seed.to_le_bytes());
    for label in labels {
        hasher.update((label.len() as u64).to_le_bytes());
        hasher.update(label.as_bytes());
    }
    let digest = hasher.finalize();
    u64::from_le_bytes(digest[..8].try_into().expect("a digest has more than 8 bytes"))
}

/// Returns a number from 0, included, to 1, excluded, for the draw that `labels` identify.
pub(super) fn unit(seed: u64, labels: &[&str]) -> f64 {
    (bits(seed, labels) >> 11) as f64 / (1_u64 << 53) as f64
}
