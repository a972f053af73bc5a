//! `[runtime]`: settings of how stages run. None of them may change a result, and none is hashed.

use crate::cpu::Bfloat16Products;
use crate::recipe::runtime::http_endpoint;
use crate::recipe::runtime::judge_server;
use crate::recipe::sweep::variant::Variant;
use crate::recipe::tables::schema;
use crate::recipe::text::diagnostic::{Problem, Problems};
use crate::recipe::text::located::KeyPath;
use crate::rewards::{HttpEndpoint, JudgeServer};
use crate::stage::StageKind;
use crate::suggestion::did_you_mean;
use schemars::JsonSchema;
use serde::de::Error as _;
use serde::{Deserialize, Deserializer};
use std::collections::{BTreeMap, BTreeSet};
use toml::{Table, Value};

/// How stages are run; never changes a result, so it is not part of a cache key.
#[derive(Clone, Debug, PartialEq, Deserialize, JsonSchema)]
#[schemars(rename = "RuntimeTable")]
#[serde(deny_unknown_fields)]
pub struct RuntimeSettings {
    /// `auto` (the first GPU if there is one, else the CPU), `cpu` or `cuda:N`.
    #[schemars(with = "String")]
    pub device: Device,
    /// CPU threads of a stage; default: all cores, or an equal share of them when several stages may run at a time.
    #[schemars(range(min = 1))]
    pub threads: Option<usize>,
    /// Seconds between resume points.
    #[schemars(extend("exclusiveMinimum" = 0))]
    pub resume_interval_s: f64,
    /// Resume points kept.
    #[schemars(range(min = 1))]
    pub keep_resume_points: usize,
    /// Keeps only the input of each layer and recomputes the rest in the backward pass: a third slower, a fraction of
    /// the memory, the same bits. `auto`: when the stage would not fit otherwise.
    pub gradient_checkpointing: GradientCheckpointing,
    /// How a CPU multiplies with weights that are held in bfloat16. Like another CPU, another choice changes a result's
    /// bits.
    pub bfloat16_products: Bfloat16Products,
    /// Whether training on a GPU takes only algorithms whose results repeat to the bit, at a few percent of a step's
    /// time. A CPU has no others.
    pub deterministic: bool,
    /// Whether a GPU records the step of a token and repeats it at one launch, which helps models whose layers are
    /// small. It has not run on a GPU yet.
    pub cuda_graphs: bool,
    /// Largest number of stages that run at the same time, unless `-j` is given; default: one on each GPU, or one.
    #[schemars(range(min = 1))]
    pub jobs: Option<usize>,
    /// GPUs that stages run on, one stage on each, as CUDA counts them; one that is listed twice takes two stages at a
    /// time when their memory fits. Default: all that are visible.
    #[schemars(length(min = 1))]
    pub gpus: Option<Vec<usize>>,
    /// Seconds after which a stage is asked to stop and has failed, by the name of the stage or by its kind; default:
    /// no limit.
    #[serde(default)]
    #[schemars(extend("additionalProperties" = { "type": "number", "exclusiveMinimum": 0 }))]
    pub timeout_s: BTreeMap<String, f64>,
    /// Seconds that a worker has to leave its resume point when it is stopped, its time is over or its run has died;
    /// then it is killed.
    #[schemars(range(max = 86400), extend("exclusiveMinimum" = 0))]
    pub stop_grace_s: f64,
    /// How often a failed stage is tried again, by the reason of the failure.
    pub retries: Retries,
    /// Where the judges that rewards name are served, by the name of their model.
    #[serde(default)]
    pub judges: BTreeMap<String, JudgeServer>,
    /// Where the services that `http` rewards name are served, by that name.
    #[serde(default)]
    pub endpoints: BTreeMap<String, HttpEndpoint>,
}

/// The recipe's `device`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Device {
    /// The first GPU if there is one, else the CPU.
    Auto,
    /// The CPU.
    Cpu,
    /// The GPU with this index.
    Cuda(usize),
}

/// When a training stage computes a layer's inside again in the backward pass (arXiv:1604.06174).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum GradientCheckpointing {
    /// When the stage would not fit into memory otherwise.
    Auto,
    /// Always.
    On,
    /// Never.
    Off,
}

/// How often a stage that failed is tried again; each try goes on from the newest resume point. What would fail the
/// same is not tried again: a program that ends with another exit code than 0 (one that a signal kills counts as a
/// crash), a judge whose budget is used up, data that does not fit.
#[derive(Clone, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Retries {
    /// After memory ran out: the retry uses gradient checkpointing, which changes no bit. A stage that already uses it,
    /// or does not train, is not tried again.
    #[schemars(range(max = 100))]
    pub oom: u32,
    /// After the worker died without giving a reason.
    #[schemars(range(max = 100))]
    pub crash: u32,
    /// After the stage ran longer than `timeout_s`.
    #[schemars(range(max = 100))]
    pub timeout: u32,
    /// After a judge or a service did not answer or refused, or too many values were missing. A judge whose budget is
    /// used up is not asked again.
    #[schemars(range(max = 100))]
    pub judge_unavailable: u32,
    /// Seconds before the first retry; each next one waits twice as long.
    #[schemars(range(min = 0, max = 86400))]
    pub backoff_s: f64,
    /// Longest pause before a retry, in seconds.
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
    /// Returns the time limit of the stage `name`, else that of its `kind`, in seconds.
    pub fn timeout_s(&self, name: &str, kind: StageKind) -> Option<f64> {
        self.timeout_s.get(name).or_else(|| self.timeout_s.get(kind.name())).copied()
    }

    /// Reads the recipe's table, with the defaults filled in; `stages` returns the names of the recipe's stages.
    /// Returns `None` when a value is invalid, which is reported.
    pub(in crate::recipe) fn resolve<'n>(
        variant: &Variant<'_>,
        stages: impl FnOnce() -> BTreeSet<&'n str>,
        mut table: Table,
        problems: &mut Problems,
    ) -> Option<Self> {
        let device = table.get("device").and_then(Value::as_str).unwrap_or_default().to_owned();
        let is_device = Device::named(&device).is_some();
        if !is_device {
            table.insert("device".to_owned(), Value::from("auto")); // lets the other keys be read
        }
        let settings = Self::deserialize(table);
        // A judge without a required key has been reported.
        assert!(settings.is_ok() || !problems.is_empty(), "fitting runtime keys over defaults make a whole table");
        let settings = settings.ok()?;
        if !settings.timeout_s.is_empty() {
            check_timeouts(variant, stages(), &settings.timeout_s, problems);
        }
        judge_server::check(variant, &settings.judges, problems);
        http_endpoint::check(variant, &settings.endpoints, problems);
        if !is_device {
            let place = variant.value_place(&KeyPath::dotted("runtime.device"));
            let problem = Problem::at(place, format!("unknown device `{device}`"), "no such device");
            problems.push(problem.help("known devices: `auto`, `cpu`, `cuda:0`, `cuda:1`, ..."));
        }
        is_device.then_some(settings)
    }
}

impl<'de> Deserialize<'de> for Device {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Self::named(&text).ok_or_else(|| D::Error::custom(format!("unknown device `{text}`")))
    }
}

/// Reports time limits of names that are neither a stage nor a kind of stage.
fn check_timeouts(
    variant: &Variant<'_>,
    stages: BTreeSet<&str>,
    limits: &BTreeMap<String, f64>,
    problems: &mut Problems,
) {
    let mut known = stages;
    for kind in stage_kinds() {
        known.insert(kind);
    }
    for name in limits.keys().filter(|name| !known.contains(name.as_str())) {
        let place = variant.key_place(&KeyPath::dotted("runtime.timeout_s").key(name));
        let message = format!("`runtime.timeout_s` names `{name}`, which is neither a stage nor a kind of stage");
        let known: Vec<&str> = known.iter().copied().collect();
        problems.push(Problem::at(place, message, "unknown").help(did_you_mean(name, "stages and kinds", &known)));
    }
}

/// Returns the stage kinds of the schema.
fn stage_kinds() -> impl Iterator<Item = &'static str> {
    let stage = schema::resolved(&schema::root()["properties"]["stages"]["additionalProperties"]);
    let kinds = stage["anyOf"].as_array().expect("a stage is one of several tables").iter();
    kinds.filter_map(|kind| schema::resolved(kind)["properties"]["kind"]["const"].as_str())
}
