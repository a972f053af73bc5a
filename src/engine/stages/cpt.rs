//! Continued pre-training: next-token loss on documents packed into rows of `seq_len` tokens.

use super::supervised::{Knobs, Row, Sequence, train};
use super::{Context, Outcome};
use crate::data;
use crate::error::StageResult;
use crate::policy::Policy;
use orchestrate::cache::Assignment;
use orchestrate::recipe::spec::CptSpec;

pub(super) fn run(context: &mut Context<'_>, assignment: &Assignment, spec: &CptSpec) -> StageResult<Outcome> {
    context.phase("loading the model")?;
    let policy = Policy::load(assignment, context.device)?;
    context.phase("packing the documents")?;
    let documents = data::tokenized_documents(&spec.data, &assignment.inputs, &policy.tokenizer)?;
    let lengths: Vec<usize> = documents.iter().map(Vec::len).collect();
    let rows: Vec<Row> = data::pack::pack(&lengths, spec.seq_len)
        .into_iter()
        .map(|spans| {
            let sequence = |span: data::pack::Span| Sequence {
                ids: documents[span.document][span.start..span.start + span.length].to_vec(),
                prompt_tokens: 0,
            };
            Row { sequences: spans.into_iter().map(sequence).collect() }
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
