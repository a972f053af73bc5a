//! `orchestrate doctor`.

use super::context::{Context, block_on};
use super::error::{CliError, Kind};
use super::output::Output;
use super::planning;
use crate::cpu::BadChoice;
use crate::cpu::Bfloat16Products;
use crate::exec::{CpuReport, CudaProblem, WorkerBinary, WorkerVersion, worker_version};
use crate::host::{InstalledGpu, installed_gpus, installed_memory_bytes};
use crate::number::{gib, gib_of};
use crate::recipe::Overrides;
use crate::report::{Column, Table, width};
use crate::rewards::{reach_judge, reach_service};
use crate::store::{SchemaCheck, Store, database_path};
use crate::workspace::Workspace;
use clap::Args;
use serde_json::json;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// The free space below which the disk counts as low, in GiB.
const LOW_DISK_GIB: f64 = 5.0;

/// What to look at beside the machine.
#[derive(Debug, Args)]
#[command(after_help = "\
Checks the worker with its version of libtorch, the GPUs (if it can use none, why), the free disk space,
the cache, and the history's database. With recipes, it also checks that the servers of their judges and
services answer. Ends with 1 if something would keep a run from working, or a GPU of this machine from
being used.

--json prints {\"what\",\"ok\",\"found\",\"hint\"}, one a line.

Examples:
  orchestrate doctor
  orchestrate doctor recipes/grid.toml     its judges too")]
pub(super) struct DoctorArgs {
    /// Recipes whose judges and services are to be reached.
    #[arg(value_name = "RECIPE")]
    recipes: Vec<PathBuf>,
}

/// The result of one check.
struct Finding {
    what: String,
    ok: bool,
    found: String,
    hint: Option<String>,
}

pub(super) fn doctor(context: &Context, args: &DoctorArgs) -> Result<(), CliError> {
    let mut findings = worker();
    findings.extend([processors(), disk(context), cache(context), history(context)]);
    findings.extend(servers(context, &args.recipes)?);
    let mut out = Output::stdout();
    if context.json {
        for finding in &findings {
            out.json(&json!({
                "what": finding.what, "ok": finding.ok, "found": finding.found, "hint": finding.hint,
            }))?;
        }
    } else {
        let mut table = Table::new(vec![Column::left("what"), Column::left("ok"), Column::left("found")]);
        for finding in &findings {
            let ok = if finding.ok { "yes" } else { "NO" };
            table.push(vec![finding.what.clone(), ok.to_owned(), finding.found.clone()]);
        }
        out.line(table.render(width()))?;
    }
    out.finish()?;
    let bad: Vec<&Finding> = findings.iter().filter(|finding| !finding.ok).collect();
    if bad.is_empty() {
        return Ok(());
    }
    let names: Vec<&str> = bad.iter().map(|finding| finding.what.as_str()).collect();
    let error = CliError::new(Kind::Internal, format!("problems found: {}", names.join(", ")));
    Err(bad.into_iter().filter_map(|finding| finding.hint.clone()).fold(error, CliError::hint))
}

/// Checks the worker, and the GPUs that it can use.
fn worker() -> Vec<Finding> {
    let what = "worker".to_owned();
    let worker = match WorkerBinary::find() {
        Ok(worker) => worker,
        Err(error) => {
            let hint = "`cargo build --release` builds it; `ORCHESTRATE_WORKER` names one elsewhere";
            return vec![Finding { what, ok: false, found: error.to_string(), hint: Some(hint.into()) }];
        }
    };
    match worker_version(&worker) {
        Ok(WorkerVersion { version, libtorch, cuda_devices, cuda_problem, cpu: report, cpu_problem }) => {
            let found = format!("{version}, libtorch {libtorch} ({})", worker.program().display());
            let worker = Finding { what, ok: true, found, hint: None };
            vec![worker, cpu(report.ok_or(cpu_problem)), gpu(cuda_devices, cuda_problem.as_ref(), &listed_gpus())]
        }
        Err(error) => {
            let hint = "libtorch is most likely not where the worker was linked to find it: `./justw setup`";
            vec![Finding { what, ok: false, found: error.to_string(), hint: Some(hint.into()) }]
        }
    }
}

/// Reports how stages compute on the CPU: the instructions, and the treatment of bfloat16.
fn cpu(report: Result<CpuReport, Option<String>>) -> Finding {
    let what = "cpu".to_owned();
    let CpuReport { instructions, bfloat16_products, float32_products, why_slow } = match report {
        Ok(report) => report,
        Err(problem) => {
            let found = problem.unwrap_or_else(|| "the worker does not say".to_owned());
            return Finding { what, ok: false, found, hint: Some(BadChoice::HINT.to_owned()) };
        }
    };
    let (bfloat16, hint) = match (bfloat16_products, why_slow) {
        (Bfloat16Products::Widened, Some(why)) => (format!("bfloat16 weights are multiplied in 32 bits: {why}"), None),
        (Bfloat16Products::Widened, None) => (
            "bfloat16 weights are multiplied in 32 bits, as ORCHESTRATE_RUNTIME__BFLOAT16_PRODUCTS asks".to_owned(),
            None,
        ),
        (_, Some(why)) => (
            format!("bfloat16 is multiplied by libtorch, 7 to 60 times as slowly as float32: {why}"),
            Some("unset ORCHESTRATE_RUNTIME__BFLOAT16_PRODUCTS, or set it to `widened`".to_owned()),
        ),
        (_, None) => ("fast bfloat16".to_owned(), None),
    };
    Finding {
        what,
        ok: hint.is_none(),
        found: format!("{}, float32 by {}, {bfloat16}", instructions.name(), float32_products.name()),
        hint,
    }
}

/// Returns the GPUs that the driver lists, with their memory.
fn listed_gpus() -> Vec<String> {
    installed_gpus().iter().map(shown_gpu).collect()
}

fn shown_gpu(gpu: &InstalledGpu) -> String {
    match gpu.memory {
        Some(memory) if memory.is_busy() => format!("{}, {} free", gpu.name, gib_of(memory.free, memory.total)),
        Some(memory) => format!("{}, {}", gpu.name, gib(memory.total)),
        None => gpu.name.clone(),
    }
}

/// Checks which of the `listed` GPUs the worker can use. A machine without GPUs is fine; an unusable GPU is not.
fn gpu(devices: i64, problem: Option<&CudaProblem>, listed: &[String]) -> Finding {
    let (why, hint) = match problem {
        _ if devices > 0 => {
            let names = if listed.is_empty() { String::new() } else { format!(": {}", listed.join("; ")) };
            return Finding { what: "gpu".to_owned(), ok: true, found: format!("{devices} usable{names}"), hint: None };
        }
        None => ("the worker sees none".to_owned(), "see `orchestrate-worker --version`"),
        Some(CudaProblem::LibraryMissing) => (
            "libtorch is its CPU build: libtorch_cuda.so is not on the library path".to_owned(),
            "`./justw setup cuda` brings it; or put the `lib` folder of your own torch on LD_LIBRARY_PATH",
        ),
        Some(CudaProblem::LibraryUnloadable(reason)) => (
            format!("libtorch_cuda.so cannot be loaded: {reason}"),
            "the library it names must be beside it or on LD_LIBRARY_PATH; `./justw setup cuda` brings all of them",
        ),
        Some(CudaProblem::DriverMissing(reason)) => (
            format!("the NVIDIA driver is missing: {reason}"),
            "install the driver; in a container, start it with `--gpus all`",
        ),
        Some(CudaProblem::NoDevice(reason)) => (
            format!("the driver shows no device: {reason}"),
            "check CUDA_VISIBLE_DEVICES, and whether another container holds the device",
        ),
    };
    let broken = matches!(problem, Some(CudaProblem::LibraryUnloadable(_)));
    let ok = listed.is_empty() && !broken;
    let here = if listed.is_empty() { "none".to_owned() } else { format!("{} unusable", listed.join("; ")) };
    let found = format!("{here}, stages run on the CPU: {why}");
    Finding { what: "gpu".to_owned(), ok, found, hint: (!ok).then(|| hint.to_owned()) }
}

fn processors() -> Finding {
    let count = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let memory = installed_memory_bytes().map(|bytes| format!(", {} of memory", gib(bytes))).unwrap_or_default();
    Finding { what: "machine".to_owned(), ok: true, found: format!("{count} cores{memory}"), hint: None }
}

fn disk(context: &Context) -> Finding {
    let what = "disk".to_owned();
    match rustix::fs::statvfs(context.project()) {
        Ok(space) => {
            #[expect(clippy::cast_precision_loss, reason = "shown with one decimal")]
            let free_gib = space.f_bavail as f64 * space.f_frsize as f64 / (1u64 << 30) as f64;
            let ok = free_gib >= LOW_DISK_GIB;
            let hint = (!ok).then(|| format!("checkpoints need room: free at least {LOW_DISK_GIB} GiB"));
            Finding { what, ok, found: format!("{free_gib:.1} GiB free"), hint }
        }
        Err(error) => Finding { what, ok: false, found: error.to_string(), hint: None },
    }
}

fn cache(context: &Context) -> Finding {
    let what = "cache".to_owned();
    let found = Workspace::open(context.runs()).and_then(|workspace| workspace.keys());
    match found {
        Ok(checkpoints) => Finding { what, ok: true, found: format!("{} checkpoints", checkpoints.len()), hint: None },
        Err(error) => Finding { what, ok: false, found: error.to_string(), hint: None },
    }
}

/// Checks the history's database. If it is unusable, runs lose their history but not their results.
fn history(context: &Context) -> Finding {
    let what = "history".to_owned();
    let path = match database_path(context.runs()) {
        Ok(path) => path,
        Err(error) => return Finding { what, ok: false, found: error.to_string(), hint: Some(error.hint()) },
    };
    if !path.exists() {
        return Finding { what, ok: true, found: "none yet".to_owned(), hint: None };
    }
    let checked = block_on(async { Ok(Store::open_read_only(&path).await?.check().await?) });
    let bad = |found: String, hint: &str| Finding {
        what: "history".to_owned(),
        ok: false,
        found,
        hint: Some(hint.to_owned()),
    };
    let renew = "`orchestrate db rebuild` rebuilds it from the files";
    match checked {
        Ok(SchemaCheck::Current | SchemaCheck::Older) if writable(&path).is_err() => bad(
            format!("{} cannot be written", context.shown(&path)),
            "runs go on without a history; get the right to write it, or set ORCHESTRATE_RUNS to another directory",
        ),
        Ok(SchemaCheck::Current) => {
            let found = format!("{}: sound, up to date", context.shown(&path));
            Finding { what, ok: true, found, hint: None }
        }
        Ok(SchemaCheck::Older) => {
            let found = format!("{}: sound; the next query updates its schema", context.shown(&path));
            Finding { what, ok: true, found, hint: None }
        }
        Ok(SchemaCheck::Newer) => bad(
            "written by a newer version of orchestrate".to_owned(),
            "use that version, or move the database away: it is rebuilt from the files",
        ),
        Ok(SchemaCheck::Damaged(reason)) => bad(format!("damaged: {reason}"), renew),
        Err(error) => bad(error.sentence(), renew),
    }
}

/// Checks that the database can be written: the file, and its directory, in which SQLite keeps its log.
fn writable(path: &Path) -> rustix::io::Result<()> {
    let directory = path.parent().unwrap_or(Path::new("."));
    rustix::fs::access(directory, rustix::fs::Access::WRITE_OK)?;
    rustix::fs::access(path, rustix::fs::Access::WRITE_OK)
}

/// Checks the servers that `recipes` name, each once.
fn servers(context: &Context, recipes: &[PathBuf]) -> Result<Vec<Finding>, CliError> {
    if recipes.is_empty() {
        return Ok(Vec::new());
    }
    let overrides = Overrides::with_process_environment(Vec::new());
    let loaded = planning::planned(context, recipes, &overrides, &[])?.recipes;
    let mut findings: BTreeMap<String, Finding> = BTreeMap::new();
    let mut add = |what: String, reach: &dyn Fn() -> Result<String, String>| {
        findings.entry(what).or_insert_with_key(|what| {
            let (ok, found) = reach().map_or_else(|reason| (false, reason), |found| (true, found));
            let hint = (!ok).then(|| format!("start its server, or correct {what} in the recipe's `[runtime]`"));
            Finding { what: what.clone(), ok, found, hint }
        });
    };
    for recipe in &loaded {
        for (model, server) in &recipe.runtime.judges {
            add(format!("judge {model}"), &|| reach_judge(model, server));
        }
        for (name, endpoint) in &recipe.runtime.endpoints {
            add(format!("endpoint {name}"), &|| reach_service(endpoint));
        }
    }
    Ok(findings.into_values().collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cpu::{Float32Products, Instructions};
    use crate::host::GpuMemory;

    #[test]
    fn a_cpu_that_is_slow_in_bfloat16_says_why_and_what_to_set() {
        let report = |bfloat16_products, why: Option<&str>| {
            let why_slow = why.map(str::to_owned);
            let float32_products = Float32Products::Onednn;
            cpu(Ok(CpuReport { instructions: Instructions::Avx2, bfloat16_products, float32_products, why_slow }))
        };
        let widened = report(Bfloat16Products::Widened, Some("the CPU has neither AVX512-BF16 nor AMX-BF16"));
        assert!(widened.ok && widened.found.contains("32 bits: the CPU has neither"), "{}", widened.found);
        let native = report(Bfloat16Products::Native, Some("the CPU has neither AVX512-BF16 nor AMX-BF16"));
        assert!(!native.ok && native.hint.unwrap().contains("widened"), "{}", native.found);
        assert_eq!(report(Bfloat16Products::Native, None).found, "avx2, float32 by oneDNN, fast bfloat16");
        let problem = "ATEN_CPU_CAPABILITY asks for AVX-512, which this CPU does not have";
        let refused = cpu(Err(Some(problem.to_owned())));
        assert!(!refused.ok && refused.hint.unwrap().contains("unset"));
    }

    #[test]
    fn a_gpu_is_shown_with_what_is_free_if_processes_hold_much() {
        let shown = |used: u64| {
            let memory = GpuMemory { total: 80 << 30, free: (80 - used) << 30, used: used << 30 };
            let (name, uuid) = ("NVIDIA A100".to_owned(), "GPU-aa11".to_owned());
            shown_gpu(&InstalledGpu { index: 0, name, uuid, memory: Some(memory), parts: Vec::new() })
        };
        assert_eq!(shown(1), "NVIDIA A100, 80.0 GiB");
        assert_eq!(shown(60), "NVIDIA A100, 20.0 of 80.0 GiB free");
    }

    #[test]
    fn a_gpu_that_cannot_be_used_is_not_in_order_and_each_reason_has_its_own_words() {
        let listed = ["NVIDIA H200, 143771 MiB".to_owned()];
        let cases = [
            (CudaProblem::LibraryMissing, "CPU build", "setup cuda"),
            (CudaProblem::LibraryUnloadable("libcudart.so.13: no".into()), "libcudart.so.13", "LD_LIBRARY_PATH"),
            (CudaProblem::DriverMissing("libcuda.so.1: no".into()), "driver is missing", "--gpus"),
            (CudaProblem::NoDevice("cuInit: 100".into()), "cuInit: 100", "CUDA_VISIBLE_DEVICES"),
        ];
        for (problem, found, hint) in cases {
            let finding = gpu(0, Some(&problem), &listed);
            assert!(
                !finding.ok && finding.found.contains("H200") && finding.found.contains(found),
                "{}",
                finding.found
            );
            assert!(finding.hint.unwrap().contains(hint), "{problem:?}");
            let without = gpu(0, Some(&problem), &[]);
            assert!(without.found.starts_with("none") && without.found.contains(found), "{}", without.found);
            let broken = matches!(problem, CudaProblem::LibraryUnloadable(_));
            assert_eq!(without.ok, !broken, "a machine without a GPU is in order unless libtorch is broken");
        }
        assert_eq!(gpu(1, None, &listed).found, "1 usable: NVIDIA H200, 143771 MiB");
    }
}
