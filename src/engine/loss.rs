//! The GRPO objective, as pure functions: rewards to advantages, lengths to token weights, log-probabilities to a loss.
//!
//! Tokens of all completions lie end to end, (N,); `lengths` says how many belong to each.

use orchestrate::recipe::spec::{LossType, ScaleRewards};
use tch::{Kind, Tensor};

/// Keeps a group of equal rewards from dividing by zero.
const STD_EPS: f64 = 1e-4;

/// Advantage of every completion, `(r - mean) / (std + 1e-4)` with the unbiased standard deviation
/// (GRPO, arXiv:2402.03300, section 4.1.2). `rewards` holds groups of `group_size` one after the other.
///
/// A missing reward is left out of mean and deviation and has no advantage; so has a group with fewer than two rewards.
pub fn advantages(rewards: &[Option<f64>], group_size: usize, scale: ScaleRewards) -> Vec<Option<f64>> {
    let all: Vec<f64> = rewards.iter().copied().flatten().collect();
    let batch_std = standard_deviation(&all);
    rewards
        .chunks(group_size)
        .flat_map(|group| {
            let present: Vec<f64> = group.iter().copied().flatten().collect();
            let mean = present.iter().sum::<f64>() / present.len().max(1) as f64;
            let divisor = match scale {
                ScaleRewards::Group => standard_deviation(&present) + STD_EPS,
                ScaleRewards::Batch => batch_std + STD_EPS,
                ScaleRewards::None => 1.0,
            };
            let comparable = present.len() >= 2;
            group.iter().map(move |reward| reward.filter(|_| comparable).map(|r| (r - mean) / divisor))
        })
        .collect()
}

/// Unbiased standard deviation; 0 for fewer than two values.
pub fn standard_deviation(values: &[f64]) -> f64 {
    if values.len() < 2 {
        return 0.0;
    }
    let mean = values.iter().sum::<f64>() / values.len() as f64;
    let squares: f64 = values.iter().map(|v| (v - mean).powi(2)).sum();
    (squares / (values.len() - 1) as f64).sqrt()
}

/// Weight of each completion's tokens in the loss of a whole optimizer step: the loss is the weighted *sum* over tokens,
/// over all micro-batches. A completion that takes no part (`lengths[i]` is `None`) gets 0.
pub fn token_weights(lengths: &[Option<usize>], loss_type: LossType, max_new_tokens: usize) -> Vec<f64> {
    let present: Vec<usize> = lengths.iter().copied().flatten().collect();
    let (sequences, tokens) = (present.len().max(1) as f64, present.iter().sum::<usize>().max(1) as f64);
    lengths
        .iter()
        .map(|length| match (length, loss_type) {
            (None, _) => 0.0,
            (Some(length), LossType::Grpo) => 1.0 / ((*length).max(1) as f64 * sequences),
            (Some(_), LossType::Dapo) => 1.0 / tokens,
            (Some(_), LossType::DrGrpo) => 1.0 / (sequences * max_new_tokens as f64),
        })
        .collect()
}

/// Where the importance ratio is taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RatioLevel {
    /// Each token has its own (PPO, GRPO).
    Token,
    /// One for a completion, the exponential of the mean log-ratio of its tokens (GSPO, arXiv:2507.18071).
    Sequence,
}

/// What the loss of some completions is computed from.
#[derive(Debug)]
pub struct PolicyInputs<'a> {
    /// Under the policy that is trained; carries the gradient. // (N,)
    pub logprobs: &'a Tensor,
    /// Under the policy that sampled. // (N,)
    pub sampling_logprobs: &'a Tensor,
    /// Under the stage's input, when `kl_coef` is not 0. // (N,)
    pub ref_logprobs: Option<&'a Tensor>,
    /// Of each token's completion. // (N,)
    pub advantages: &'a Tensor,
    /// Of each token, see [`token_weights`]. // (N,)
    pub weights: &'a Tensor,
    /// Tokens of each completion.
    pub lengths: &'a [i64],
}

/// The knobs of [`policy_loss`].
#[derive(Clone, Copy, Debug)]
pub struct PolicyKnobs {
    /// The ratio is clipped below at `1 - clip_low`.
    pub clip_low: f64,
    /// The ratio is clipped above at `1 + clip_high`.
    pub clip_high: f64,
    /// Weight of the divergence from the reference.
    pub kl_coef: f64,
    /// Where the ratio is taken.
    pub ratio: RatioLevel,
}

/// The loss and what is worth logging about it.
#[derive(Debug)]
pub struct PolicyLoss {
    /// Weighted sum over the tokens. // ()
    pub loss: Tensor,
    /// `exp(logprobs - sampling_logprobs)`, without gradient. // (N,)
    pub ratio: Tensor,
    /// Whether the clipped branch was taken, 0 or 1. // (N,)
    pub clipped: Tensor,
    /// k3 estimate of the divergence from the reference, without gradient. // (N,)
    pub kl: Option<Tensor>,
}

/// Clipped surrogate with a k3 penalty: `-min(ratio A, clip(ratio, 1 - low, 1 + high) A) + kl_coef k3`, with
/// `k3 = exp(ref - logp) - (ref - logp) - 1` (GRPO, arXiv:2402.03300, eq. 3 and 4).
pub fn policy_loss(inputs: &PolicyInputs<'_>, knobs: PolicyKnobs) -> PolicyLoss {
    let log_ratio = inputs.logprobs - inputs.sampling_logprobs; // (N,)
    let ratio = match knobs.ratio {
        RatioLevel::Token => log_ratio.exp(),
        RatioLevel::Sequence => sequence_means(&log_ratio, inputs.lengths).exp(),
    };
    let unclipped = &ratio * inputs.advantages;
    let clipped = ratio.clamp(1.0 - knobs.clip_low, 1.0 + knobs.clip_high) * inputs.advantages;
    let mut per_token = unclipped.minimum(&clipped).neg(); // (N,)
    let kl = inputs.ref_logprobs.map(|reference| {
        let difference = reference - inputs.logprobs;
        difference.exp() - &difference - 1.0
    });
    if let Some(kl) = &kl {
        per_token += kl * knobs.kl_coef;
    }
    PolicyLoss {
        loss: (per_token * inputs.weights).sum(inputs.logprobs.kind()),
        ratio: log_ratio.exp().detach(),
        clipped: clipped.lt_tensor(&unclipped).to_kind(Kind::Float),
        kl: kl.map(|kl| kl.detach()),
    }
}

/// Each completion's mean, repeated for each of its tokens. // (N,) -> (N,)
fn sequence_means(values: &Tensor, lengths: &[i64]) -> Tensor {
    let parts: Vec<Tensor> = values
        .split_with_sizes(lengths, 0)
        .iter()
        .zip(lengths)
        .map(|(part, &length)| part.mean(values.kind()).expand([length], false))
        .collect();
    Tensor::cat(&parts, 0)
}
