//! `assignment.json`: what the dispatcher asks of a worker.

use crate::cpu::Bfloat16Products;
use crate::digest::Digest;
use crate::recipe::ProgramRun;
use crate::recipe::spec::StageSpec;
use crate::rewards::{HttpEndpoint, JudgeServer};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::PathBuf;

/// A stage to run: the hashed specification, and beside it everything that is needed but not hashed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Assignment {
    /// The stage's cache key.
    pub key: Digest,
    /// The stage's name in its recipe, for messages.
    pub stage: String,
    /// What to do.
    pub spec: StageSpec,
    /// Where the content named by digest in `spec` lies: absolute paths of model directories and data files.
    pub inputs: BTreeMap<Digest, PathBuf>,
    /// The parent stages' checkpoint directories; more than one has only a `command` stage or an
    /// `arena`, whose players name them by their place here.
    pub parents: Vec<PathBuf>,
    /// How the program of a `command` stage is run.
    pub program: Option<ProgramRun>,
    /// How to run it; may change between attempts without changing the result.
    pub runtime: Runtime,
}

/// How a stage is run: nothing here may change its result.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Runtime {
    /// Where the tensors live.
    pub device: DeviceChoice,
    /// CPU threads; absent: all cores.
    pub threads: Option<usize>,
    /// Seconds between resume points.
    pub resume_interval_s: f64,
    /// Resume points kept.
    pub keep_resume_points: usize,
    /// Computes each layer's inside again in the backward pass, instead of keeping it.
    pub gradient_checkpointing: bool,
    /// How a CPU multiplies with bfloat16 weights.
    #[serde(default)]
    pub bfloat16_products: Bfloat16Products,
    /// Where judges are served, by the name of their model.
    #[serde(default)]
    pub judges: BTreeMap<String, JudgeServer>,
    /// Where services are served, by the name that the recipe gives them.
    #[serde(default)]
    pub endpoints: BTreeMap<String, HttpEndpoint>,
}

/// The recipe's `device`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DeviceChoice {
    /// The first GPU if there is one, else the CPU.
    Auto,
    /// The CPU.
    Cpu,
    /// This GPU.
    Cuda(usize),
}

impl DeviceChoice {
    /// Reads `auto`, `cpu` or `cuda:N`.
    pub fn named(text: &str) -> Option<Self> {
        match text {
            "auto" => Some(Self::Auto),
            "cpu" => Some(Self::Cpu),
            _ => text.strip_prefix("cuda:")?.parse().ok().map(Self::Cuda),
        }
    }
}
