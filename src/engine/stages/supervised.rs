//! The loop of CPT and SFT: next-token cross-entropy, averaged over the trained tokens of the whole optimizer step.

use super::training;
use super::{Context, Outcome};
use crate::checkpoint;
use crate::data::{Mixture, PackedRow, Sequence};
use crate::error::StageResult;
use crate::head;
use crate::models::{Decoder, Packed, PassOptions, TrainingPass};
use crate::optim::Optimizer;
use crate::policy::Policy;
use crate::seed;
use crate::torch::Deterministic;
use orchestrate_core::event::StepPart;
use orchestrate_core::recipe::spec::{Length, OptimizerSpec};
use orchestrate_core::workspace::Assignment;
use std::path::Path;
use std::time::Instant;
use tch::{Device, Kind, Tensor};

/// The options of the loop.
pub(super) struct SupervisedOptions<'a> {
    pub(super) length: Length,
    pub(super) global_batch_size: usize,
    pub(super) micro_batch_size: usize,
    pub(super) optimizer: &'a OptimizerSpec,
}

/// Trains `policy` on `rows`. Their order depends only on the stage's seed.
pub(super) fn train(
    context: &mut Context<'_>,
    assignment: &Assignment,
    policy: &Policy<'_>,
    rows: &Mixture<PackedRow>,
    knobs: &SupervisedOptions<'_>,
) -> StageResult<Outcome> {
    let seed = assignment.spec.seed;
    let drops = crate::policy::model(assignment)?.lora.as_ref().is_some_and(|lora| lora.dropout > 0.0);
    let total_steps = total_steps(knobs.length, rows.count(), knobs.global_batch_size);
    let mut optimizer = Optimizer::new(policy.decoder.trainable(), knobs.optimizer);
    let mut progress = training::start(context, &policy.decoder, &mut optimizer, total_steps)?;

    let last_step = training::last_step(assignment, total_steps);
    while progress.step < last_step {
        training::snapshot(context, assignment, policy, (progress.step, &progress.result("train/loss")), |_| Ok(()))?;
        let started = Instant::now();
        let first = progress.step * knobs.global_batch_size as u64;
        let batch: Vec<&PackedRow> =
            (first..first + knobs.global_batch_size as u64).map(|position| rows.at(seed, position)).collect();
        let sequences = || batch.iter().flat_map(|row| &row.sequences);
        let trained_tokens: usize = sequences().map(Sequence::trained_tokens).sum();
        let tokens: usize = sequences().map(|s| s.ids.len()).sum();

        let mut losses = Vec::new();
        let micro_batches = batch.chunks(knobs.micro_batch_size);
        let parts = micro_batches.len() as f64;
        for (index, micro_batch) in micro_batches.enumerate() {
            let part =
                StepPart { step: progress.step + 1, total_steps, share: index as f64 / parts, share_of_stage: None };
            if context.should_drop_step(part)? {
                let write = |dir: &Path| checkpoint::save_resume(dir, &policy.decoder, &optimizer, &progress);
                return context.stop_within_step(progress.step, write);
            }
            let dropout = || seed::derive(seed, &["dropout", &progress.step.to_string(), &index.to_string()]);
            let options = PassOptions {
                dropout_seed: drops.then(dropout),
                checkpointing: assignment.runtime.gradient_checkpointing,
            };
            let sequences: Vec<&Sequence> = micro_batch.iter().flat_map(|row| &row.sequences).collect();
            let _deterministic = Deterministic::begin(assignment.runtime.deterministic, context.device);
            losses.push(accumulate(&policy.decoder, &sequences, trained_tokens, options));
        }
        let loss = sum(&losses);

        let step = progress.step + 1;
        let update = training::update(&mut optimizer, knobs.optimizer, step, total_steps, loss)?;
        let seconds = started.elapsed().as_secs_f64();
        progress.step = step;
        progress.tokens += tokens as u64;
        progress.remember(loss);
        let metrics = [
            ("train/loss", loss),
            ("train/tokens", progress.tokens as f64),
            ("optim/lr", update.lr),
            ("optim/grad_norm", update.grad_norm),
            ("perf/tokens_per_s", tokens as f64 / seconds),
            ("time/step_s", seconds),
        ];
        training::report(context, step, total_steps, metrics.map(|(name, value)| (name.to_owned(), value)))?;
        if step < last_step && training::resume_point(context, &policy.decoder, &optimizer, &progress)? {
            return Ok(Outcome::Stopped { step });
        }
    }
    training::save_output(context, assignment, policy)?;
    Ok(Outcome::Finished(progress.result("train/loss")))
}

/// Returns the sum of numbers, read from their device at once, since each read waits for it. // each ()
fn sum(numbers: &[Tensor]) -> f64 {
    let all = Tensor::stack(numbers, 0).to_device(Device::Cpu);
    Vec::<f64>::try_from(all).expect("the numbers are 64-bit numbers").iter().sum()
}

/// Adds the gradients of one micro-batch. Returns its part of the step's loss, in 64 bits on the decoder's device: the
/// sum over its trained tokens, divided by `trained_tokens`, which is their number in the whole step. // ()
pub fn accumulate(decoder: &Decoder, sequences: &[&Sequence], trained_tokens: usize, options: PassOptions) -> Tensor {
    let ids: Vec<&[i64]> = sequences.iter().map(|s| s.ids.as_slice()).collect();
    let packed = Packed::new(&ids, decoder.device());
    let (positions, targets) = loss_positions(sequences, &packed);
    if targets.size()[0] == 0 {
        return Tensor::zeros([0; 0], (Kind::Double, decoder.device()));
    }
    let pass = TrainingPass::new(decoder, &packed, options);
    let hidden = pass.hidden().index_select(0, &positions); // (N, C)
    let grad = Tensor::full(targets.size(), -1.0 / trained_tokens as f64, (Kind::Float, targets.device()));
    let logprobs = head::backward(decoder, &hidden, &targets, &grad, 1.0);
    drop(hidden);
    pass.finish();
    logprobs.sum(Kind::Double).neg() / trained_tokens as f64
}

/// Returns the positions in the packed row whose next token carries loss, and these tokens. // two of (N,)
pub(super) fn loss_positions(sequences: &[&Sequence], packed: &Packed) -> (Tensor, Tensor) {
    let mut positions = Vec::new();
    let mut targets = Vec::new();
    for (sequence, start) in sequences.iter().zip(packed.starts()) {
        for (offset, target) in sequence.targets() {
            positions.push(start + i64::try_from(offset).expect("lengths fit i64") - 1);
            targets.push(target);
        }
    }
    let device = packed.input_ids.device();
    (Tensor::from_slice(&positions).to_device(device), Tensor::from_slice(&targets).to_device(device))
}

fn total_steps(length: Length, rows: usize, global_batch_size: usize) -> u64 {
    match length {
        Length::Steps(steps) => steps,
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "epochs are positive and small")]
        Length::Epochs(epochs) => (epochs * rows as f64 / global_batch_size as f64).ceil().max(1.0) as u64,
    }
}
