//! `assignment.json`: the dispatcher's instructions to a worker.

use crate::cpu::Bfloat16Products;
use crate::digest::Digest;
use crate::recipe::ProgramRun;
use crate::recipe::spec::StageSpec;
use crate::rewards::{HttpEndpoint, JudgeServer};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::PathBuf;

/// A stage to run: the hashed spec, and everything else that a worker needs.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Assignment {
    /// The stage's cache key.
    pub key: Digest,
    /// The stage's name in its recipe, for messages.
    pub stage: String,
    /// The hashed spec.
    pub spec: StageSpec,
    /// The absolute paths of the content that `spec` names by digest: model directories and data files.
    pub inputs: BTreeMap<Digest, PathBuf>,
    /// The absolute paths of the files in the results of other stages, by their id in `spec`.
    #[serde(default)]
    pub results: BTreeMap<Digest, PathBuf>,
    /// The parent stages' checkpoint directories. Only a `command` stage or an `arena` may have several. An arena's
    /// players refer to them by index.
    pub parents: Vec<PathBuf>,
    /// The snapshots that the worker writes on the way, each with the step after which it is taken.
    #[serde(default)]
    pub snapshots: BTreeMap<u64, SnapshotAssignment>,
    /// The settings of how the program of a `command` stage runs.
    pub program: Option<ProgramRun>,
    /// The settings of how the stage runs, which may change between attempts without changing the result.
    pub runtime: Runtime,
}

/// A snapshot of a training stage, which is a result of its own.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SnapshotAssignment {
    /// The snapshot's cache key.
    pub key: Digest,
    /// The snapshot's name, `NAME@STEP`.
    pub stage: String,
    /// The document whose digest is the key.
    pub key_json: serde_json::Value,
}

impl Assignment {
    /// Returns the assignment that makes the snapshot after `step` alone.
    #[must_use]
    pub fn of_snapshot(&self, step: u64, snapshot: &SnapshotAssignment) -> Self {
        Self {
            key: snapshot.key.clone(),
            stage: snapshot.stage.clone(),
            spec: StageSpec { until: Some(step), ..self.spec.clone() },
            snapshots: BTreeMap::new(),
            ..self.clone()
        }
    }

    /// Returns the path of every file that the stage reads, by its id in `spec`.
    pub fn data_files(&self) -> BTreeMap<Digest, PathBuf> {
        self.inputs.iter().chain(&self.results).map(|(id, path)| (id.clone(), path.clone())).collect()
    }
}

/// Settings of how a stage runs. None of them may change its result.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Runtime {
    /// The device of the tensors.
    pub device: DeviceChoice,
    /// The number of CPU threads; absent: all cores.
    pub threads: Option<usize>,
    /// The seconds between resume points.
    pub resume_interval_s: f64,
    /// The number of resume points kept.
    pub keep_resume_points: usize,
    /// Whether the backward pass recomputes each layer's inside instead of keeping it.
    pub gradient_checkpointing: bool,
    /// How a CPU multiplies with bfloat16 weights.
    #[serde(default)]
    pub bfloat16_products: Bfloat16Products,
    /// Whether training on a GPU takes only algorithms whose results repeat to the bit.
    #[serde(default = "repeats")]
    pub deterministic: bool,
    /// Whether a GPU records the step of a token and repeats it.
    #[serde(default)]
    pub cuda_graphs: bool,
    /// The addresses of judges, by the name of their model.
    #[serde(default)]
    pub judges: BTreeMap<String, JudgeServer>,
    /// The addresses of services, by the name that the recipe gives them.
    #[serde(default)]
    pub endpoints: BTreeMap<String, HttpEndpoint>,
}

/// The value for assignments of versions without the setting.
fn repeats() -> bool {
    true
}

/// The recipe's `device`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DeviceChoice {
    /// The first GPU if there is one, else the CPU.
    Auto,
    /// The CPU.
    Cpu,
    /// The GPU with this index.
    Cuda(usize),
}

impl DeviceChoice {
    /// Parses `auto`, `cpu` or `cuda:N`.
    pub fn named(text: &str) -> Option<Self> {
        match text {
            "auto" => Some(Self::Auto),
            "cpu" => Some(Self::Cpu),
            _ => text.strip_prefix("cuda:")?.parse().ok().map(Self::Cuda),
        }
    }
}
