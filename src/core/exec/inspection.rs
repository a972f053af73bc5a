//! A worker's report on the data of a stage, before training.

use super::{ExecError, WorkerBinary};
use crate::event::Failure;
use crate::stage::StageKind;
use crate::workspace::Assignment;
use serde::{Deserialize, Serialize};
use std::io::Write as _;
use std::process::Stdio;

/// The report on the data of one stage.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Inspection {
    /// The stage's name in its recipe.
    pub stage: String,
    /// The stage's kind: `cpt`, `sft`, `grpo` or `eval`.
    pub kind: StageKind,
    /// The stage's data sets, ordered by their content.
    pub data: Vec<DataReport>,
    /// The reason why the stage would refuse to start.
    pub failure: Option<Failure>,
}

/// A data set as a stage reads it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DataReport {
    /// The files of the data set.
    pub files: Vec<String>,
    /// The fraction of the stage's rows that come from this data set.
    pub weight: f64,
    /// The number of conversations, documents or prompts.
    pub rows: usize,
    /// The number of rows that are left out because they answer questions that the recipe measures.
    #[serde(default)]
    pub left_out: usize,
    /// The number of packed rows; absent when rows are not packed.
    pub packed_rows: Option<usize>,
    /// The number of tokens of all rows.
    pub tokens: usize,
    /// The number of tokens that carry loss; absent for stages that do not train on the text itself.
    pub trained_tokens: Option<usize>,
    /// The fraction of rows whose last token with loss is a stop token; absent for stages that do not train on the text
    /// itself.
    pub eos_trained: Option<f64>,
    /// The number of documents that are cut into pieces. Conversations and prompts are never cut.
    pub cut_rows: usize,
    /// The number of rows that `decontaminate` dropped; they are not among `rows`.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub decontaminated_rows: usize,
    /// The number of rows that equal an earlier row, token by token.
    pub duplicate_rows: usize,
    /// The median number of tokens per row.
    pub tokens_p50: usize,
    /// The 95th percentile of the number of tokens per row.
    pub tokens_p95: usize,
    /// The number of tokens of the longest row.
    pub tokens_max: usize,
    /// An example: a row of median length.
    pub example: ExampleRow,
}

/// A row as the model sees it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ExampleRow {
    /// The position of the row, as `FILE:LINE`.
    pub location: String,
    /// The text of the row with special tokens spelled out, split where loss begins and ends.
    pub spans: Vec<ExampleSpan>,
}

/// A span of neighbouring tokens that all carry loss or all do not.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ExampleSpan {
    /// The text of the span.
    pub text: String,
    /// Whether the tokens carry loss.
    pub trained: bool,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
fn is_zero(count: &usize) -> bool {
    *count == 0
}

impl DataReport {
    /// The fraction of tokens that carry loss.
    pub fn trained_share(&self) -> Option<f64> {
        #[expect(clippy::cast_precision_loss, reason = "counts of tokens are small")]
        self.trained_tokens.map(|trained| trained as f64 / self.tokens.max(1) as f64)
    }
}

/// Runs `orchestrate-worker inspect-data`, which reads one assignment per line from stdin and answers each with one
/// line.
pub fn inspect_data(worker: &WorkerBinary, assignments: &[Assignment]) -> Result<Vec<Inspection>, ExecError> {
    let path = worker.program().to_owned();
    let start = |source| ExecError::Start { path: path.clone(), source };
    let mut child = worker
        .command()
        .arg("inspect-data")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(start)?;
    let mut lines = String::new();
    for assignment in assignments {
        lines += &serde_json::to_string(assignment).expect("an assignment serializes");
        lines.push('\n');
    }
    // The worker reads everything before it answers. One that ends early has written the reason to stderr.
    let _ = child.stdin.take().map(|mut stdin| stdin.write_all(lines.as_bytes()));
    let output = child.wait_with_output().map_err(ExecError::Wait)?;
    let failed = |message: String| ExecError::Inspection { path: path.clone(), message };
    if !output.status.success() {
        let message = String::from_utf8_lossy(&output.stderr).trim().to_owned();
        return Err(failed(if message.is_empty() { output.status.to_string() } else { message }));
    }
    let answers = String::from_utf8_lossy(&output.stdout);
    let read = |line: &str| serde_json::from_str(line).map_err(|error| failed(format!("its answer: {error}")));
    answers.lines().map(read).collect()
}
