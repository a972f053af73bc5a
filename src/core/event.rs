//! The one stream that the terminal, the database and the logs consume.
//!
//! A worker appends [`Event`]s, one JSON object a line, to `events.jsonl` in its attempt directory; nothing else
//! reports progress. A stage that is resumed goes on in the same file: a later [`EventKind::Started`] with
//! `resumed_from_step = n` takes back every step and completion after step n that stands before it.

use crate::cpu::Bfloat16Products;
use crate::cpu::{Float32Products, Instructions};
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Something that happened in a stage.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Event {
    /// When.
    pub at: DateTime<Utc>,
    /// What.
    pub kind: EventKind,
    /// Joules that the worker's device has taken since the worker started, by whomever; absent where the device does not tell.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub energy_j: Option<f64>,
    /// The most memory that the worker has held; absent where the system does not say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub peak_memory: Option<PeakMemory>,
}

/// The most memory that a worker has held since it started.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PeakMemory {
    /// Bytes of the host's memory. Those of a `command` stage are of the largest process of its program.
    pub resident_bytes: u64,
    /// Bytes of its GPU's memory that libtorch held; absent on a CPU.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gpu_bytes: Option<u64>,
}

impl PeakMemory {
    /// Bytes of the device that the stage computes on.
    pub fn of_device(self) -> u64 {
        self.gpu_bytes.unwrap_or(self.resident_bytes)
    }
}

/// The memory a stage took, beside what its plan expected.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MemoryUse {
    /// What it took.
    pub peak: PeakMemory,
    /// Bytes that the plan expected on its device; absent where it expected nothing.
    pub planned_bytes: Option<u64>,
}

impl MemoryUse {
    /// The larger of two tries at a stage.
    #[must_use]
    pub fn larger(self, other: Self) -> Self {
        if other.peak.of_device() > self.peak.of_device() { other } else { self }
    }
}

/// What happened. Metric names are those of the recipe and the database, e.g. `train/loss`, `reward/mean`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EventKind {
    /// A worker took up the stage.
    Started(Started),
    /// The worker is busy with something other than steps, e.g. `loading the model`.
    Phase(String),
    /// A part of a step is done; written at most once a second, so that long steps show progress.
    StepPart(StepPart),
    /// A step ended: an optimizer step when training, a batch of questions in `eval`.
    Step(Step),
    /// A completion was sampled and rated.
    Completion(Box<Completion>),
    /// A resume point after `step` is on disk.
    ResumePoint {
        /// Steps done.
        step: u64,
    },
    /// Something a person should look at.
    Warning(String),
    /// The work is done; the checkpoint is about to be committed. The values are the stage's result.
    Finished(BTreeMap<String, Measurement>),
    /// The worker was asked to stop and left a resume point after `step`.
    Stopped {
        /// Steps done.
        step: u64,
    },
    /// The stage failed.
    Failed(Failure),
}

/// Where and from which step a worker started.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Started {
    /// Host name.
    pub host: String,
    /// Process id of the worker.
    pub pid: u32,
    /// `cpu` or `cuda:N`.
    pub device: String,
    /// Version of libtorch.
    pub libtorch: String,
    /// Threads the tensor operations use.
    pub threads: usize,
    /// The widest instructions that kernels use; absent on a GPU.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub instructions: Option<Instructions>,
    /// How products with bfloat16 weights are computed; absent on a GPU.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bfloat16_products: Option<Bfloat16Products>,
    /// The library that multiplies 32-bit matrices; absent on a GPU.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub float32_products: Option<Float32Products>,
    /// The resume point the worker went on from; absent: from the beginning.
    pub resumed_from_step: Option<u64>,
    /// Steps the stage has in all.
    pub total_steps: u64,
}

/// How far a step is.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct StepPart {
    /// The step that goes on, counted from 1.
    pub step: u64,
    /// Steps the stage has in all.
    pub total_steps: u64,
    /// Of this step, from 0 to 1.
    pub share: f64,
    /// Of the whole stage, from 0 to 1; absent where all steps take about as long.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub share_of_stage: Option<f64>,
}

/// The end of a step.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Step {
    /// Counted from 1.
    pub step: u64,
    /// Steps the stage has in all.
    pub total_steps: u64,
    /// Finite values by name.
    pub metrics: BTreeMap<String, f64>,
}

/// A sampled completion and what the reward mix says of it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Completion {
    /// Step it was sampled in, counted from 1.
    pub step: u64,
    /// Row of the data set.
    pub row: usize,
    /// Which of the group, counted from 0.
    pub index: usize,
    /// The prompt as the data set's template rendered it, before the chat template.
    pub prompt: String,
    /// The sampled text, without the stop token.
    pub completion: String,
    /// Reference text, if the data set has one.
    pub reference: Option<String>,
    /// Right answer, if the data set has one.
    pub answer: Option<String>,
    /// Tokens sampled, the stop token included.
    pub tokens: usize,
    /// Why sampling ended.
    pub stop_reason: StopReason,
    /// Which model of an arena wrote it; in other stages there is but one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub player: Option<String>,
    /// Weighted sum of the parts; absent when a part is missing.
    pub reward: Option<f64>,
    /// Advantage within the group, in GRPO.
    pub advantage: Option<f64>,
    /// Every component, by name.
    pub parts: BTreeMap<String, ComponentScore>,
    /// What an evaluation knows besides.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub eval: Option<EvalRecord>,
}

/// What an evaluation adds to a completion, so that its answers can be paired with those of another evaluation.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct EvalRecord {
    /// Names the row by its content, the same in every run, wherever the row stands: the first 16 hexadecimal digits of the
    /// SHA-256 of its canonical JSON; of equal rows the second has `-2` behind it, the third `-3`.
    pub question_id: String,
    /// The data set's name in the recipe.
    pub data_set: String,
    /// Whether the recipe marks the data set as out of domain.
    pub out_of_domain: bool,
    /// Words of the completion: what white space separates.
    pub words: usize,
    /// Which option the model finds likeliest; absent for a row without options.
    pub choice: Option<Choice>,
}

/// The options of a question by their likelihood after the prompt, whatever was sampled.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Choice {
    /// Log-likelihood of each option, summed over its tokens, in the row's order.
    pub loglikelihoods: Vec<f64>,
    /// Whether the right option has the highest log-likelihood.
    pub correct: bool,
    /// Whether it has the highest log-likelihood per byte of its text.
    pub correct_norm: bool,
}

/// Why sampling of a completion ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StopReason {
    /// A token that ends a turn was drawn.
    StopToken,
    /// The text came to hold one of the recipe's stop strings.
    StopString,
    /// The length limit cut it.
    Length,
}

impl StopReason {
    /// Whether the length limit cut the completion.
    pub fn truncated(self) -> bool {
        self == Self::Length
    }

    /// The word that events and tables have for it.
    pub fn word(self) -> &'static str {
        match self {
            Self::StopToken => "stop_token",
            Self::StopString => "stop_string",
            Self::Length => "length",
        }
    }
}

/// One reward component's verdict on one completion.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ComponentScore {
    /// The unweighted value; absent when it is missing.
    pub value: Option<f64>,
    /// Factor in the total.
    pub weight: f64,
    /// Why the value is missing.
    pub missing: Option<String>,
}

/// A number with, where it has one, its 95% interval.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Measurement {
    /// The estimate.
    pub value: f64,
    /// Ends of the 95% interval.
    pub interval: Option<(f64, f64)>,
    /// Observations behind it.
    pub count: Option<u64>,
}

/// Why a stage failed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Failure {
    /// The kind of failure, which decides whether a retry makes sense.
    pub class: FailureClass,
    /// What went wrong, in one sentence, with the file and line it concerns.
    pub message: String,
    /// What to do about it.
    pub hint: Option<String>,
}

/// Kinds of failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FailureClass {
    /// Data, model or recipe do not fit; the same again fails the same.
    Input,
    /// The loss or a gradient is not finite.
    NonFinite,
    /// A judge or a service does not answer, or refuses.
    JudgeUnavailable,
    /// What a judge may be asked, or may cost, is used up.
    JudgeBudget,
    /// Memory ran out.
    OutOfMemory,
    /// A disk, directory or file failed.
    Io,
    /// The worker died without saying why, or a signal killed the program of a `command` stage.
    Crash,
    /// The program of a `command` stage ended with another exit code than 0.
    Program,
    /// It ran longer than its time limit.
    Timeout,
    /// It was asked to stop; never a failure of a stage.
    Interrupted,
}
