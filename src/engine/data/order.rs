//! The order of a stage's examples: for each epoch a permutation that is a pure function of (seed, position). A resumed
//! stage therefore needs only its step.

use crate::seed;

/// Rounds of the Feistel network; four rounds already give a pseudorandom permutation (Luby and Rackoff, 1988).
const ROUNDS: u64 = 6;

/// Returns the index of the example at `position` (from 0, over all epochs) among `count` examples.
///
/// # Panics
/// Panics if `count` is 0.
pub fn example_at(seed: u64, position: u64, count: usize) -> usize {
    assert!(count > 0, "an order needs at least one example");
    let count = count as u64;
    let key = seed::derive(seed, &["epoch", &(position / count).to_string()]);
    let half_bits = (64 - (count - 1).leading_zeros()).div_ceil(2).max(1);
    // permutes the values below the next power of four until the result is below `count` (cycle walking)
    let mut value = position % count;
    loop {
        value = feistel(value, key, half_bits);
        if value < count {
            return usize::try_from(value).expect("it is below a usize");
        }
    }
}

/// Applies a keyed permutation of `0 .. 4^half_bits`.
fn feistel(value: u64, key: u64, half_bits: u32) -> u64 {
    let mask = (1 << half_bits) - 1;
    let (mut left, mut right) = (value >> half_bits, value & mask);
    for round in 0..ROUNDS {
        let mixed = mix(key ^ right.wrapping_add(round << 56)) & mask;
        (left, right) = (right, left ^ mixed);
    }
    (left << half_bits) | right
}

/// Applies the finalizer of SplitMix64 (Steele, Lea and Flood, 2014).
pub(super) fn mix(value: u64) -> u64 {
    let value = value.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    value ^ (value >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn an_epoch_visits_every_example_once(seed: u64, epoch in 0u64..1000, count in 1usize..300) {
            let first = epoch * count as u64;
            let mut visited: Vec<usize> =
                (first..first + count as u64).map(|position| example_at(seed, position, count)).collect();
            visited.sort_unstable();
            prop_assert!(visited.into_iter().eq(0..count));
        }
    }

    #[test]
    fn epochs_and_seeds_have_orders_of_their_own() {
        let order =
            |seed, epoch: u64| -> Vec<usize> { (0..50).map(|i| example_at(seed, epoch * 50 + i, 50)).collect() };
        assert_ne!(order(1, 0), order(1, 1));
        assert_ne!(order(1, 0), order(2, 0));
        assert_ne!(order(1, 0), (0..50).collect::<Vec<_>>());
    }
}
