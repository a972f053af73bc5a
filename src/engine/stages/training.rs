//! Code of the training stages: optimizers, resume points, and the checks of a step.

use super::Context;
use super::scoring::save_completions;
use crate::checkpoint::{self, TrainingProgress};
use crate::error::{StageError, StageResult};
use crate::models::Decoder;
use crate::optim::{Optimizer, clip_grad_norm, lr_multiplier};
use orchestrate_core::event::{EventKind, Measurement, Step};
use orchestrate_core::recipe::spec::OptimizerSpec;
use orchestrate_core::workspace::Assignment;
use std::collections::BTreeMap;
use std::path::Path;

/// Number of last steps whose mean is a stage's result.
const RECENT: usize = 10;

/// Returns the step after which a stage of `total_steps` steps ends: the last one, or that of its snapshot.
pub(super) fn last_step(assignment: &Assignment, total_steps: u64) -> u64 {
    assignment.spec.until.map_or(total_steps, |until| until.min(total_steps))
}

/// Restores a resume point, if there is one, and records the start of the stage. The newest one is taken, unless the
/// snapshot after an earlier step is missing: then the newest one from which it can still be taken.
pub(super) fn start(
    context: &mut Context<'_>,
    decoder: &Decoder,
    optimizer: &mut Optimizer,
    total_steps: u64,
) -> StageResult<TrainingProgress> {
    let missing = missing_snapshot(context)?;
    let mut point = context.attempt.latest_resume_point_until(missing).map_err(super::cache_error)?;
    if point.is_none() {
        point = context.attempt.latest_resume_point().map_err(super::cache_error)?;
    }
    let progress = match &point {
        Some((_, dir)) => checkpoint::load_resume(dir, decoder, optimizer)?,
        None => TrainingProgress::default(),
    };
    context.started(point.map(|(step, _)| step), total_steps)?;
    Ok(progress)
}

/// Returns the first step whose snapshot is not in the cache; without any, the largest number.
fn missing_snapshot(context: &Context<'_>) -> StageResult<u64> {
    for (step, snapshot) in &context.attempt.assignment().snapshots {
        if !context.attempt.has_result(&snapshot.key).map_err(super::cache_error)? {
            return Ok(*step);
        }
    }
    Ok(u64::MAX)
}

/// Commits the state after `step` steps as a result of its own, if it is a snapshot that is not in the cache. `results`
/// are the measurements of a stage that ends there, and `more` writes what its result has beside the checkpoint.
pub(super) fn snapshot(
    context: &mut Context<'_>,
    assignment: &Assignment,
    policy: &crate::policy::Policy<'_>,
    (step, results): (u64, &BTreeMap<String, Measurement>),
    more: impl FnOnce(&mut Context<'_>) -> StageResult<()>,
) -> StageResult<()> {
    let Some(snapshot) = assignment.snapshots.get(&step) else { return Ok(()) };
    let alone = assignment.of_snapshot(step, snapshot);
    let Some((mut branch, lease)) = context.attempt.branch(&alone, &snapshot.key_json).map_err(super::cache_error)?
    else {
        return Ok(());
    };
    // What is written from here to the commit goes into the snapshot's attempt.
    std::mem::swap(context.attempt, &mut branch);
    let written = save_output(context, &alone, policy)
        .and_then(|()| save_completions(context))
        .and_then(|()| more(context))
        .and_then(|()| context.emit(&EventKind::Finished(results.clone())))
        .and_then(|()| context.attempt.commit(&lease).map(drop).map_err(super::cache_error));
    std::mem::swap(context.attempt, &mut branch);
    written?;
    context.phase(&format!("kept the snapshot after step {step}"))
}

/// Writes a resume point if one is due or the stage should stop. Returns whether it should stop.
pub(super) fn resume_point(
    context: &mut Context<'_>,
    decoder: &Decoder,
    optimizer: &Optimizer,
    progress: &TrainingProgress,
) -> StageResult<bool> {
    let stop = context.supervisor.should_stop();
    if stop || context.supervisor.resume_point_due() {
        let write = |dir: &Path| checkpoint::save_resume(dir, decoder, optimizer, progress);
        context.write_resume_point(progress.step, write)?;
    }
    Ok(stop)
}

/// The result of an optimizer step.
pub(super) struct Update {
    /// Learning rate of the step.
    pub(super) lr: f64,
    /// Norm of the gradients before clipping.
    pub(super) grad_norm: f64,
}

/// Clips the gradients and applies the optimizer. `step` counts from 1.
///
/// # Errors
/// Returns an error if the loss or the gradient norm is not finite. The parameters then stay as they are.
pub(super) fn update(
    optimizer: &mut Optimizer,
    spec: &OptimizerSpec,
    step: u64,
    total_steps: u64,
    loss: f64,
) -> StageResult<Update> {
    let grad_norm = clip_grad_norm(optimizer.values(), spec.max_grad_norm);
    for (what, value) in [("loss", loss), ("gradient norm", grad_norm)] {
        if !value.is_finite() {
            return Err(StageError::non_finite(format!("the {what} is {value} at step {step}")).hinted(
                "lower `lr`, raise `warmup_steps`, or look at the rows of this step with `orchestrate samples`",
            ));
        }
    }
    let lr = spec.lr * lr_multiplier(spec.schedule, step - 1, spec.warmup_steps, total_steps);
    optimizer.step(lr);
    Ok(Update { lr, grad_norm })
}

/// Records a step's metrics, except those that are not finite.
pub(super) fn report(
    context: &mut Context<'_>,
    step: u64,
    total_steps: u64,
    metrics: impl IntoIterator<Item = (String, f64)>,
) -> StageResult<()> {
    let metrics: BTreeMap<String, f64> = metrics.into_iter().filter(|(_, value)| value.is_finite()).collect();
    context.emit(&EventKind::Step(Step { step, total_steps, metrics }))
}

impl TrainingProgress {
    /// Stores a step's main value. The stage's result is the mean over the last steps.
    pub(super) fn remember(&mut self, value: f64) {
        self.recent.push(value);
        if self.recent.len() > RECENT {
            self.recent.remove(0);
        }
    }

    /// Returns the mean of the stored values as the measurement `name`.
    pub(super) fn result(&self, name: &str) -> BTreeMap<String, Measurement> {
        let count = self.recent.len();
        if count == 0 {
            return BTreeMap::new();
        }
        let value = self.recent.iter().sum::<f64>() / count as f64;
        BTreeMap::from([(name.to_owned(), Measurement { value, interval: None, count: Some(count as u64) })])
    }
}

/// Writes the trained weights into the attempt's output.
pub(super) fn save_output(
    context: &mut Context<'_>,
    assignment: &Assignment,
    policy: &crate::policy::Policy<'_>,
) -> StageResult<()> {
    context.phase("writing the checkpoint")?;
    let out = context.attempt.out_dir().map_err(super::cache_error)?;
    let model = crate::policy::model(assignment)?;
    checkpoint::save(&out, &policy.decoder, model, policy.base, &policy.merged)?;
    // a checkpoint of whole weights includes the model's tokenizer, which was read again
    context.inputs.unchanged_of([&model.files]).map_err(super::changed)
}
