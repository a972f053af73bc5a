//! `orchestrate verify RUN STAGE`.

use super::context::{Context, block_on};
use super::error::{CliError, Kind};
use super::find::{find_run, find_stages, past_runs, stage_title};
use super::output::Output;
use super::{planning, summary};
use crate::digest::Digest;
use crate::event::Started;
use crate::exec::{Executor, LocalExecutor, WorkerBinary};
use crate::history::{LoggedPlan, PastRun};
use crate::plan::Plan;
use crate::recipe::Device;
use crate::report::{Column, Progress, Table, width};
use crate::run::{Rerun, StageEnd, rerun, rerun_plan, titles};
use crate::workspace::{Checkpoint, DeviceChoice, EventLog, Lookup, Manifest, Workspace};
use clap::Args;
use serde_json::json;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// What to run again.
#[derive(Debug, Args)]
#[command(after_help = "\
Runs the stage again from the same parent checkpoint and inputs, and compares the digest of every file.
The rerun has a directory of its own, which never becomes part of the cache. Ends with 7 when a file
differs, and keeps the rerun for inspection. The usual reason is another device, libtorch or thread count; those
that differ are listed. --device and --threads choose them. Bits repeat only on a device of the same kind.

Examples:
  orchestrate verify latest sft
  orchestrate verify 7Q4XZ1 grpo --variant rouge --threads 2

--json prints {\"stage\",\"variants\":[..],\"key\",\"same\",\"files\":[{\"file\",\"recorded\",\"rerun\",\"same\"}],
\"recorded_on\":[..],\"rerun_on\":[..],\"kept\"}, one a line.")]
pub(super) struct VerifyArgs {
    /// A run's id, the beginning or end of one, or `latest`.
    #[arg(value_name = "RUN")]
    run: String,
    /// The stage; all of this name, if variants differ in it.
    #[arg(value_name = "STAGE")]
    stage: String,
    /// Only the stage of the variants whose names have these parts, e.g. `rouge` or `rouge,seed=1`; can be repeated.
    #[arg(long = "variant", value_name = "PATTERN")]
    variants: Vec<String>,
    /// Where to compute: `auto`, `cpu` or `cuda:N` [default: as the recipe says]
    #[arg(long, value_parser = super::args::device)]
    device: Option<DeviceChoice>,
    /// CPU threads [default: as the recipe says]
    #[arg(long, value_name = "N", value_parser = super::args::at_least_one)]
    threads: Option<usize>,
}

impl VerifyArgs {
    /// Selects a stage of the newest run, with the device and threads of its recipe.
    pub(super) fn latest(stage: &str) -> Self {
        Self { run: "latest".to_owned(), stage: stage.to_owned(), variants: Vec::new(), device: None, threads: None }
    }
}

/// A file of a stage's output.
struct FileRow {
    file: String,
    recorded: Option<Digest>,
    rerun: Option<Digest>,
}

impl FileRow {
    fn same(&self) -> bool {
        self.recorded == self.rerun
    }
}

pub(super) fn verify(context: &Context, args: &VerifyArgs) -> Result<(), CliError> {
    let runs = past_runs(context)?;
    let past = find_run(&runs, &args.run)?;
    let logged = LoggedPlan::load(&past.log_dir)?;
    let stages = find_stages(&logged, Some(&args.stage), args.variants.as_slice())?;
    if stages.is_empty() {
        let labels: Vec<&str> = logged.variants.iter().map(|variant| variant.label.as_str()).collect();
        return Err(CliError::nothing(format!("no variant with the stage `{}` has this name", args.stage))
            .hint(format!("the run's variants are {}", labels.join(", "))));
    }
    let plan = plan_again(context, past, args)?;
    let workspace = Workspace::open(context.runs())?;
    let mut executor = LocalExecutor::new(Some(WorkerBinary::find()?));
    let mut differing = Vec::new();
    for stage in stages {
        let name = stage_title(&logged, stage);
        let recorded = cached(&workspace, &stage.key, &name)?;
        let again = again(context, &plan, &recorded, &workspace, &mut executor)?;
        if !compare(context, &name, &stage.variants, &recorded, again)? {
            differing.push(name);
        }
    }
    if differing.is_empty() {
        return Ok(());
    }
    Err(CliError::new(Kind::Differs, format!("the rerun of {} gave a different result", differing.join(", "))))
}

/// Plans the run's stored recipes again, with its overrides and with the device and threads of the command line.
fn plan_again(context: &Context, past: &PastRun, args: &VerifyArgs) -> Result<Plan, CliError> {
    let invocation = &past.invocation;
    let stored: Vec<PathBuf> = invocation.recipes.iter().map(|path| past.log_dir.join("recipes").join(path)).collect();
    let mut plan = planning::planned(context, &stored, &invocation.overrides(), &invocation.variants)?.plan;
    for stage in &mut plan.stages {
        stage.runtime.threads = args.threads.or(stage.runtime.threads);
        stage.runtime.device = match args.device {
            None => stage.runtime.device,
            Some(DeviceChoice::Auto) => Device::Auto,
            Some(DeviceChoice::Cpu) => Device::Cpu,
            Some(DeviceChoice::Cuda(index)) => Device::Cuda(index),
        };
    }
    Ok(plan)
}

fn cached(workspace: &Workspace, key: &Digest, name: &str) -> Result<Checkpoint, CliError> {
    match workspace.lookup(key)? {
        Lookup::Hit(checkpoint) => Ok(checkpoint),
        Lookup::Miss => Err(CliError::nothing(format!("the result of `{name}` is not in the cache"))
            .hint("`orchestrate resume` or `orchestrate run` makes it; there is nothing to compare with")),
        Lookup::Quarantined { reason, dir } => Err(CliError::new(
            Kind::CorruptCache,
            format!("the result of `{name}` was damaged and is now in `{}`: {reason}", dir.display()),
        )),
    }
}

/// Runs the stage of `recorded` again, to its end.
fn again(
    context: &Context,
    plan: &Plan,
    recorded: &Checkpoint,
    workspace: &Workspace,
    executor: &mut dyn Executor,
) -> Result<Rerun, CliError> {
    let Some(stage) = plan.stages.iter().position(|stage| stage.key == recorded.key) else {
        return Err(CliError::nothing("the run's recipes no longer lead to this result")
            .hint("a model or data file has changed since: restore the file, or run the recipe again"));
    };
    let plan = rerun_plan(plan, stage);
    let own = plan.stages.len() - 1;
    let parents: Vec<Checkpoint> = plan.stages[..own]
        .iter()
        .map(|parent| cached(workspace, &parent.key, &parent.name))
        .collect::<Result<_, _>>()?;
    let titles = titles(&plan);
    let name = titles[own].clone();
    let mut progress = Progress::new(context.progress_mode(), titles);
    let mut again = block_on(async {
        Ok(rerun(plan, &parents, workspace, executor, &mut |update| progress.update(update)).await?)
    })?;
    if again.interrupted {
        return Err(CliError::new(Kind::Interrupted, "interrupted; the rerun was removed, and the cache is unchanged"));
    }
    if let StageEnd::Failed(failed) = &again.end {
        let _ = summary::print_failure(context, &name, &[], failed); // if stderr is closed, the exit code still reports the failure
        again.keep();
        return Err(CliError::new(Kind::StageFailed, format!("`{name}` failed when it was run again")));
    }
    Ok(again)
}

/// Prints for each file whether the rerun made the same content. Returns false if one differs.
fn compare(
    context: &Context,
    name: &str,
    variants: &[String],
    recorded: &Checkpoint,
    mut again: Rerun,
) -> Result<bool, CliError> {
    let Some(made) = &again.checkpoint else {
        return Err(CliError::new(Kind::Internal, "the rerun succeeded but left no checkpoint"));
    };
    let rows = rows(&recorded.manifest, &made.manifest);
    let same = rows.iter().all(FileRow::same);
    let (recorded_on, rerun_on) = (starts(&recorded.dir)?, starts(&made.dir)?);
    let kept = (!same).then(|| made.dir.clone());
    let mut out = Output::stdout();
    if context.json {
        let files: Vec<_> = rows
            .iter()
            .map(|row| json!({"file": row.file, "recorded": row.recorded, "rerun": row.rerun, "same": row.same()}))
            .collect();
        out.json(&json!({
            "stage": name, "variants": variants, "key": recorded.key, "same": same, "files": files,
            "recorded_on": recorded_on, "rerun_on": rerun_on, "kept": kept,
        }))?;
    } else {
        let headings = ["file", "recorded", "rerun", "result"];
        let mut table = Table::new(headings.into_iter().map(Column::left).collect());
        for row in &rows {
            let digest = |digest: &Option<Digest>| digest.as_ref().map_or("absent", Digest::short).to_owned();
            let result = if row.same() { "same" } else { "DIFFERS" };
            table.push(vec![row.file.clone(), digest(&row.recorded), digest(&row.rerun), result.to_owned()]);
        }
        out.line(format!("{name} ({})", recorded.key.short()))?;
        out.line(table.render(width()))?;
        if !same {
            out.line(conditions(&recorded_on, &rerun_on))?;
        }
        if let Some(kept) = &kept {
            out.line(format!("the rerun is kept in {}", context.shown(kept)))?;
        }
    }
    out.finish()?;
    if !same {
        again.keep();
    }
    Ok(same)
}

fn rows(recorded: &Manifest, rerun: &Manifest) -> Vec<FileRow> {
    let names: BTreeSet<&str> = recorded.outputs().chain(rerun.outputs()).map(|(name, _)| name).collect();
    let digest = |manifest: &Manifest, name: &str| manifest.files.get(name).map(|record| record.sha256.clone());
    names
        .into_iter()
        .map(|name| FileRow { file: name.to_owned(), recorded: digest(recorded, name), rerun: digest(rerun, name) })
        .collect()
}

/// Returns the starts of a checkpoint's workers; several if it was resumed.
fn starts(dir: &Path) -> Result<Vec<Started>, CliError> {
    Ok(EventLog::open(dir)?.starts().to_vec())
}

/// Returns the differences in the conditions of the two executions, as far as results may depend on them.
fn conditions(recorded: &[Started], rerun: &[Started]) -> String {
    type Read = fn(&Started) -> String;
    let facts: [(&str, Read); 7] = [
        ("device", device_kind),
        ("libtorch", |started| started.libtorch.clone()),
        ("threads", |started| started.threads.to_string()),
        ("instructions", |started| word(started.instructions.as_ref())),
        ("bfloat16_products", |started| word(started.bfloat16_products.as_ref())),
        ("float32_products", |started| word(started.float32_products.as_ref())),
        ("deterministic", |started| word(started.deterministic.as_ref())),
    ];
    let values = |starts: &[Started], read: Read| {
        let values: BTreeSet<String> = starts.iter().map(read).collect();
        values.into_iter().collect::<Vec<_>>().join(", ")
    };
    let differing: Vec<String> = facts
        .into_iter()
        .map(|(name, read)| (name, values(recorded, read), values(rerun, read)))
        .filter(|(_, recorded, rerun)| recorded != rerun)
        .map(|(name, recorded, rerun)| format!("{name}: recorded {recorded}, rerun {rerun}"))
        .collect();
    let kinds = |starts: &[Started]| values(starts, device_kind);
    let mut text = if differing.is_empty() {
        "device, libtorch and threads were the same".to_owned()
    } else {
        format!("run differently, the usual reason:\n  {}", differing.join("\n  "))
    };
    if kinds(recorded) != kinds(rerun) {
        text.push_str("\nbits repeat only on a device of the same kind, so the difference does not point to a fault");
    } else if recorded.iter().chain(rerun).any(|started| started.deterministic == Some(false)) {
        text.push_str("\nbits repeat on a GPU only with `runtime.deterministic = true`");
    }
    text
}

/// Returns the kind of device: the product name of a GPU, or `cpu`.
fn device_kind(started: &Started) -> String {
    started.gpu.clone().unwrap_or_else(|| started.device.clone())
}

/// Returns a setting's name as it is in events, or `none`.
fn word<T: serde::Serialize>(value: Option<&T>) -> String {
    match value.and_then(|value| serde_json::to_value(value).ok()) {
        Some(serde_json::Value::String(text)) => text,
        Some(value) => value.to_string(),
        None => "none".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn started(gpu: Option<&str>, deterministic: Option<bool>) -> Started {
        Started {
            host: "here".to_owned(),
            pid: 1,
            device: if gpu.is_some() { "cuda:0" } else { "cpu" }.to_owned(),
            gpu: gpu.map(str::to_owned),
            deterministic,
            libtorch: "2.11.0".to_owned(),
            threads: 2,
            instructions: None,
            bfloat16_products: None,
            float32_products: None,
            resumed_from_step: None,
            total_steps: 1,
        }
    }

    #[test]
    fn bits_of_another_kind_of_device_are_not_expected() {
        let cpu = [started(None, None)];
        let [h200, a100] = ["NVIDIA H200", "NVIDIA A100"].map(|name| [started(Some(name), Some(true))]);
        for (recorded, rerun) in [(&h200, &cpu), (&cpu, &a100), (&h200, &a100)] {
            assert!(conditions(recorded, rerun).ends_with("does not point to a fault"));
        }
        assert!(conditions(&h200, &a100).contains("device: recorded NVIDIA H200, rerun NVIDIA A100"));
        for same in [&h200, &cpu] {
            assert_eq!(conditions(same, same), "device, libtorch and threads were the same");
        }
        let fast = [started(Some("NVIDIA H200"), Some(false))];
        let text = conditions(&fast, &h200);
        assert!(text.contains("deterministic: recorded false, rerun true"), "{text}");
        assert!(text.ends_with("`runtime.deterministic = true`"), "{text}");
    }
}
