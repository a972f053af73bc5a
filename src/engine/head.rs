//! Token log-probabilities from hidden states, without the whole (N, V) logits. The head runs in chunks of positions,
//! forward and backward.
//!
//! The backward pass is explicit. It turns the gradient on log-probabilities and entropies into the gradient on the
//! logits (`logits_grad`). Autograd receives the inner product of that gradient with the hidden states, and with W if W
//! is trained. The gradients of the inner product are exactly those of the chunked head.

use crate::models::Decoder;
use crate::products;
use std::ops::Range;
use tch::{Kind, Tensor};

/// Number of positions whose logits are in memory at a time. A GPU needs more at a time to be busy.
const CHUNK: i64 = 512;
const CHUNK_OF_A_GPU: i64 = 2048;

/// The head's values for each position.
#[derive(Debug)]
pub struct TokenLogprobs {
    /// Log-probability of the target. // (N,)
    pub logprobs: Tensor,
    /// Entropy of the distribution, in nats. // (N,)
    pub entropy: Tensor,
}

/// Computes the log-probabilities of `targets` and the entropies at `temperature`, without gradients.
/// // (N, C), (N,) -> (N,)
pub fn logprobs(decoder: &Decoder, hidden: &Tensor, targets: &Tensor, temperature: f64) -> TokenLogprobs {
    tch::no_grad(|| {
        let mut parts = Parts::default();
        let head = widened_head(decoder);
        for tokens in chunks(hidden) {
            let log_softmax = log_softmax(&head, &narrow(hidden, &tokens), temperature);
            parts.push(&log_softmax, &narrow(targets, &tokens));
        }
        parts.finish()
    })
}

/// The gradient of a loss with respect to [`TokenLogprobs`].
#[derive(Debug)]
pub struct TokenGrads {
    /// Gradient on the log-probabilities. // (N,)
    pub logprobs: Tensor,
    /// Gradient on the entropies; absent if the loss does not use them. // (N,)
    pub entropy: Option<Tensor>,
}

/// Adds the gradients of `sum(grad * logp)` to the weights, through the graph of `hidden`. Returns the
/// log-probabilities. // (N, C), (N,), (N,) -> (N,)
pub fn backward(decoder: &Decoder, hidden: &Tensor, targets: &Tensor, grad: &Tensor, temperature: f64) -> Tensor {
    follow(decoder, hidden, targets, temperature, false, |tokens, _, _| TokenGrads {
        logprobs: narrow(grad, &tokens),
        entropy: None,
    })
}

/// Adds gradients like [`backward`], but for a loss that depends on the log-probabilities. `loss` receives the tokens
/// of a chunk, as a range of the N, with their [`TokenLogprobs`], and returns its gradient. The head runs forward only
/// once.
pub fn backward_with(
    decoder: &Decoder,
    hidden: &Tensor,
    targets: &Tensor,
    temperature: f64,
    mut loss: impl FnMut(Range<i64>, &TokenLogprobs) -> TokenGrads,
) {
    let _ = follow(decoder, hidden, targets, temperature, true, |tokens, logprobs, entropy| {
        let entropy = entropy.expect("entropies are computed").shallow_clone();
        loss(tokens, &TokenLogprobs { logprobs: logprobs.shallow_clone(), entropy })
    });
}

/// Runs the head forward and backward, chunk by chunk. `grads` receives a chunk's tokens with their log-probabilities
/// and, with `with_entropy`, their entropies. // each (n,)
fn follow(
    decoder: &Decoder,
    hidden: &Tensor,
    targets: &Tensor,
    temperature: f64,
    with_entropy: bool,
    mut grads: impl FnMut(Range<i64>, &Tensor, Option<&Tensor>) -> TokenGrads,
) -> Tensor {
    let head = decoder.head();
    let wide = tch::no_grad(|| widened_head(decoder));
    let mut logprobs = Vec::new();
    let mut hidden_grads = Vec::new();
    let mut head_grad: Option<Tensor> = None;
    let detached = hidden.detach();
    for tokens in chunks(hidden) {
        let rows = narrow(&detached, &tokens); // (n, C)
        let targets = narrow(targets, &tokens).unsqueeze(1); // (n, 1)
        let chunk = tch::no_grad(|| Distributions::new(log_softmax(&wide, &rows, temperature), &targets, with_entropy));
        let grads = grads(tokens, &chunk.of_targets, chunk.entropy.as_ref().map(|(_, entropy)| entropy));
        logprobs.push(chunk.of_targets.shallow_clone());
        tch::no_grad(|| {
            let logits_grad = chunk.logits_grad(&targets, &grads, temperature).to_kind(wide.kind());
            hidden_grads.push(logits_grad.matmul(&wide)); // (n, C)
            if head.requires_grad() {
                let by_token = logits_grad.transpose(0, 1); // (V, n)
                head_grad = Some(match head_grad.take() {
                    // in place, so that only one matrix of the head's size exists beside the widened head
                    Some(mut sum) if wide.kind() != head.kind() => sum.addmm_(&by_token, &rows),
                    Some(mut sum) => sum.g_add_(&by_token.matmul(&rows)),
                    None => by_token.matmul(&rows), // (V, C)
                });
            }
        });
    }
    drop(wide);
    let mut surrogate = (hidden * Tensor::cat(&hidden_grads, 0)).sum(Kind::Float);
    let head_grad = head_grad.map(|wide| wide.to_kind(head.kind()));
    if let Some(head_grad) = head_grad {
        surrogate += (head * head_grad).sum(Kind::Float);
    }
    surrogate.backward();
    Tensor::cat(&logprobs, 0)
}

/// The distributions of a chunk's tokens. Each matrix is read and written as seldom as possible.
struct Distributions {
    /// Probabilities. // (n, V)
    softmax: Tensor,
    /// Log-probability of each target. // (n,)
    of_targets: Tensor,
    /// Log-probabilities, and the entropy of each distribution in nats; absent if they are not needed. // (n, V), (n,)
    entropy: Option<(Tensor, Tensor)>,
}

impl Distributions {
    /// Creates the distributions from their log-probabilities. // (n, V), (n, 1)
    fn new(mut log_softmax: Tensor, targets: &Tensor, with_entropy: bool) -> Self {
        let of_targets = log_softmax.gather(1, targets, false).squeeze_dim(1);
        if !with_entropy {
            return Self { softmax: log_softmax.exp_(), of_targets, entropy: None };
        }
        let softmax = log_softmax.exp();
        let entropy = entropy(&(&softmax * &log_softmax));
        Self { softmax, of_targets, entropy: Some((log_softmax, entropy)) }
    }

    /// Returns the gradient on the logits z. With p the softmax of z / temperature:
    ///
    /// - A gradient g on `log p[target]` is `g (onehot(target) - p) / temperature` on z.
    /// - A gradient h on the entropy H is `-h p (log p + H) / temperature` on z.
    ///
    /// // (n, 1) -> (n, V)
    fn logits_grad(self, targets: &Tensor, grads: &TokenGrads, temperature: f64) -> Tensor {
        let on_targets = grads.logprobs.unsqueeze(1) / temperature; // (n, 1)
        let mut grad = self.softmax; // p
        let _ = match (&grads.entropy, self.entropy) {
            (Some(on_entropy), Some((mut log_softmax, entropy))) => {
                let on_entropy = on_entropy.unsqueeze(1) / temperature; // (n, 1)
                let mut factor = log_softmax.g_add_(&entropy.unsqueeze(1)).g_mul_(&on_entropy).g_add_(&on_targets);
                grad.g_mul_(&factor.neg_())
            }
            (_, unused) => {
                drop(unused);
                grad.g_mul_(&on_targets.neg())
            }
        };
        grad.scatter_add_(1, targets, &on_targets)
    }
}

fn chunks(hidden: &Tensor) -> impl Iterator<Item = Range<i64>> {
    let total = hidden.size()[0];
    let chunk = if hidden.device().is_cuda() { CHUNK_OF_A_GPU } else { CHUNK };
    let starts = (0..total).step_by(usize::try_from(chunk).expect("the chunk is positive"));
    starts.map(move |start| start..total.min(start + chunk))
}

/// Returns the rows of the range `tokens`. // (N, ...) -> (n, ...)
fn narrow(all: &Tensor, tokens: &Range<i64>) -> Tensor {
    all.narrow(0, tokens.start, tokens.end - tokens.start)
}

/// Returns the entropy of each distribution in nats, from its p log p. // (n, V) -> (n,)
fn entropy(products: &Tensor) -> Tensor {
    products.sum_dim_intlist(-1, false, Kind::Float).neg()
}

/// Returns the log-probabilities of all tokens in 32 bits, for any format of the weights. // (V, C), (n, C) -> (n, V)
fn log_softmax(head: &Tensor, rows: &Tensor, temperature: f64) -> Tensor {
    let mut logits = products::linear(rows, head, None).to_kind(Kind::Float);
    if (temperature - 1.0).abs() > f64::EPSILON {
        let _ = logits.g_div_scalar_(temperature);
    }
    logits.log_softmax(-1, Kind::Float)
}

/// Returns the head's weight in the format of hidden states, converted once for all chunks. // (V, C)
fn widened_head(decoder: &Decoder) -> Tensor {
    decoder.head().to_kind(decoder.activations())
}

#[derive(Default)]
struct Parts {
    logprobs: Vec<Tensor>,
    entropy: Vec<Tensor>,
}

impl Parts {
    fn push(&mut self, log_softmax: &Tensor, targets: &Tensor) {
        self.logprobs.push(log_softmax.gather(1, &targets.unsqueeze(1), false).squeeze_dim(1));
        self.entropy.push(entropy(&log_softmax.exp().g_mul_(log_softmax)));
    }

    fn finish(self) -> TokenLogprobs {
        TokenLogprobs { logprobs: Tensor::cat(&self.logprobs, 0), entropy: Tensor::cat(&self.entropy, 0) }
    }
}
