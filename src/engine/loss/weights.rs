//! Weights that reduce per-token losses to one number.

use orchestrate_core::recipe::spec::LossType;

/// Returns the weight of each completion's tokens in the loss of a whole optimizer step. The loss is the weighted *sum*
/// over the tokens of all micro-batches. A completion without a length (`lengths[i]` is `None`) has weight 0 and counts
/// in no normalizer.
///
/// - GRPO (arXiv:2402.03300, eq. 3) and GSPO (arXiv:2507.18071, eq. 5): mean over completions of the mean over their
///   tokens.
/// - DAPO (arXiv:2503.14476, eq. 8) and CISPO (arXiv:2506.13585, eq. 4): sum over all tokens, divided by their count.
/// - Dr. GRPO (arXiv:2503.20783, section 3.2): sum divided by a constant, here completions times `max_new_tokens`.
pub fn token_weights(lengths: &[Option<usize>], loss_type: LossType, max_new_tokens: usize) -> Vec<f64> {
    let present: Vec<usize> = lengths.iter().copied().flatten().collect();
    let (sequences, tokens) = (present.len().max(1) as f64, present.iter().sum::<usize>().max(1) as f64);
    lengths
        .iter()
        .map(|length| match (length, loss_type) {
            (None, _) => 0.0,
            (Some(length), LossType::Grpo | LossType::Gspo) => 1.0 / ((*length).max(1) as f64 * sequences),
            (Some(_), LossType::Dapo | LossType::Cispo) => 1.0 / tokens,
            (Some(_), LossType::DrGrpo) => 1.0 / (sequences * max_new_tokens as f64),
        })
        .collect()
}
