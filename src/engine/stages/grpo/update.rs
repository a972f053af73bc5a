//! One update of the policy: the gradients of a micro-batch of rated completions, and their metrics.

use super::super::Context;
use super::super::scoring::SampledCompletion;
use crate::error::{StageError, StageResult};
use crate::head::{self, TokenGrads, TokenLogprobs};
use crate::loss::{PolicyInputs, PolicyKnobs, PolicyLoss, Surrogate, policy_loss, token_weights};
use crate::models::{Decoder, Group, Packed, PassOptions, TrainingPass};
use orchestrate_core::event::{EventKind, FailureClass};
use orchestrate_core::recipe::spec::GrpoSpec;
use std::collections::BTreeMap;
use std::ops::Range;
use tch::{Device, Kind, Tensor};

/// Maximum deviation of the mean ratio from 1 in an on-policy step in 32 bits, where sampling and training must agree.
const RATIO_TOLERANCE: f64 = 1e-4;
/// Deviation above which there is a warning. In 16 bits, rounding depends on the shapes of a batch.
const RATIO_TOLERANCE_16_BIT: f64 = 5e-2;

/// A completion in the loss.
#[derive(Clone, Copy, Debug)]
pub struct Rated<'a> {
    /// Tokens of the completion's prompt.
    pub prompt_ids: &'a [i64],
    /// Tokens of the completion.
    pub ids: &'a [i64],
    /// Log-probability of each token when it was sampled.
    pub sampling_logprobs: &'a [f32],
    /// Advantages of the tokens over those of the other completions of the group.
    pub advantages: TokenAdvantages<'a>,
    /// Weight of each of the completion's tokens in the step's loss.
    pub weight: f64,
}

/// The advantages of a completion's tokens.
#[derive(Clone, Copy, Debug)]
pub enum TokenAdvantages<'a> {
    /// All tokens have this one.
    Alike(f64),
    /// Each token has its own.
    Each(&'a [f64]),
}

impl TokenAdvantages<'_> {
    fn at(self, token: usize) -> f64 {
        match self {
            Self::Alike(advantage) => advantage,
            Self::Each(advantages) => advantages[token],
        }
    }
}

impl<'a> Rated<'a> {
    /// Returns the completions of an update. `answers` are groups, one after the other. Those without an advantage are
    /// left out, and under `mask_truncated` those that were truncated. `credits` has the advantages of the tokens where
    /// they differ.
    pub(super) fn of(
        answers: &'a [SampledCompletion<'_>],
        advantages: &[Option<f64>],
        credits: impl Iterator<Item = Option<&'a [f64]>>,
        spec: &GrpoSpec,
    ) -> Vec<Self> {
        let lengths: Vec<Option<usize>> = answers
            .iter()
            .zip(advantages)
            .map(|(a, advantage)| {
                let takes_part =
                    advantage.is_some() && !(spec.loss.mask_truncated && a.sampled.stop_reason.truncated());
                takes_part.then_some(a.sampled.ids.len())
            })
            .collect();
        let weights = token_weights(&lengths, spec.loss.loss_type, spec.sampling.max_new_tokens);
        answers
            .iter()
            .zip(advantages)
            .zip(credits)
            .zip(weights)
            .filter(|(_, weight)| *weight > 0.0)
            .map(|(((answer, advantage), credits), weight)| Self {
                prompt_ids: &answer.example.prompt_ids,
                ids: &answer.sampled.ids,
                sampling_logprobs: &answer.sampled.logprobs,
                advantages: credits.map_or(TokenAdvantages::Alike(advantage.unwrap_or(0.0)), TokenAdvantages::Each),
                weight,
            })
            .collect()
    }
}

/// The options of an update.
#[derive(Clone, Copy, Debug)]
pub struct UpdateOptions {
    /// The settings of the loss.
    pub knobs: PolicyKnobs,
    /// Temperature of sampling, by which the logits are divided.
    pub temperature: f64,
    /// Whether only the input of each layer is kept.
    pub checkpointing: bool,
}

impl UpdateOptions {
    pub(super) fn new(spec: &GrpoSpec, checkpointing: bool) -> Self {
        let temperature = if spec.sampling.temperature == 0.0 { 1.0 } else { spec.sampling.temperature };
        Self { knobs: PolicyKnobs::from(&spec.loss), temperature, checkpointing }
    }
}

/// The metric of the divergence from the reference policy.
pub(super) const KL: &str = "grpo/kl";

/// Adds the gradients of one micro-batch. Adjacent completions with the same prompt share it, so it is computed once.
pub fn accumulate(
    decoder: &mut Decoder,
    reference: Option<&Reference>,
    micro_batch: &[Rated<'_>],
    options: UpdateOptions,
    sums: &mut Sums,
) {
    let UpdateOptions { knobs, temperature, checkpointing } = options;
    let device = decoder.device();
    let packed = packed(micro_batch, device);
    let tokens = Tokens::new(micro_batch, device);
    let ref_logprobs = reference.map(|reference| reference.logprobs(decoder, &packed, &tokens.targets, temperature));
    // without dropout, so the policy is the one that sampled
    let pass = TrainingPass::new(decoder, &packed, PassOptions { dropout_seed: None, checkpointing });
    let hidden = packed.predicting(pass.hidden()); // (N, C)
    let loss_of = |range: Range<i64>, lengths: &[i64], now: &TokenLogprobs, sums: &mut Sums| {
        let at = |all: &Tensor| all.narrow(0, range.start, range.end - range.start);
        let leaf = now.logprobs.detach().set_requires_grad(true);
        let entropy = (knobs.entropy_coef != 0.0).then(|| now.entropy.detach().set_requires_grad(true));
        let ref_logprobs = ref_logprobs.as_ref().map(at);
        let inputs = PolicyInputs {
            logprobs: &leaf,
            sampling_logprobs: &at(&tokens.sampling_logprobs),
            ref_logprobs: ref_logprobs.as_ref(),
            entropy: entropy.as_ref(),
            advantages: &at(&tokens.advantages),
            weights: &at(&tokens.weights),
            lengths,
        };
        let result = policy_loss(&inputs, knobs);
        result.loss.backward();
        sums.add(&result, now);
        TokenGrads { logprobs: leaf.grad(), entropy: entropy.map(|entropy| entropy.grad()) }
    };
    // the ratio of a whole completion needs all of its log-probabilities before the first gradient
    let ahead = (knobs.surrogate == Surrogate::SequenceRatio).then(|| {
        let now = head::logprobs(decoder, &hidden.detach(), &tokens.targets, temperature);
        loss_of(0..tokens.targets.size()[0], &tokens.lengths, &now, sums)
    });
    head::backward_with(decoder, &hidden, &tokens.targets, temperature, |range, now| match &ahead {
        Some(grads) => {
            let at = |all: &Tensor| all.narrow(0, range.start, range.end - range.start);
            TokenGrads { logprobs: at(&grads.logprobs), entropy: grads.entropy.as_ref().map(at) }
        }
        None => loss_of(range, &[], now, sums),
    });
    drop(hidden);
    pass.finish();
}

fn packed(micro_batch: &[Rated<'_>], device: Device) -> Packed {
    let groups: Vec<Group<'_>> = micro_batch
        .chunk_by(|a, b| a.prompt_ids == b.prompt_ids)
        .map(|group| Group { prompt: group[0].prompt_ids, completions: group.iter().map(|r| r.ids).collect() })
        .collect();
    Packed::grouped(&groups, device)
}

/// Returns the log-probabilities of the tokens of a micro-batch under the reference, end to end.
pub(super) fn reference_logprobs(
    decoder: &mut Decoder,
    reference: &Reference,
    micro_batch: &[Rated<'_>],
    temperature: f64,
) -> Vec<f32> {
    let device = decoder.device();
    let targets: Vec<i64> = micro_batch.iter().flat_map(|r| r.ids.iter().copied()).collect();
    let targets = Tensor::from_slice(&targets).to_device(device);
    let logprobs = reference.logprobs(decoder, &packed(micro_batch, device), &targets, temperature);
    let logprobs = logprobs.to_kind(Kind::Float).to_device(Device::Cpu);
    Vec::try_from(logprobs).expect("they are 32-bit numbers")
}

/// The tokens of a micro-batch's completions, end to end.
struct Tokens {
    targets: Tensor,           // (N,)
    sampling_logprobs: Tensor, // (N,)
    advantages: Tensor,        // (N,)
    weights: Tensor,           // (N,)
    lengths: Vec<i64>,
}

impl Tokens {
    fn new(micro_batch: &[Rated<'_>], device: Device) -> Self {
        let targets: Vec<i64> = micro_batch.iter().flat_map(|r| r.ids.iter().copied()).collect();
        let sampling = micro_batch.iter().flat_map(|r| r.sampling_logprobs.iter().copied());
        let per_token = |value: fn(&Rated<'_>, usize) -> f64| {
            micro_batch.iter().flat_map(move |r| (0..r.ids.len()).map(move |token| value(r, token) as f32))
        };
        // one copy to the device for all three
        let advantages = per_token(|r, token| r.advantages.at(token));
        let numbers: Vec<f32> = sampling.chain(advantages).chain(per_token(|r, _| r.weight)).collect();
        let numbers = Tensor::from_slice(&numbers)
            .to_device(device)
            .view([3, i64::try_from(targets.len()).expect("lengths fit i64")]);
        Self {
            targets: Tensor::from_slice(&targets).to_device(device),
            sampling_logprobs: numbers.get(0),
            advantages: numbers.get(1),
            weights: numbers.get(2),
            lengths: micro_batch.iter().map(|r| i64::try_from(r.ids.len()).expect("lengths fit i64")).collect(),
        }
    }
}

/// Sums over the tokens of an optimizer step, on the device until they are read.
#[derive(Debug, Default)]
pub struct Sums {
    sums: Option<Tensor>, // (7,), in 64 bits
    tokens: f64,
}

impl Sums {
    fn add(&mut self, result: &PolicyLoss, now: &TokenLogprobs) {
        let total = |t: &Tensor| t.sum(Kind::Double);
        let nothing = result.loss.zeros_like().to_kind(Kind::Double);
        let parts = [
            result.loss.to_kind(Kind::Double),
            total(&result.ratio),
            total(&(&result.ratio - 1.0).abs()),
            total(&result.clipped_low),
            total(&result.clipped_high),
            total(&now.entropy),
            result.kl.as_ref().map_or(nothing, total),
        ];
        let parts = Tensor::stack(&parts, 0).detach();
        self.tokens += result.ratio.size()[0] as f64;
        self.sums = Some(match self.sums.take() {
            Some(sums) => sums + parts,
            None => parts,
        });
    }

    /// Reads the sums, which waits for the device.
    pub fn read(&self) -> Totals {
        let sums = self.sums.as_ref().map(|sums| sums.to_device(Device::Cpu));
        let sums = sums.map(|sums| <[f64; 7]>::try_from(Vec::<f64>::try_from(sums).expect("they are 64-bit numbers")));
        let [loss, ratio, ratio_deviation, clipped_low, clipped_high, entropy, kl] =
            sums.map_or([0.0; 7], |sums| sums.expect("there are seven sums"));
        Totals { loss, tokens: self.tokens, ratio, ratio_deviation, clipped_low, clipped_high, entropy, kl }
    }
}

/// The sums over the tokens of an optimizer step.
#[derive(Clone, Copy, Debug)]
pub struct Totals {
    /// Weighted sum of the losses, which is the step's loss.
    pub loss: f64,
    tokens: f64,
    ratio: f64,
    ratio_deviation: f64,
    clipped_low: f64,
    clipped_high: f64,
    entropy: f64,
    kl: f64,
}

impl Totals {
    /// Returns the loss and the means over the tokens.
    pub(super) fn metrics(&self, with_kl: bool) -> BTreeMap<String, f64> {
        let mean = |sum: f64| sum / self.tokens;
        let mut metrics = BTreeMap::from([
            ("train/loss".to_owned(), self.loss),
            ("grpo/ratio_mean".to_owned(), mean(self.ratio)),
            ("grpo/ratio_deviation".to_owned(), mean(self.ratio_deviation)),
            ("grpo/clip_frac".to_owned(), mean(self.clipped_low + self.clipped_high)),
            ("grpo/clip_low_frac".to_owned(), mean(self.clipped_low)),
            ("grpo/clip_high_frac".to_owned(), mean(self.clipped_high)),
            ("grpo/entropy".to_owned(), mean(self.entropy)),
        ]);
        if with_kl {
            metrics.insert(KL.to_owned(), mean(self.kl));
        }
        metrics
    }
}

/// Checks that the first update of a rollout is on-policy: sampling and training must compute the same
/// log-probabilities. Returns an error in 32 bits and emits a warning otherwise.
pub(super) fn check_on_policy(context: &mut Context<'_>, totals: &Totals, kind: Kind, step: u64) -> StageResult<()> {
    let deviation = totals.ratio_deviation / totals.tokens;
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

/// The reference policy, which is the stage's input.
#[derive(Debug)]
pub enum Reference {
    /// The weights without the adapters, which had no effect when the stage began.
    Base,
    /// A copy of the trainable tensors from when the stage began.
    Copy(Vec<Tensor>),
}

impl Reference {
    /// Creates the reference from the current model. Call this before a resume point is restored.
    pub fn of(decoder: &Decoder) -> Self {
        if decoder.adapters_are_neutral() {
            return Self::Base;
        }
        Self::Copy(decoder.trainable().iter().map(|(_, t)| t.detach().copy()).collect())
    }

    /// Returns the log-probabilities of `targets` under the reference. // (N,)
    fn logprobs(&self, decoder: &mut Decoder, packed: &Packed, targets: &Tensor, temperature: f64) -> Tensor {
        self.run(decoder, |decoder| {
            let hidden = tch::no_grad(|| packed.predicting(&decoder.hidden(packed))); // (N, C)
            head::logprobs(decoder, &hidden, targets, temperature).logprobs
        })
    }

    /// Computes `compute` on the reference policy.
    fn run<T>(&self, decoder: &mut Decoder, compute: impl FnOnce(&Decoder) -> T) -> T {
        let Self::Copy(values) = self else { return decoder.without_adapters(compute) };
        let trainable = decoder.trainable();
        let current: Vec<Tensor> = trainable.iter().map(|(_, t)| t.data()).collect();
        let set = |values: &[Tensor]| {
            for ((_, tensor), value) in trainable.iter().zip(values) {
                tensor.shallow_clone().set_data(value);
            }
        };
        set(values);
        let result = compute(decoder);
        set(&current);
        result
    }
}
