//! `orchestrate doctor`.

use super::context::Context;
use super::error::{CliError, Kind};
use super::output::Output;
use crate::cache::Cache;
use crate::exec::{LocalExecutor, worker_version};
use crate::report::{Column, Table, width};
use clap::Args;
use serde_json::json;

/// Least free space that a run should begin with.
const LOW_DISK_GIB: f64 = 5.0;

/// Nothing to choose.
#[derive(Debug, Args)]
#[command(after_help = "\
Looks for the worker and asks it for its version of libtorch, measures the free disk space and
looks into the cache. Ends with 1 if something would keep a run from working.")]
pub(super) struct DoctorArgs {}

/// What was found of one thing.
struct Finding {
    what: &'static str,
    ok: bool,
    found: String,
    hint: Option<String>,
}

pub(super) fn doctor(context: &Context, _args: &DoctorArgs) -> Result<(), CliError> {
    let findings = [worker(), processors(), disk(context), cache(context)];
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
            table.push(vec![finding.what.to_owned(), ok.to_owned(), finding.found.clone()]);
        }
        out.line(table.render(width()))?;
    }
    out.finish()?;
    let bad: Vec<&Finding> = findings.iter().filter(|finding| !finding.ok).collect();
    if bad.is_empty() {
        return Ok(());
    }
    let names: Vec<&str> = bad.iter().map(|finding| finding.what).collect();
    let error = CliError::new(Kind::Internal, format!("not in order: {}", names.join(", ")));
    Err(bad.into_iter().filter_map(|finding| finding.hint.clone()).fold(error, CliError::hint))
}

fn worker() -> Finding {
    let what = "worker";
    let executor = match LocalExecutor::find() {
        Ok(executor) => executor,
        Err(error) => {
            let hint = "`cargo build --release` builds it; `ORCHESTRATE_WORKER` names one elsewhere";
            return Finding { what, ok: false, found: error.to_string(), hint: Some(hint.into()) };
        }
    };
    match worker_version(&executor) {
        Ok(version) => {
            let gpus = match version.cuda_devices {
                0 => "no GPU".to_owned(),
                count => format!("{count} GPU"),
            };
            let (own, libtorch, path) = (version.version, version.libtorch, executor.program().display());
            Finding { what, ok: true, found: format!("{own}, libtorch {libtorch}, {gpus} ({path})"), hint: None }
        }
        Err(error) => {
            let hint = "libtorch is most likely not where the worker was linked to find it: `./justw setup`";
            Finding { what, ok: false, found: error.to_string(), hint: Some(hint.into()) }
        }
    }
}

fn processors() -> Finding {
    let count = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let memory = fs_err::read_to_string("/proc/meminfo").ok().and_then(|text| total_memory_gib(&text));
    let memory = memory.map(|gib| format!(", {gib:.1} GiB of memory")).unwrap_or_default();
    Finding { what: "machine", ok: true, found: format!("{count} cores{memory}"), hint: None }
}

fn total_memory_gib(meminfo: &str) -> Option<f64> {
    let line = meminfo.lines().find(|line| line.starts_with("MemTotal:"))?;
    let kib: f64 = line.split_whitespace().nth(1)?.parse().ok()?;
    Some(kib / (1024.0 * 1024.0))
}

fn disk(context: &Context) -> Finding {
    let what = "disk";
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
    let what = "cache";
    let found = Cache::open(context.runs()).and_then(|cache| cache.keys());
    match found {
        Ok(checkpoints) => Finding { what, ok: true, found: format!("{} checkpoints", checkpoints.len()), hint: None },
        Err(error) => Finding { what, ok: false, found: error.to_string(), hint: None },
    }
}
