//! Batches of texts that are encoded together.

use std::cmp::Reverse;
use tch::Device;

/// Maximum number of tokens of a batch on a CPU, including padding. Larger batches exceed the cores' caches and have
/// more padding (measured with all-MiniLM-L6-v2 on 2 cores).
const TOKENS_ON_A_CPU: usize = 1024;
/// Maximum number of tokens of a batch on a GPU, which a small batch does not fill.
const TOKENS_ON_A_GPU: usize = 32_768;

/// Returns batches of texts with these `lengths`, by index. Longer texts come first, so the texts of a batch have
/// similar lengths and little padding. Texts without tokens are in no batch.
pub(crate) fn batches(lengths: &[usize], device: Device) -> Vec<Vec<usize>> {
    within(lengths, if device.is_cuda() { TOKENS_ON_A_GPU } else { TOKENS_ON_A_CPU })
}

/// Returns batches of at most `tokens` tokens each, including padding, or of a single longer text.
fn within(lengths: &[usize], tokens: usize) -> Vec<Vec<usize>> {
    let mut order: Vec<usize> = (0..lengths.len()).filter(|&i| lengths[i] > 0).collect();
    order.sort_by_key(|&i| Reverse(lengths[i]));
    let mut rest = order.as_slice();
    let mut batches = Vec::new();
    while let Some(&longest) = rest.first() {
        let (batch, after) = rest.split_at((tokens / lengths[longest]).clamp(1, rest.len()));
        batches.push(batch.to_vec());
        rest = after;
    }
    batches
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn texts_of_like_length_stand_together_and_a_long_one_alone() {
        assert_eq!(within(&[3, 20, 0, 5, 4, 3], 10), [vec![1], vec![3, 4], vec![0, 5]]);
    }

    proptest! {
        #[test]
        fn every_text_with_tokens_is_in_one_batch_and_no_batch_is_too_large(
            lengths in prop::collection::vec(0_usize..50, 0..60), tokens in 1_usize..100
        ) {
            let batches = within(&lengths, tokens);
            for batch in &batches {
                let longest = batch.iter().map(|&i| lengths[i]).max().unwrap();
                prop_assert!(batch.len() == 1 || batch.len() * longest <= tokens);
            }
            let mut all = batches.concat();
            all.sort_unstable();
            prop_assert_eq!(all, (0..lengths.len()).filter(|&i| lengths[i] > 0).collect::<Vec<_>>());
        }
    }
}
