//! How much a stage has to compute: an estimate that orders stages, without looking into their data.

use crate::recipe::spec::{CptSpec, Length, SftSpec, StageSpec, Work};

/// Bytes of a token of text, about.
const TOKEN_BYTES: f64 = 4.0;
/// Bytes of a row of questions, about.
const ROW_BYTES: f64 = 500.0;
/// What decoding a token costs beside reading one, about: the weights are read for a few rows at a time.
const DECODING: f64 = 10.0;

/// Tokens that `stage` reads, those it decodes counting more, of `data_bytes` bytes of data.
pub fn work_size(stage: &StageSpec, data_bytes: u64) -> f64 {
    let rows = |length: &Length, rows_per_step: usize, row_tokens: usize| match length {
        Length::Steps(steps) => *steps as f64 * (rows_per_step * row_tokens) as f64,
        Length::Epochs(epochs) => epochs * data_bytes as f64 / TOKEN_BYTES,
    };
    match &stage.work {
        Work::Cpt(CptSpec { length, global_batch_size, seq_len, .. })
        | Work::Sft(SftSpec { length, global_batch_size, seq_len, .. }) => rows(length, *global_batch_size, *seq_len),
        Work::Grpo(grpo) => {
            let completions = (grpo.prompts_per_step * grpo.group_size * grpo.sampling.max_new_tokens) as f64;
            grpo.steps as f64 * completions * (1.0 + DECODING / grpo.updates_per_rollout.max(1) as f64)
        }
        // nothing is known of somebody else's program
        Work::Command(_) => data_bytes as f64 / TOKEN_BYTES,
        Work::Arena(arena) => {
            let models = arena.models().count() as f64;
            data_bytes as f64 / ROW_BYTES * models * arena.sampling.max_new_tokens as f64 * DECODING
        }
        Work::Eval(eval) => {
            let completion = (eval.samples_per_question * eval.sampling.max_new_tokens) as f64;
            data_bytes as f64 / ROW_BYTES * completion * DECODING
        }
    }
}
