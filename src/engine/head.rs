//! Token log-probabilities from hidden states, without the whole (N, V) logits: the head runs in chunks of positions,
//! forward and backward.
//!
//! The backward pass is written out: with `logp = log_softmax(h W^T / temperature)[target]`, a gradient g on `logp` is
//! `g (onehot(target) - softmax) / temperature` on the logits. It is handed to autograd as the inner product with
//! the hidden states (and with W when W is trained), whose gradients are then exactly those of the chunked head. A gradient
//! e on the entropy `H = -sum(p log p)` of the same distribution is `-e p (log p + H) / temperature` on the logits.

use crate::models::Decoder;
use tch::{Kind, Tensor};

/// Positions whose logits exist at a time.
const CHUNK: i64 = 512;

/// What the head says of each position.
#[derive(Debug)]
pub struct TokenLogprobs {
    /// Log-probability of the target. // (N,)
    pub logprobs: Tensor,
    /// Entropy of the distribution, in nats. // (N,)
    pub entropy: Tensor,
}

/// Gradients of a loss with respect to what the head says of each position.
#[derive(Clone, Copy, Debug)]
pub struct TokenGrads<'a> {
    /// With respect to the log-probabilities. // (N,)
    pub logprobs: &'a Tensor,
    /// With respect to the entropies. // (N,)
    pub entropy: Option<&'a Tensor>,
}

/// Log-probabilities of `targets` at `temperature`, without gradients. // (N, C), (N,) -> (N,)
pub fn logprobs(decoder: &Decoder, hidden: &Tensor, targets: &Tensor, temperature: f64) -> TokenLogprobs {
    tch::no_grad(|| {
        let mut parts = Parts::default();
        for (start, length) in chunks(hidden) {
            let log_softmax = log_softmax(decoder, &hidden.narrow(0, start, length), temperature);
            parts.push(&log_softmax, &targets.narrow(0, start, length));
        }
        parts.finish()
    })
}

/// Adds to the gradients what `grads` cause, `hidden` carrying its graph, and returns the log-probabilities.
/// // (N, C), (N,), (N,) -> (N,)
pub fn backward(
    decoder: &Decoder,
    hidden: &Tensor,
    targets: &Tensor,
    grads: TokenGrads<'_>,
    temperature: f64,
) -> Tensor {
    let head = decoder.head();
    let mut logprobs = Vec::new();
    let mut hidden_grads = Vec::new();
    let mut head_grad: Option<Tensor> = None;
    tch::no_grad(|| {
        let detached = hidden.detach();
        for (start, length) in chunks(hidden) {
            let rows = detached.narrow(0, start, length); // (n, C)
            let targets = targets.narrow(0, start, length).unsqueeze(1); // (n, 1)
            let log_softmax = log_softmax(decoder, &rows, temperature); // (n, V)
            logprobs.push(log_softmax.gather(1, &targets, false).squeeze_dim(1));
            let of_chunk = |grad: &Tensor| grad.narrow(0, start, length).unsqueeze(1) / temperature; // (n, 1)
            let grad = of_chunk(grads.logprobs);
            let mut probabilities = log_softmax.exp(); // (n, V)
            let mut logits_grad = match grads.entropy {
                None => probabilities.g_mul_(&grad.neg()),
                Some(entropy_grad) => {
                    let entropy = entropy(&probabilities, &log_softmax).unsqueeze(1); // (n, 1)
                    let factor = (&log_softmax + entropy).g_mul_(&of_chunk(entropy_grad)).g_add_(&grad); // (n, V)
                    probabilities.g_mul_(&factor.neg())
                }
            }; // (n, V)
            drop(log_softmax);
            let _ = logits_grad.scatter_add_(1, &targets, &grad);
            let logits_grad = logits_grad.to_kind(head.kind());
            hidden_grads.push(logits_grad.matmul(head)); // (n, C)
            if head.requires_grad() {
                let update = logits_grad.transpose(0, 1).matmul(&rows); // (V, C)
                head_grad = Some(match head_grad.take() {
                    Some(mut sum) => sum.g_add_(&update),
                    None => update,
                });
            }
        }
    });
    let mut surrogate = (hidden * Tensor::cat(&hidden_grads, 0)).sum(Kind::Float);
    if let Some(head_grad) = head_grad {
        surrogate += (head * head_grad).sum(Kind::Float);
    }
    surrogate.backward();
    Tensor::cat(&logprobs, 0)
}

fn chunks(hidden: &Tensor) -> impl Iterator<Item = (i64, i64)> {
    let total = hidden.size()[0];
    (0..total).step_by(usize::try_from(CHUNK).expect("the chunk is positive")).map(move |s| (s, CHUNK.min(total - s)))
}

/// In 32 bits, whatever the weights are held in. // (n, C) -> (n, V)
fn log_softmax(decoder: &Decoder, rows: &Tensor, temperature: f64) -> Tensor {
    let mut logits = decoder.logits(rows).to_kind(Kind::Float);
    if (temperature - 1.0).abs() > f64::EPSILON {
        let _ = logits.g_div_scalar_(temperature);
    }
    logits.log_softmax(-1, Kind::Float)
}

/// Of each row, in nats. // (n, V), (n, V) -> (n,)
fn entropy(probabilities: &Tensor, log_softmax: &Tensor) -> Tensor {
    (probabilities * log_softmax).sum_dim_intlist(-1, false, Kind::Float).neg()
}

#[derive(Default)]
struct Parts {
    logprobs: Vec<Tensor>,
    entropy: Vec<Tensor>,
}

impl Parts {
    fn push(&mut self, log_softmax: &Tensor, targets: &Tensor) {
        self.logprobs.push(log_softmax.gather(1, &targets.unsqueeze(1), false).squeeze_dim(1));
        self.entropy.push(log_softmax.exp().g_mul_(log_softmax).sum_dim_intlist(-1, false, Kind::Float).neg());
    }

    fn finish(self) -> TokenLogprobs {
        TokenLogprobs { logprobs: Tensor::cat(&self.logprobs, 0), entropy: Tensor::cat(&self.entropy, 0) }
    }
}
