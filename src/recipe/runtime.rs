//! `[runtime]`: how stages are run. Nothing of it may change a result, and nothing of it is hashed.

use super::diagnostic::{Problem, Problems, did_you_mean};
use super::file::RuntimeTable;
use super::http_endpoint::{self, HttpEndpoint};
use super::judge_server::{self, JudgeServer};
use super::located::KeyPath;
use super::schema;
use super::sweep::Cell;
use std::collections::{BTreeMap, BTreeSet};

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
    /// Slots of GPUs, as CUDA counts the devices; absent: the recipe does not say.
    pub gpus: Option<Vec<usize>>,
    /// Seconds after which a stage has failed, by name or kind.
    pub timeout_s: BTreeMap<String, f64>,
    /// Seconds for a resume point, before a worker that was asked to stop is killed.
    pub stop_grace_s: f64,
    /// How often a stage that failed is tried again.
    pub retries: Retries,
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

/// How often a stage that failed is tried again; each try goes on from the newest resume point.
#[derive(Clone, Debug, PartialEq, serde::Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Retries {
    /// When memory ran out: with gradient checkpointing, which changes no bit; a stage that has it, or does not train, is
    /// not tried again.
    #[schemars(range(max = 100))]
    pub oom: u32,
    /// When the worker died without saying why.
    #[schemars(range(max = 100))]
    pub crash: u32,
    /// When it ran longer than `timeout_s`.
    #[schemars(range(max = 100))]
    pub timeout: u32,
    /// When a judge does not answer.
    #[schemars(range(max = 100))]
    pub judge_unavailable: u32,
    /// Seconds before the first retry; each next one waits twice as long.
    #[schemars(range(min = 0, max = 86400))]
    pub backoff_s: f64,
    /// But no longer than this.
    #[schemars(range(min = 0, max = 86400))]
    pub max_backoff_s: f64,
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
    /// The time limit of the stage `name` of this `kind`: that of its name, else that of its kind.
    pub fn timeout_s(&self, name: &str, kind: &str) -> Option<f64> {
        self.timeout_s.get(name).or_else(|| self.timeout_s.get(kind)).copied()
    }

    /// `stages` are the names of the recipe's stages.
    pub(super) fn resolve(
        cell: &Cell<'_>,
        stages: &BTreeSet<&str>,
        table: RuntimeTable,
        problems: &mut Problems,
    ) -> Option<Self> {
        let RuntimeTable {
            device,
            threads,
            resume_interval_s,
            keep_resume_points,
            gradient_checkpointing,
            jobs,
            gpus,
            timeout_s,
            stop_grace_s,
            retries,
            judges,
            endpoints,
        } = table;
        check_timeouts(cell, stages, &timeout_s, problems);
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
            gpus,
            timeout_s,
            stop_grace_s,
            retries,
            judges,
            endpoints,
        })
    }
}

/// Reports time limits of what is neither a stage nor a kind of stage.
fn check_timeouts(cell: &Cell<'_>, stages: &BTreeSet<&str>, limits: &BTreeMap<String, f64>, problems: &mut Problems) {
    let mut known = stages.clone();
    for kind in stage_kinds() {
        known.insert(kind);
    }
    for name in limits.keys().filter(|name| !known.contains(name.as_str())) {
        let place = cell.key_place(&KeyPath::dotted("runtime.timeout_s").key(name));
        let message = format!("`runtime.timeout_s` names `{name}`, which is neither a stage nor a kind of stage");
        let known: Vec<&str> = known.iter().copied().collect();
        problems.push(Problem::at(place, message, "unknown").help(did_you_mean(name, "stages and kinds", &known)));
    }
}

/// The kinds of stage that the schema has.
fn stage_kinds() -> impl Iterator<Item = &'static str> {
    let stage = schema::resolved(&schema::root()["properties"]["stages"]["additionalProperties"]);
    let kinds = stage["anyOf"].as_array().expect("a stage is one of several tables").iter();
    kinds.filter_map(|kind| schema::resolved(kind)["properties"]["kind"]["const"].as_str())
}
