//! Supervised fine-tuning: next-token loss on the completion only, the end of the turn included.

use super::supervised::{Knobs, Row, Sequence, train};
use super::{Context, Outcome};
use crate::data;
use crate::error::StageResult;
use crate::policy::Policy;
use orchestrate::cache::Assignment;
use orchestrate::recipe::spec::SftSpec;

pub(super) fn run(context: &mut Context<'_>, assignment: &Assignment, spec: &SftSpec) -> StageResult<Outcome> {
    context.phase("loading the model")?;
    let policy = Policy::load(assignment, context.device)?;
    context.phase("reading the rows")?;
    let examples = data::supervised(&spec.data, &assignment.inputs, &policy.tokenizer, spec.seq_len)?;
    let rows: Vec<Row> = examples
        .into_iter()
        .map(|example| {
            let prompt_tokens = example.prompt_ids.len();
            let ids = [example.prompt_ids, example.completion_ids].concat();
            Row { sequences: vec![Sequence { ids, prompt_tokens }] }
        })
        .collect();
    let knobs = Knobs {
        length: spec.length,
        global_batch_size: spec.global_batch_size,
        micro_batch_size: spec.micro_batch_size,
        optimizer: &spec.optimizer,
    };
    train(context, assignment, &policy, &rows, &knobs)
}
