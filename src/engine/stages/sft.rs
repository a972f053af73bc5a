//! Supervised fine-tuning: next-token loss on the turns of selected roles, including the end of each turn.

use super::supervised::{SupervisedOptions, train};
use super::{Context, Outcome};
use crate::data;
use crate::error::StageResult;
use crate::policy::Policy;
use orchestrate_core::recipe::spec::SftSpec;
use orchestrate_core::workspace::Assignment;

pub(super) fn run(context: &mut Context<'_>, assignment: &Assignment, spec: &SftSpec) -> StageResult<Outcome> {
    context.phase("loading the model")?;
    let policy = Policy::load(assignment, context.device)?;
    context.phase("reading the rows")?;
    let data = data::sft(spec, &assignment.inputs, &policy.tokenizer)?;
    context.preflight(&data.reports)?;
    let knobs = SupervisedOptions {
        length: spec.length,
        global_batch_size: spec.global_batch_size,
        micro_batch_size: spec.micro_batch_size,
        optimizer: &spec.optimizer,
    };
    train(context, assignment, &policy, &data.mixture, &knobs)
}
