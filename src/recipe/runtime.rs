//! `[runtime]`: how stages are run. Nothing of it may change a result, and nothing of it is hashed.

use super::diagnostic::{Problem, Problems};
use super::file::RuntimeTable;
use super::http_endpoint::{self, HttpEndpoint};
use super::judge_server::{self, JudgeServer};
use super::located::KeyPath;
use super::sweep::Cell;
use std::collections::BTreeMap;

/// How the stages of a recipe are run.
#[derive(Clone, Debug, PartialEq)]
pub struct RuntimeSettings {
    /// Where the tensors live.
    pub device: Device,
    /// CPU threads of a stage; absent: all cores.
    pub threads: Option<usize>,
    /// Seconds between resume points.
    pub resume_interval_s: f64,
    /// Resume points kept.
    pub keep_resume_points: usize,
    /// Whether a layer's inside is computed again in the backward pass instead of kept.
    pub gradient_checkpointing: GradientCheckpointing,
    /// Stages that run at the same time; absent: the recipe does not say.
    pub jobs: Option<usize>,
    /// Where judges are served, by the name of their model.
    pub judges: BTreeMap<String, JudgeServer>,
    /// Where services are served, by the name that the recipe gives them.
    pub endpoints: BTreeMap<String, HttpEndpoint>,
}

/// The recipe's `device`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Device {
    /// The first GPU if there is one, else the CPU.
    Auto,
    /// The CPU.
    Cpu,
    /// This GPU.
    Cuda(usize),
}

/// When a training stage computes a layer's inside again in the backward pass (arXiv:1604.06174).
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum GradientCheckpointing {
    /// When the stage would not fit into memory otherwise.
    Auto,
    /// Always.
    On,
    /// Never.
    Off,
}

impl Device {
    fn named(text: &str) -> Option<Self> {
        match text {
            "auto" => Some(Self::Auto),
            "cpu" => Some(Self::Cpu),
            _ => text.strip_prefix("cuda:")?.parse().ok().map(Self::Cuda),
        }
    }
}

impl RuntimeSettings {
    pub(super) fn resolve(cell: &Cell<'_>, table: RuntimeTable, problems: &mut Problems) -> Option<Self> {
        let RuntimeTable {
            device,
            threads,
            resume_interval_s,
            keep_resume_points,
            gradient_checkpointing,
            jobs,
            judges,
            endpoints,
        } = table;
        judge_server::check(cell, &judges, problems);
        http_endpoint::check(cell, &endpoints, problems);
        let Some(device) = Device::named(&device) else {
            let place = cell.value_place(&KeyPath::dotted("runtime.device"));
            let problem = Problem::at(place, format!("unknown device `{device}`"), "no such device");
            problems.push(problem.help("known devices: `auto`, `cpu`, `cuda:0`, `cuda:1`, ..."));
            return None;
        };
        Some(Self {
            device,
            threads,
            resume_interval_s,
            keep_resume_points,
            gradient_checkpointing,
            jobs,
            judges,
            endpoints,
        })
    }
}
