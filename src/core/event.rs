//! The single stream of events that the terminal, the database and the logs consume.
//!
//! A worker appends [`Event`]s, one JSON object per line, to `events.jsonl` in its attempt directory. Nothing else
//! reports progress. A resumed stage continues in the same file. A later [`EventKind::Started`] with
//! `resumed_from_step = n` invalidates every earlier step and completion after step n.

use crate::cpu::Bfloat16Products;
use crate::cpu::{Float32Products, Instructions};
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// An event of a stage.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Event {
    /// The time of the event.
    pub at: DateTime<Utc>,
    /// The content of the event.
    pub kind: EventKind,
    /// The joules that the worker's device has consumed since the worker started, for all processes; absent where the
    /// device does not report them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub energy_j: Option<f64>,
    /// The peak memory of the worker; absent where the system does not report it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub peak_memory: Option<PeakMemory>,
}

/// The peak memory of a worker since it started.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PeakMemory {
    /// The bytes of the host's memory; for a `command` stage, those of the largest process of its program.
    pub resident_bytes: u64,
    /// The bytes of the GPU's memory that libtorch held; absent on a CPU.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gpu_bytes: Option<u64>,
}

impl PeakMemory {
    /// Returns the bytes of the device on which the stage computes.
    pub fn of_device(self) -> u64 {
        self.gpu_bytes.unwrap_or(self.resident_bytes)
    }
}

/// The memory that a stage used and the estimate of its plan.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MemoryUse {
    /// The peak memory.
    pub peak: PeakMemory,
    /// The bytes that the plan estimated for the device; absent without an estimate.
    pub planned_bytes: Option<u64>,
}

impl MemoryUse {
    /// Returns the larger use of two tries at a stage.
    #[must_use]
    pub fn larger(self, other: Self) -> Self {
        if other.peak.of_device() > self.peak.of_device() { other } else { self }
    }
}

/// The content of an event. Metric names are those of the recipe and the database, e.g. `train/loss`, `reward/mean`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EventKind {
    /// A worker started on the stage.
    Started(Started),
    /// The worker is busy with something other than steps, e.g. `loading the model`.
    Phase(String),
    /// A part of a step is done. The event is written at most once a second, so that long steps show progress.
    StepPart(StepPart),
    /// A step ended: an optimizer step when training, a batch of questions in `eval`.
    Step(Step),
    /// A completion was sampled and rated.
    Completion(Box<Completion>),
    /// A resume point after `step` is on disk.
    ResumePoint {
        /// The number of completed steps.
        step: u64,
    },
    /// A message that needs a person's attention.
    Warning(String),
    /// The work is done; the checkpoint is about to be committed. The values are the stage's result.
    Finished(BTreeMap<String, Measurement>),
    /// The worker stopped on request and left a resume point after `step`.
    Stopped {
        /// The number of completed steps.
        step: u64,
    },
    /// The stage failed.
    Failed(Failure),
}

/// The start of a worker: its environment and first step.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Started {
    /// The host name.
    pub host: String,
    /// The process id of the worker.
    pub pid: u32,
    /// The device, `cpu` or `cuda:N`.
    pub device: String,
    /// The product name of the GPU; absent on the CPU.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gpu: Option<String>,
    /// Whether a training step used only algorithms whose results repeat to the bit; absent on the CPU, where all do.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deterministic: Option<bool>,
    /// The version of libtorch.
    pub libtorch: String,
    /// The number of threads of tensor operations.
    pub threads: usize,
    /// The widest instruction set that kernels use; absent on a GPU.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub instructions: Option<Instructions>,
    /// How products with bfloat16 weights are computed; absent on a GPU.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bfloat16_products: Option<Bfloat16Products>,
    /// The library that multiplies 32-bit matrices; absent on a GPU.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub float32_products: Option<Float32Products>,
    /// The step of the resume point from which the worker resumed; absent: it started from the beginning.
    pub resumed_from_step: Option<u64>,
    /// The total number of steps of the stage.
    pub total_steps: u64,
}

/// The progress within a step.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct StepPart {
    /// The current step, counted from 1.
    pub step: u64,
    /// The total number of steps of the stage.
    pub total_steps: u64,
    /// The completed fraction of this step, from 0 to 1.
    pub share: f64,
    /// The completed fraction of the whole stage, from 0 to 1; absent where all steps take about the same time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub share_of_stage: Option<f64>,
}

/// The end of a step.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Step {
    /// The step, counted from 1.
    pub step: u64,
    /// The total number of steps of the stage.
    pub total_steps: u64,
    /// The metrics by name; all values are finite.
    pub metrics: BTreeMap<String, f64>,
}

/// A sampled completion with its scores.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Completion {
    /// The step in which it was sampled, counted from 1.
    pub step: u64,
    /// The row of the data set.
    pub row: usize,
    /// The index in the group, counted from 0.
    pub index: usize,
    /// The prompt as the data set's template rendered it, before the chat template.
    pub prompt: String,
    /// The sampled text, without the stop token.
    pub completion: String,
    /// The reference text, if the data set has one.
    pub reference: Option<String>,
    /// The correct answer, if the data set has one.
    pub answer: Option<String>,
    /// The number of sampled tokens, the stop token included.
    pub tokens: usize,
    /// The reason why sampling ended.
    pub stop_reason: StopReason,
    /// The player of an arena whose model wrote the completion; absent in other stages.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub player: Option<String>,
    /// The weighted sum of the parts; absent when a part is missing.
    pub reward: Option<f64>,
    /// The advantage within the group, in GRPO.
    pub advantage: Option<f64>,
    /// The score of every component, by name.
    pub parts: BTreeMap<String, ComponentScore>,
    /// The additional fields of an evaluation.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub eval: Option<EvalRecord>,
}

/// The fields that an evaluation adds to a completion. With them, its answers can be paired with those of another
/// evaluation.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct EvalRecord {
    /// The identifier of the row, derived from its content and so independent of the run and of the row's position. It
    /// is the first 16 hexadecimal digits of the SHA-256 of the row's canonical JSON. Of equal rows the second has the
    /// suffix `-2`, the third `-3`.
    pub question_id: String,
    /// The data set's name in the recipe.
    pub data_set: String,
    /// Whether the recipe marks the data set as out of domain.
    pub out_of_domain: bool,
    /// The number of words of the completion, separated by white space.
    pub words: usize,
    /// The answer for which the completion votes in maj@k; absent without an answer and without maj@k.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vote: Option<String>,
    /// The choice of an option by likelihood; absent for a row without options.
    pub choice: Option<Choice>,
    /// The value of each expression by which the data set is sliced.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub slices: BTreeMap<String, String>,
}

/// The likelihoods of a question's options after the prompt, independent of the sampled completion.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Choice {
    /// The log-likelihood of each option, summed over its tokens, in the row's order.
    pub loglikelihoods: Vec<f64>,
    /// Whether the correct option has the highest log-likelihood.
    pub correct: bool,
    /// Whether the correct option has the highest log-likelihood per byte of its text.
    pub correct_norm: bool,
}

/// The reason why sampling of a completion ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StopReason {
    /// A token that ends a turn was sampled.
    StopToken,
    /// The text contained one of the recipe's stop strings.
    StopString,
    /// The completion reached the length limit.
    Length,
}

impl StopReason {
    /// Whether the length limit truncated the completion.
    pub fn truncated(self) -> bool {
        self == Self::Length
    }

    /// Returns the word for the reason in events and tables.
    pub fn word(self) -> &'static str {
        match self {
            Self::StopToken => "stop_token",
            Self::StopString => "stop_string",
            Self::Length => "length",
        }
    }
}

/// The score of one reward component for one completion.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ComponentScore {
    /// The unweighted value; absent when it is missing.
    pub value: Option<f64>,
    /// The weight in the total.
    pub weight: f64,
    /// The reason why the value is missing.
    pub missing: Option<String>,
}

/// A number with, where it has one, its 95% interval.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Measurement {
    /// The estimate.
    pub value: f64,
    /// The ends of the 95% interval.
    pub interval: Option<(f64, f64)>,
    /// The number of observations behind the estimate.
    pub count: Option<u64>,
}

/// The failure of a stage.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Failure {
    /// The kind of failure, which decides whether a retry makes sense.
    pub class: FailureClass,
    /// The message, in one sentence, with the file and line concerned.
    pub message: String,
    /// The advice on what to do.
    pub hint: Option<String>,
}

/// Kinds of failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FailureClass {
    /// Data, model or recipe are incompatible; a retry would fail in the same way.
    Input,
    /// The loss or a gradient is not finite.
    NonFinite,
    /// A judge or a service does not answer, or refuses.
    JudgeUnavailable,
    /// The budget of a judge, in requests or in cost, is used up.
    JudgeBudget,
    /// Memory ran out.
    OutOfMemory,
    /// A disk, directory or file failed.
    Io,
    /// The worker died without a message, or a signal killed the program of a `command` stage.
    Crash,
    /// The program of a `command` stage exited with a non-zero code.
    Program,
    /// The stage exceeded its time limit.
    Timeout,
    /// The worker was asked to stop; never a failure of a stage.
    Interrupted,
}
