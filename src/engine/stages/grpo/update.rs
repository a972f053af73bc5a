//! One update of the policy: the gradients of a micro-batch of rated completions, and what is logged of them.

use super::super::Context;
use super::super::scoring::Answer;
use crate::error::{StageError, StageResult};
use crate::head::{self, TokenGrads};
use crate::loss::{PolicyInputs, PolicyKnobs, policy_loss};
use crate::models::{Decoder, Packed, PassOptions, TrainingPass};
use orchestrate::event::{EventKind, FailureClass};
use orchestrate::recipe::spec::GrpoSpec;
use std::collections::BTreeMap;
use tch::{Kind, Tensor};

/// How far from 1 the mean ratio of an on-policy step may be in 32 bits: sampling and training must agree.
const RATIO_TOLERANCE: f64 = 1e-4;
/// The same in 16 bits, where rounding depends on the shapes of a batch; beyond it there is a warning.
const RATIO_TOLERANCE_16_BIT: f64 = 5e-2;

/// A completion that takes part in the loss.
pub(super) struct Rated<'a, 'b> {
    pub(super) answer: &'a Answer<'b>,
    pub(super) advantage: f64,
    /// Of each of its tokens in the step's loss.
    pub(super) weight: f64,
}

/// Adds the gradients of one micro-batch.
pub(super) fn accumulate(
    decoder: &Decoder,
    reference: Option<&Reference>,
    micro_batch: &[Rated<'_, '_>],
    spec: &GrpoSpec,
    checkpointing: bool,
    sums: &mut Sums,
) {
    let device = decoder.device();
    let rows: Vec<Vec<i64>> = micro_batch
        .iter()
        .map(|r| [r.answer.example.prompt_ids.as_slice(), r.answer.sampled.ids.as_slice()].concat())
        .collect();
    let packed = Packed::new(&rows, device);
    let mut positions = Vec::new();
    let mut lengths = Vec::new();
    for (rated, start) in micro_batch.iter().zip(packed.starts()) {
        let prompt = i64::try_from(rated.answer.example.prompt_ids.len()).expect("lengths fit i64");
        let length = i64::try_from(rated.answer.sampled.ids.len()).expect("lengths fit i64");
        positions.extend(start + prompt - 1..start + prompt + length - 1);
        lengths.push(length);
    }
    let positions = Tensor::from_slice(&positions).to_device(device); // (N,)
    let targets: Vec<i64> = micro_batch.iter().flat_map(|r| r.answer.sampled.ids.iter().copied()).collect();
    let targets = Tensor::from_slice(&targets).to_device(device); // (N,)
    let sampling: Vec<f32> = micro_batch.iter().flat_map(|r| r.answer.sampled.logprobs.iter().copied()).collect();
    let sampling_logprobs = Tensor::from_slice(&sampling).to_device(device); // (N,)
    let per_token = |value: &dyn Fn(&Rated<'_, '_>) -> f64| {
        let values: Vec<f32> =
            micro_batch.iter().flat_map(|r| std::iter::repeat_n(value(r) as f32, r.answer.sampled.ids.len())).collect();
        Tensor::from_slice(&values).to_device(device) // (N,)
    };
    let temperature = if spec.sampling.temperature == 0.0 { 1.0 } else { spec.sampling.temperature };
    let select = |hidden: &Tensor| hidden.index_select(0, &positions); // (N, C)

    let ref_logprobs = reference.map(|reference| {
        reference.swapped_in(decoder, || {
            let hidden = tch::no_grad(|| select(&decoder.hidden(&packed)));
            head::logprobs(decoder, &hidden, &targets, temperature).logprobs
        })
    });
    // no dropout: the policy is the one that sampled
    let pass = TrainingPass::new(decoder, &packed, PassOptions { dropout_seed: None, checkpointing });
    let hidden = select(pass.hidden());
    let now = head::logprobs(decoder, &hidden.detach(), &targets, temperature);
    let leaf = now.logprobs.detach().set_requires_grad(true);
    let entropy = (spec.loss.entropy_coef != 0.0).then(|| now.entropy.detach().set_requires_grad(true));
    let inputs = PolicyInputs {
        logprobs: &leaf,
        sampling_logprobs: &sampling_logprobs,
        ref_logprobs: ref_logprobs.as_ref(),
        entropy: entropy.as_ref(),
        advantages: &per_token(&|r| r.advantage),
        weights: &per_token(&|r| r.weight),
        lengths: &lengths,
    };
    let result = policy_loss(&inputs, PolicyKnobs::from(&spec.loss));
    result.loss.backward();
    let entropy_grad = entropy.map(|entropy| entropy.grad());
    let grads = TokenGrads { logprobs: &leaf.grad(), entropy: entropy_grad.as_ref() };
    let _ = head::backward(decoder, &hidden, &targets, grads, temperature);
    pass.finish();

    let total = |t: &Tensor| t.sum(Kind::Double).double_value(&[]);
    sums.loss += result.loss.double_value(&[]);
    sums.tokens += targets.size()[0] as f64;
    sums.ratio_deviation += total(&(&result.ratio - 1.0).abs());
    sums.clipped += total(&result.clipped);
    sums.entropy += total(&now.entropy);
    sums.kl += result.kl.as_ref().map_or(0.0, total);
}

/// Sums over the tokens of an optimizer step.
#[derive(Default)]
pub(super) struct Sums {
    pub(super) loss: f64,
    tokens: f64,
    ratio_deviation: f64,
    clipped: f64,
    entropy: f64,
    kl: f64,
}

impl Sums {
    /// Their means over the tokens.
    pub(super) fn metrics(&self, with_kl: bool) -> BTreeMap<String, f64> {
        let mean = |sum: f64| sum / self.tokens;
        let mut metrics = BTreeMap::from([
            ("train/loss".to_owned(), self.loss),
            ("grpo/ratio_deviation".to_owned(), mean(self.ratio_deviation)),
            ("grpo/clip_frac".to_owned(), mean(self.clipped)),
            ("grpo/entropy".to_owned(), mean(self.entropy)),
        ]);
        if with_kl {
            metrics.insert("grpo/kl".to_owned(), mean(self.kl));
        }
        metrics
    }
}

/// The first update of a rollout is on-policy: what training computes must be what sampling computed.
pub(super) fn check_on_policy(context: &mut Context<'_>, sums: &Sums, kind: Kind, step: u64) -> StageResult<()> {
    let deviation = sums.ratio_deviation / sums.tokens;
    if kind == Kind::Float && deviation > RATIO_TOLERANCE {
        return Err(StageError {
            class: FailureClass::NonFinite,
            message: format!(
                "at step {step} sampling and training disagree: the on-policy ratio is off 1 by {deviation:.1e}"
            ),
            hint: Some("this is a defect of the engine; please report the recipe".to_owned()),
        });
    }
    if deviation > RATIO_TOLERANCE_16_BIT {
        context.emit(&EventKind::Warning(format!(
            "step {step}: the on-policy ratio is off 1 by {deviation:.2} on average; 16-bit rounding this large distorts \
             the update, consider `dtype = \"float32\"`"
        )))?;
    }
    Ok(())
}

/// The stage's input, kept to measure the divergence from.
pub(super) struct Reference {
    values: Vec<Tensor>,
}

impl Reference {
    pub(super) fn of(decoder: &Decoder) -> Self {
        Self { values: decoder.trainable().iter().map(|(_, t)| t.detach().copy()).collect() }
    }

    /// Runs `compute` with the reference's weights in the policy's place.
    fn swapped_in<T>(&self, decoder: &Decoder, compute: impl FnOnce() -> T) -> T {
        let trainable = decoder.trainable();
        let current: Vec<Tensor> = trainable.iter().map(|(_, t)| t.data()).collect();
        let set = |values: &[Tensor]| {
            for ((_, tensor), value) in trainable.iter().zip(values) {
                tensor.shallow_clone().set_data(value);
            }
        };
        set(&self.values);
        let result = compute();
        set(&current);
        result
    }
}
