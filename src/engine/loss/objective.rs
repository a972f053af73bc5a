//! The policy loss, from log-probabilities and advantages.

use orchestrate_core::recipe::spec::{GrpoLossSpec, LossType};
use tch::{Kind, Tensor};

/// The per-token term of the loss, in which the ratio replaces the probability of a token or completion.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Surrogate {
    /// `-min(ratio A, clip(ratio, 1 - clip_low, 1 + clip_high) A)`, with a ratio for each token (PPO; GRPO,
    /// arXiv:2402.03300, eq. 3).
    TokenRatio,
    /// The term of [`Self::TokenRatio`] with one ratio for a completion: the exponential of the mean log-ratio of its
    /// tokens (GSPO, arXiv:2507.18071, eq. 5 to 7).
    SequenceRatio,
    /// `-stop_grad(min(ratio, 1 + clip_high)) A logp`: every token keeps its gradient, and the weight of the gradient
    /// has an upper bound only (CISPO; MiniMax-M1, arXiv:2506.13585, eq. 4 and 5).
    CappedWeight,
}

impl From<LossType> for Surrogate {
    fn from(loss_type: LossType) -> Self {
        match loss_type {
            LossType::Grpo | LossType::Dapo | LossType::DrGrpo => Self::TokenRatio,
            LossType::Gspo => Self::SequenceRatio,
            LossType::Cispo => Self::CappedWeight,
        }
    }
}

/// The inputs of [`policy_loss`], over all tokens of some completions laid end to end.
#[derive(Debug)]
pub struct PolicyInputs<'a> {
    /// Log-probabilities under the policy in training; they carry the gradient. // (N,)
    pub logprobs: &'a Tensor,
    /// Log-probabilities under the policy that sampled. // (N,)
    pub sampling_logprobs: &'a Tensor,
    /// Log-probabilities under the reference, which is the stage's input; needed if `kl_coef` is not 0. // (N,)
    pub ref_logprobs: Option<&'a Tensor>,
    /// Entropy of the distribution that each token was drawn from, in nats, under the policy in training. It carries a
    /// gradient and is needed if `entropy_coef` is not 0. // (N,)
    pub entropy: Option<&'a Tensor>,
    /// Advantage of each token's completion. // (N,)
    pub advantages: &'a Tensor,
    /// Weight of each token in the loss, see [`token_weights`](super::token_weights). // (N,)
    pub weights: &'a Tensor,
    /// Number of tokens of each completion; the sum is N.
    pub lengths: &'a [i64],
}

/// The settings of [`policy_loss`].
#[derive(Clone, Copy, Debug)]
pub struct PolicyKnobs {
    /// The per-token term.
    pub surrogate: Surrogate,
    /// The ratio is clipped below at `1 - clip_low`; [`Surrogate::CappedWeight`] does not use it.
    pub clip_low: f64,
    /// The ratio is clipped above, or capped, at `1 + clip_high`.
    pub clip_high: f64,
    /// Weight of the divergence from the reference policy.
    pub kl_coef: f64,
    /// Weight of the entropy bonus.
    pub entropy_coef: f64,
}

impl From<&GrpoLossSpec> for PolicyKnobs {
    fn from(spec: &GrpoLossSpec) -> Self {
        Self {
            surrogate: spec.loss_type.into(),
            clip_low: spec.clip_low,
            clip_high: spec.clip_high,
            kl_coef: spec.kl_coef,
            entropy_coef: spec.entropy_coef,
        }
    }
}

/// The loss with the values to log about it.
#[derive(Debug)]
pub struct PolicyLoss {
    /// Weighted sum over the tokens. // ()
    pub loss: Tensor,
    /// `exp(logprobs - sampling_logprobs)` of each token, without gradient. // (N,)
    pub ratio: Tensor,
    /// Whether the ratio was clipped below: the advantage is negative and the token already less likely. // (N,)
    pub clipped_low: Tensor,
    /// Whether the ratio was clipped above, where the advantage is positive and the token already more likely, or was
    /// capped. // (N,)
    pub clipped_high: Tensor,
    /// The k3 estimate of the divergence from the reference policy, without gradient. // (N,)
    pub kl: Option<Tensor>,
}

/// Computes the weighted sum over tokens of `surrogate + kl_coef k3 - entropy_coef entropy`, with
/// `k3 = exp(ref - logp) - (ref - logp) - 1` (GRPO, arXiv:2402.03300, eq. 4).
pub fn policy_loss(inputs: &PolicyInputs<'_>, knobs: PolicyKnobs) -> PolicyLoss {
    let log_ratio = inputs.logprobs - inputs.sampling_logprobs; // (N,)
    let cap = 1.0 + knobs.clip_high;
    let (mut per_token, clipped_low, clipped_high) = match knobs.surrogate {
        Surrogate::TokenRatio => clipped_surrogate(&log_ratio.exp(), inputs.advantages, knobs),
        Surrogate::SequenceRatio => {
            clipped_surrogate(&sequence_means(&log_ratio, inputs.lengths).exp(), inputs.advantages, knobs)
        }
        Surrogate::CappedWeight => {
            let ratio = log_ratio.detach().exp();
            let per_token = (ratio.clamp_max(cap) * inputs.advantages * inputs.logprobs).neg();
            (per_token, ratio.zeros_like().to_kind(Kind::Bool), ratio.gt(cap))
        }
    }; // each (N,)
    let kl = inputs.ref_logprobs.map(|reference| {
        let difference = reference - inputs.logprobs;
        difference.exp() - &difference - 1.0
    });
    if let Some(kl) = kl.as_ref().filter(|_| knobs.kl_coef != 0.0) {
        per_token += kl * knobs.kl_coef;
    }
    if let Some(entropy) = inputs.entropy.filter(|_| knobs.entropy_coef != 0.0) {
        per_token -= entropy * knobs.entropy_coef;
    }
    PolicyLoss {
        loss: (per_token * inputs.weights).sum(inputs.logprobs.kind()),
        ratio: log_ratio.exp().detach(),
        clipped_low,
        clipped_high,
        kl: kl.map(|kl| kl.detach()),
    }
}

/// Returns `-min(ratio A, clip(ratio) A)`, and whether it was clipped below or above. // (N,), (N,) -> each (N,)
fn clipped_surrogate(ratio: &Tensor, advantages: &Tensor, knobs: PolicyKnobs) -> (Tensor, Tensor, Tensor) {
    let unclipped = ratio * advantages;
    let clipped = ratio.clamp(1.0 - knobs.clip_low, 1.0 + knobs.clip_high) * advantages;
    let taken = clipped.lt_tensor(&unclipped);
    let (low, high) = (taken.logical_and(&advantages.lt(0.0)), taken.logical_and(&advantages.gt(0.0)));
    (unclipped.minimum(&clipped).neg(), low, high)
}

/// Returns the mean of each completion, repeated for each of its tokens. // (N,) -> (N,)
fn sequence_means(values: &Tensor, lengths: &[i64]) -> Tensor {
    let parts: Vec<Tensor> = values
        .split_with_sizes(lengths, 0)
        .iter()
        .zip(lengths)
        .map(|(part, &length)| part.mean(values.kind()).expand([length], false))
        .collect();
    Tensor::cat(&parts, 0)
}
