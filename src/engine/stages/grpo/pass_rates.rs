//! `pass_rates.jsonl`: what a stage with `sampler = "pools"` learnt about the difficulty of its prompts.

use super::super::{Context, cache_error};
use crate::data::pools::{Pool, Pools, PromptRecord};
use crate::data::{Example, Mixture};
use crate::error::StageResult;
use orchestrate_core::recipe::spec::GrpoSpec;
use serde::Serialize;
use std::io::Write as _;

const FILE: &str = "pass_rates.jsonl";

/// A line of the file.
#[derive(Serialize)]
struct PassRate<'a> {
    /// The index of the data set in the stage's `data`.
    data_set: usize,
    row: usize,
    id: &'a str,
    draws: u32,
    #[serde(rename = "pass_rate")]
    estimate: Option<f32>,
    pool: Pool,
}

/// Writes a line for each prompt beside the result; nothing without pools.
pub(super) fn save_pass_rates(
    context: &mut Context<'_>,
    examples: &Mixture<Example>,
    spec: &GrpoSpec,
    pools: Option<&Pools>,
) -> StageResult<()> {
    let (Some(pools), Some(spec)) = (pools, &spec.pools) else { return Ok(()) };
    let mut text = Vec::new();
    for (data_set, records) in pools.records().iter().enumerate() {
        for (item, record) in records.iter().enumerate() {
            let Example { row, id, .. } = examples.item((data_set, item));
            let &PromptRecord { draws, pass_rate, .. } = record;
            let line = PassRate { data_set, row: *row, id, draws, estimate: pass_rate, pool: record.pool(spec) };
            writeln!(text, "{}", serde_json::to_string(&line).expect("a line serializes"))?;
        }
    }
    let path = context.attempt.out_dir().map_err(cache_error)?.join(FILE);
    Ok(fs_err::write(path, text)?)
}
