//! CPT -> SFT -> GRPO as users run them, each stage in its own process. One stage is killed and resumed.

use super::{Report, line};
use crate::error::{StageError, StageResult};
use crate::weights::load_tensors;
use crate::{cuda, device};
use orchestrate_core::digest::Digest;
use orchestrate_core::event::{Event, EventKind, Step};
use orchestrate_core::plan::{Plan, PlannedStage};
use orchestrate_core::recipe::{self, HubFiles, HubReference, HubRefusal, Inputs, Overrides};
use orchestrate_core::stage::StageKind;
use orchestrate_core::workspace::{
    Assignment, DeviceChoice, EventReader, FileDigests, Runtime, SUPERVISOR_VARIABLE, Workspace, WorkspaceError,
};
use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use tch::{Device, Tensor};

/// Maximum duration of a step of a tiny model.
const PATIENCE: Duration = Duration::from_mins(5);
/// Memory that may still be in use after the workers have ended, since other processes start and end.
const LEFT_BYTES: u64 = 256 << 20;
/// Number of runs that are never stopped, where a resumed one differs: two of them may agree by chance.
const REPEATS: usize = 3;

/// The checks of this file, by the beginnings of their names.
const CHECKS: [&str; 3] = [PIPELINE, RESUME, MEMORY];
const PIPELINE: &str = "pipeline";
const RESUME: &str = "resume after a kill";
const MEMORY: &str = "memory comes back";

pub(super) fn run(report: &mut Report, project: &Path, device: Device) -> StageResult<()> {
    // the stages need each other, so all of them run if one check of this file is asked for
    if !CHECKS.iter().any(|name| report.wants(name)) {
        return Ok(());
    }
    let memory_before = cuda::memory_used(device);
    let cache = Workspace::open(&project.join("runs")).map_err(failed)?;
    let plan = plan(project, &cache)?;
    let mut most_memory = memory_before;
    // a stage needs the results of its parents, and nothing else of the others
    let mut failed_stages: BTreeSet<usize> = BTreeSet::new();
    for (index, stage) in plan.stages.iter().enumerate() {
        let name = format!("{PIPELINE}, {} {}", stage.name, stage.variants.join(" "));
        if stage.parents.iter().any(|parent| failed_stages.contains(parent)) {
            failed_stages.insert(index);
            line(&format!("skip           {name}: the stage before it failed"))?;
            continue;
        }
        let passed = report.prove(&name, || {
            let mut worker = Worker::start(&plan, index, &cache, &cache, device)?;
            most_memory = most_memory.max(worker.watch(device)?);
            let ended = worker.child.wait()?;
            let (ok, found) = judge(&worker.events(&cache)?);
            Ok((ended.success() && ok, found))
        })?;
        if !passed {
            failed_stages.insert(index);
        }
    }
    for (index, stage) in plan.stages.iter().enumerate().filter(|(_, stage)| stage.spec.work.kind() == StageKind::Sft) {
        if !failed_stages.contains(&index) {
            let name = format!("{RESUME}, sft {}", stage.variants.join(" "));
            report.prove(&name, || resume(project, &plan, index, &cache, device))?;
        }
    }
    match (memory_before, most_memory, cuda::memory_used(device)) {
        (Some(before), Some(most), Some(after)) => {
            let mib = |bytes: u64| bytes >> 20;
            let found = format!("{} MiB before, at most {}, {} after", mib(before), mib(most), mib(after));
            report.prove(MEMORY, || Ok((after <= before + LEFT_BYTES, found)))?;
            Ok(())
        }
        _ => line("               memory comes back: not measured here"),
    }
}

/// Kills a stage in the middle, resumes it, and compares it with the one that was never stopped.
fn resume(project: &Path, plan: &Plan, index: usize, cache: &Workspace, device: Device) -> StageResult<(bool, String)> {
    let key = &plan.stages[index].key;
    let adapter = |cache: &Workspace| cache.root().join("cache").join(key.as_str()).join("adapter_model.safetensors");
    let resumed = Workspace::open(&project.join("resumed")).map_err(failed)?;
    let mut worker = Worker::start(plan, index, cache, &resumed, device)?;
    worker.wait_for_resume_point()?;
    worker.child.kill()?;
    worker.child.wait()?;
    let ended = Worker::start(plan, index, cache, &resumed, device)?.child.wait()?;
    if !ended.success() {
        return Ok((false, format!("the resumed worker ended with {ended}")));
    }
    let off = difference(&adapter(cache), &adapter(&resumed))?;
    if off == 0.0 {
        return Ok((true, "the same to the bit as never stopped".to_owned()));
    }
    // Some kernels of GPUs add in any order. Then two runs that were never stopped differ as much.
    let mut noise: f64 = 0.0;
    for again in 0..REPEATS {
        let again = Workspace::open(&project.join(format!("again-{again}"))).map_err(failed)?;
        Worker::start(plan, index, cache, &again, device)?.child.wait()?;
        noise = noise.max(difference(&adapter(cache), &adapter(&again))?);
    }
    let found = format!("largest difference {off:.1e}; between runs that were never stopped {noise:.1e}");
    Ok((off < 10.0 * noise, found))
}

/// Returns the largest difference between two adapters.
fn difference(a: &Path, b: &Path) -> StageResult<f64> {
    let (a, b) = (load_tensors(a)?, load_tensors(b)?);
    let largest = |(name, t): (&String, &Tensor)| (t - &b[name]).abs().max().double_value(&[]);
    // `f64::max` would ignore NaN
    Ok(a.iter().map(largest).fold(0.0, |most, off| if off.is_nan() { f64::INFINITY } else { most.max(off) }))
}

/// Returns whether a stage's events are as expected, with a description. GRPO needs a finite mean reward and an
/// on-policy ratio near 1, other stages a training loss that falls.
fn judge(events: &[Event]) -> (bool, String) {
    let steps: Vec<&Step> = events
        .iter()
        .filter_map(|event| match &event.kind {
            EventKind::Step(step) => Some(step),
            _ => None,
        })
        .collect();
    let failure = events.iter().find_map(|event| match &event.kind {
        EventKind::Failed(failure) => Some(failure.message.clone()),
        _ => None,
    });
    let (Some(first), Some(last), None) = (steps.first(), steps.last(), &failure) else {
        return (false, failure.unwrap_or_else(|| "no step; see the worker's stderr".to_owned()));
    };
    if let Some(reward) = last.metrics.get("reward/mean") {
        let ratio = last.metrics.get("grpo/ratio_deviation").copied().unwrap_or(f64::NAN);
        let found = format!("{} steps, mean reward {reward:.2}, on-policy ratio off 1 by {ratio:.1e}", steps.len());
        return (reward.is_finite() && ratio < 0.05, found);
    }
    let loss = |step: &Step| step.metrics.get("train/loss").copied().unwrap_or(f64::NAN);
    (loss(last) < loss(first), format!("{} steps, loss {:.2} -> {:.2}", steps.len(), loss(first), loss(last)))
}

fn plan(project: &Path, cache: &Workspace) -> StageResult<Plan> {
    let mut files = Files(cache.digests());
    let recipes = recipe::load(project, &[PathBuf::from("recipe.toml")], &Overrides::default(), &mut files)
        .map_err(|e| StageError::input(format!("the recipe of the self-test: {}", e.render(100, false))))?;
    Ok(Plan::build(&recipes))
}

struct Files(FileDigests);

impl Inputs for Files {
    fn directory(&mut self, path: &Path) -> io::Result<Digest> {
        self.0.model_directory(path)
    }

    fn file(&mut self, path: &Path) -> io::Result<Digest> {
        self.0.file(path)
    }

    fn hub(&mut self, _: &HubReference) -> Result<HubFiles, HubRefusal> {
        let message = "the self-test uses no network".to_owned();
        Err(HubRefusal { message, help: "it needs nothing but its golden files".to_owned() })
    }
}

/// A stage that runs in its own process.
struct Worker {
    child: Child,
    attempt: PathBuf,
    key: Digest,
}

impl Worker {
    /// Starts a stage of `plan`, whose parents are in `parents`. It commits its result into `cache`.
    fn start(plan: &Plan, index: usize, parents: &Workspace, cache: &Workspace, device: Device) -> StageResult<Self> {
        let stage: &PlannedStage = &plan.stages[index];
        let checkpoint = |parent: &usize| parents.root().join("cache").join(plan.stages[*parent].key.as_str());
        let assignment = Assignment {
            key: stage.key.clone(),
            stage: stage.name.clone(),
            spec: stage.spec.clone(),
            inputs: stage.inputs.clone(),
            parents: stage.checkpoints().iter().map(checkpoint).collect(),
            results: std::collections::BTreeMap::new(),
            snapshots: std::collections::BTreeMap::new(),
            program: stage.program.clone(),
            runtime: Runtime {
                device: DeviceChoice::named(&device::name(device)).expect("a device's name is one"),
                threads: stage.runtime.threads,
                resume_interval_s: stage.runtime.resume_interval_s,
                keep_resume_points: stage.runtime.keep_resume_points,
                gradient_checkpointing: false,
                bfloat16_products: stage.runtime.bfloat16_products,
                deterministic: stage.runtime.deterministic,
                cuda_graphs: stage.runtime.cuda_graphs,
                judges: stage.runtime.judges.clone(),
                endpoints: stage.runtime.endpoints.clone(),
            },
        };
        let attempt = cache.prepare(&assignment, &stage.key_json()).map_err(failed)?.dir().to_owned();
        let child = Command::new(std::env::current_exe()?)
            .arg(&attempt)
            .env(SUPERVISOR_VARIABLE, std::process::id().to_string())
            .stdin(Stdio::null())
            .spawn()?;
        Ok(Self { child, attempt, key: stage.key.clone() })
    }

    /// Waits for the end of the worker, and returns the peak of the device memory in use.
    fn watch(&mut self, device: Device) -> StageResult<Option<u64>> {
        let mut most = cuda::memory_used(device);
        while self.child.try_wait()?.is_none() {
            most = most.max(cuda::memory_used(device));
            std::thread::sleep(Duration::from_millis(50));
        }
        Ok(most)
    }

    /// Waits for the first resume point. The time to the next ones depends on how long it took to write.
    fn wait_for_resume_point(&mut self) -> StageResult<()> {
        let began = Instant::now();
        let mut reader = EventReader::new(&self.attempt);
        loop {
            let written = |event: &Event| matches!(event.kind, EventKind::ResumePoint { .. });
            if reader.poll().map_err(failed)?.iter().any(written) {
                return Ok(());
            }
            if self.child.try_wait()?.is_some() || began.elapsed() > PATIENCE {
                let _ = self.child.kill(); // the process may have ended by itself
                return Err(StageError::input("the stage left no resume point".to_owned()));
            }
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    /// Returns the worker's events, from its checkpoint or, if there is none, from its attempt.
    fn events(&self, cache: &Workspace) -> StageResult<Vec<Event>> {
        let committed = cache.root().join("cache").join(self.key.as_str());
        let dir = if committed.is_dir() { &committed } else { &self.attempt };
        EventReader::new(dir).poll().map_err(failed)
    }
}

#[expect(clippy::needless_pass_by_value, reason = "it is the function that `map_err` is given")]
fn failed(error: WorkspaceError) -> StageError {
    StageError::input(format!("the self-test's directory: {error}"))
}
