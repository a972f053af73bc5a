//! The adapter's gradient from a micro-batch, for every loss type, compared with the change of the loss under a small
//! change of the adapter. It covers the head, the entropy bonus and all layers.

use crate::golden::path;
use orchestrate_core::recipe::spec::LossType;
use orchestrate_engine::adapter;
use orchestrate_engine::head::{self, TokenGrads};
use orchestrate_engine::loss::{PolicyInputs, PolicyKnobs, policy_loss, token_weights};
use orchestrate_engine::models::{Decoder, Packed, PassOptions, TrainingPass};
use tch::{Device, Kind, Tensor};

const PROMPT: i64 = 3;
const LENGTHS: [usize; 3] = [4, 7, 5];
const TEMPERATURE: f64 = 0.8;

struct Batch {
    packed: Packed,
    positions: Tensor,    // (N,)
    targets: Tensor,      // (N,)
    log_ratio: Tensor,    // (N,)
    ref_logprobs: Tensor, // (N,)
    advantages: Tensor,   // (N,)
    token_counts: Vec<i64>,
}

fn batch(decoder: &Decoder) -> Batch {
    let token_counts = LENGTHS.map(|n| i64::try_from(n).unwrap());
    let rows: Vec<Vec<i64>> = (0i64..)
        .zip(token_counts)
        .map(|(i, n)| (0..PROMPT + n).map(|t| (i * 97 + t * 31 + t * t * 7) % 320).collect())
        .collect();
    let packed = Packed::new(&rows, Device::Cpu);
    let starts = packed.starts();
    let positions: Vec<i64> =
        starts.iter().zip(token_counts).flat_map(|(start, n)| start + PROMPT - 1..start + PROMPT - 1 + n).collect();
    let targets: Vec<i64> = rows.iter().flat_map(|row| row[usize::try_from(PROMPT).unwrap()..].to_vec()).collect();
    let (positions, targets) = (Tensor::from_slice(&positions), Tensor::from_slice(&targets));
    let count = positions.size()[0];
    // ratios on both sides of both clipping bounds, none of them near a bound
    let log_ratio = (Tensor::arange(count, (Kind::Double, Device::Cpu)) * 1.7).sin() * 0.5;
    let hidden = tch::no_grad(|| decoder.hidden(&packed).index_select(0, &positions));
    let now = head::logprobs(decoder, &hidden, &targets, TEMPERATURE).logprobs.to_kind(Kind::Double);
    let ref_logprobs = now + (Tensor::arange(count, (Kind::Double, Device::Cpu)) * 0.9).cos() * 0.3;
    let advantages: Vec<f64> =
        [1.2, -0.7, 0.4].iter().zip(LENGTHS).flat_map(|(&a, n)| std::iter::repeat_n(a, n)).collect();
    let advantages = Tensor::from_slice(&advantages);
    Batch { packed, positions, targets, log_ratio, ref_logprobs, advantages, token_counts: token_counts.to_vec() }
}

/// Computes the loss from log-probabilities and entropies in 64 bits, including its gradients.
fn loss(batch: &Batch, logprobs: &Tensor, sampling: &Tensor, entropy: &Tensor, loss_type: LossType) -> Tensor {
    let weights: Vec<f64> = token_weights(&LENGTHS.map(Some), loss_type, 10)
        .iter()
        .zip(LENGTHS)
        .flat_map(|(&weight, n)| std::iter::repeat_n(weight, n))
        .collect();
    let inputs = PolicyInputs {
        logprobs,
        sampling_logprobs: sampling,
        ref_logprobs: Some(&batch.ref_logprobs),
        entropy: Some(entropy),
        advantages: &batch.advantages,
        weights: &Tensor::from_slice(&weights),
        lengths: &batch.token_counts,
    };
    let knobs =
        PolicyKnobs { surrogate: loss_type.into(), clip_low: 0.2, clip_high: 0.28, kl_coef: 0.1, entropy_coef: 0.05 };
    policy_loss(&inputs, knobs).loss
}

/// Computes the loss of the current weights. CISPO does not differentiate its ratios, so they are held constant here.
fn value(decoder: &Decoder, batch: &Batch, sampling: &Tensor, loss_type: LossType) -> f64 {
    let hidden = tch::no_grad(|| decoder.hidden(&batch.packed).index_select(0, &batch.positions));
    let now = head::logprobs(decoder, &hidden, &batch.targets, TEMPERATURE);
    let (logprobs, entropy) = (now.logprobs.to_kind(Kind::Double), now.entropy.to_kind(Kind::Double));
    let held = &logprobs - &batch.log_ratio;
    let sampling = if loss_type == LossType::Cispo { &held } else { sampling };
    loss(batch, &logprobs, sampling, &entropy, loss_type).double_value(&[])
}

/// Accumulates the gradient of the loss on the adapter, as an update does. Returns the sampling log-probabilities for
/// which `log_ratio` is the log-ratio. // (N,)
fn accumulate(decoder: &Decoder, batch: &Batch, loss_type: LossType) -> Tensor {
    for (_, mut parameter) in decoder.trainable() {
        parameter.zero_grad();
    }
    let pass = TrainingPass::new(decoder, &batch.packed, PassOptions { dropout_seed: None, checkpointing: false });
    let hidden = pass.hidden().index_select(0, &batch.positions);
    let now = head::logprobs(decoder, &hidden.detach(), &batch.targets, TEMPERATURE);
    let logprobs = now.logprobs.to_kind(Kind::Double).set_requires_grad(true);
    let entropy = now.entropy.to_kind(Kind::Double).set_requires_grad(true);
    let sampling = logprobs.detach() - &batch.log_ratio;
    loss(batch, &logprobs, &sampling, &entropy, loss_type).backward();
    let (logprobs_grad, entropy_grad) = (logprobs.grad().to_kind(Kind::Float), entropy.grad().to_kind(Kind::Float));
    head::backward_with(decoder, &hidden, &batch.targets, TEMPERATURE, |range, _| {
        let at = |t: &Tensor| t.narrow(0, range.start, range.end - range.start);
        TokenGrads { logprobs: at(&logprobs_grad), entropy: Some(at(&entropy_grad)) }
    });
    pass.finish();
    sampling
}

/// Returns the derivative of the loss along `direction`, by a central difference with weights moved by `step`.
fn derivative(decoder: &Decoder, direction: &[(Tensor, Tensor)], step: f64, value: impl Fn(&Decoder) -> f64) -> f64 {
    let shift = |by: f64| {
        tch::no_grad(|| {
            for (parameter, direction) in direction {
                let _ = parameter.shallow_clone().g_add_(&(direction * by));
            }
        });
    };
    shift(step);
    let above = value(decoder);
    shift(-2.0 * step);
    let below = value(decoder);
    shift(step);
    (above - below) / (2.0 * step)
}

#[test]
fn the_gradient_of_every_loss_type_equals_finite_differences() {
    let mut decoder = Decoder::load(&path("decoders/llama"), Kind::Float, Device::Cpu).unwrap();
    adapter::attach(&path("lora"), &mut decoder).unwrap();
    let batch = batch(&decoder);
    let mut gradients = Vec::new();
    for loss_type in [LossType::Grpo, LossType::Dapo, LossType::DrGrpo, LossType::Gspo, LossType::Cispo] {
        let sampling = accumulate(&decoder, &batch, loss_type);
        let with_grads: Vec<(String, Tensor, Tensor)> = decoder
            .trainable()
            .into_iter()
            .map(|(name, parameter)| (name, parameter.shallow_clone(), parameter.grad().copy()))
            .collect();
        let norm =
            with_grads.iter().map(|(_, _, g)| g.square().sum(Kind::Double).double_value(&[])).sum::<f64>().sqrt();

        // only the element of one B with the largest gradient
        let (_, b, grad) = with_grads.iter().find(|(name, ..)| name.contains("lora_B")).unwrap();
        let steepest = grad.abs().argmax(None, false);
        let element = Tensor::zeros_like(grad).view([-1]).index_fill(0, &steepest, 1.0).view_as(grad);
        let exact = grad.view([-1]).double_value(&[steepest.int64_value(&[])]);
        let direction = [(b.shallow_clone(), element)];
        let numeric = derivative(&decoder, &direction, 2e-3, |d| value(d, &batch, &sampling, loss_type));
        assert!(
            (numeric - exact).abs() < 0.02 * exact.abs(),
            "{loss_type:?}: an element of B has {exact}, not {numeric}"
        );

        // all parameters at once, along the gradient, where the derivative is the gradient's norm
        let direction: Vec<(Tensor, Tensor)> =
            with_grads.iter().map(|(_, p, g)| (p.shallow_clone(), g / norm)).collect();
        let numeric = derivative(&decoder, &direction, 2e-3, |d| value(d, &batch, &sampling, loss_type));
        assert!((numeric - norm).abs() < 0.01 * norm, "{loss_type:?}: the gradient's norm is {norm}, not {numeric}");
        gradients.push(norm);
    }
    for (i, one) in gradients.iter().enumerate() {
        assert!(
            gradients[..i].iter().all(|other| (one - other).abs() > 1e-6 * one),
            "no two are the same: {gradients:?}"
        );
    }
}
