//! What the benchmarks of the engine share.

use orchestrate_engine::models::Decoder;
use orchestrate_engine::seed;
use tch::{Cuda, Device, Kind};

/// Returns `count` tokens of the decoder's vocabulary, drawn for `row`.
pub(crate) fn random_ids(decoder: &Decoder, row: usize, count: usize) -> Vec<i64> {
    let uniform = seed::uniform(row as u64, i64::try_from(count).expect("fits"), 0.0, 1.0);
    let ids =
        (uniform * decoder.config.vocab_size as f64).to_kind(Kind::Int64).clamp_max(decoder.config.vocab_size - 1);
    Vec::<i64>::try_from(ids).expect("a vector of integers")
}

/// Waits until the device has done all work.
pub(crate) fn synchronize(device: Device) {
    if let Device::Cuda(index) = device {
        Cuda::synchronize(i64::try_from(index).expect("fits"));
    }
}

/// Returns the median of the times, at least one.
pub(crate) fn median(mut times: Vec<f64>) -> f64 {
    times.sort_by(f64::total_cmp);
    times[times.len() / 2]
}
