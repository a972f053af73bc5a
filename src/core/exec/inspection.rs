//! What a worker says of the data of a stage, before anything is trained on it.

use super::{ExecError, WorkerBinary};
use crate::event::Failure;
use crate::stage::StageKind;
use crate::workspace::Assignment;
use serde::{Deserialize, Serialize};
use std::io::Write as _;
use std::process::Stdio;

/// The data of one stage.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Inspection {
    /// The stage's name in its recipe.
    pub stage: String,
    /// `cpt`, `sft`, `grpo` or `eval`.
    pub kind: StageKind,
    /// Its data sets, in the order of their content.
    pub data: Vec<DataReport>,
    /// Why the stage would refuse to start.
    pub failure: Option<Failure>,
}

/// One data set as a stage reads it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DataReport {
    /// Its files.
    pub files: Vec<String>,
    /// Share of the stage's rows that come from it.
    pub weight: f64,
    /// Conversations, documents or prompts.
    pub rows: usize,
    /// Rows of a batch that they are packed into; absent: each is a row.
    pub packed_rows: Option<usize>,
    /// Tokens of all rows.
    pub tokens: usize,
    /// Tokens that carry loss; absent where nothing is trained on the text itself.
    pub trained_tokens: Option<usize>,
    /// Share of the rows whose last token with loss is a stop token; absent as above.
    pub eos_trained: Option<f64>,
    /// Documents that are cut into pieces; conversations and prompts never are.
    pub cut_rows: usize,
    /// Rows that equal an earlier one, token by token.
    pub duplicate_rows: usize,
    /// Median of the rows' tokens.
    pub tokens_p50: usize,
    /// Tokens that 95% of the rows do not exceed.
    pub tokens_p95: usize,
    /// Tokens of the longest row.
    pub tokens_max: usize,
    /// A row of median length.
    pub example: ExampleRow,
}

/// A row as the model sees it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ExampleRow {
    /// `FILE:LINE`.
    pub location: String,
    /// Its text, special tokens spelled out, cut where loss begins and ends.
    pub spans: Vec<ExampleSpan>,
}

/// Neighbouring tokens that all carry loss or all do not.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ExampleSpan {
    /// Their text.
    pub text: String,
    /// Whether they carry loss.
    pub trained: bool,
}

impl DataReport {
    /// Share of the tokens that carry loss.
    pub fn trained_share(&self) -> Option<f64> {
        #[expect(clippy::cast_precision_loss, reason = "counts of tokens are small")]
        self.trained_tokens.map(|trained| trained as f64 / self.tokens.max(1) as f64)
    }
}

/// Asks `orchestrate-worker inspect-data`, which takes assignments on stdin, one a line, and answers each with one line.
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
    // The worker reads everything before it answers. One that ends early has said why on stderr.
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
