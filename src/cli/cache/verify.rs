//! `orchestrate cache verify`.

use super::keys_named;
use crate::cli::context::Context;
use crate::cli::error::{CliError, Kind};
use crate::cli::output::Output;
use crate::cli::plan::count;
use crate::cli::verify::{VerifyArgs as VerifyByRerunArgs, verify as verify_by_rerun};
use crate::digest::Digest;
use crate::report::Counter;
use crate::workspace::{Kept, Lookup, Manifest, Workspace};
use clap::Args;
use serde_json::json;
use std::sync::atomic::{AtomicU64, Ordering};

/// Which checkpoints to read.
#[derive(Debug, Args)]
#[command(after_help = "\
Without keys, the kept answers of arenas and evaluations are read too. Damaged ones are removed; the next stage
that needs them computes them again.

With --json: {\"key\", \"status\": \"ok\" | \"damaged\" | \"gone\", \"reason\"}, and for kept answers {\"answers\": FILES,
\"status\": \"ok\"} or {\"answers\": PATH, \"status\": \"damaged\", \"reason\"}. Ends with 6 when one is damaged.

Examples:
  orchestrate cache verify              all checkpoints
  orchestrate cache verify 3f2a91       those whose key begins so
  orchestrate cache verify --rerun sft  run `sft` of the newest run again, and compare the results")]
pub(super) struct VerifyArgs {
    /// Beginnings of keys [default: all]
    #[arg(value_name = "KEY")]
    keys: Vec<String>,
    /// Files that are read at the same time [default: as many as there are cores]
    #[arg(short, long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    jobs: Option<u16>,
    /// Run a stage of the newest run again and compare its files, as `orchestrate verify latest STAGE`
    #[arg(long, value_name = "STAGE", conflicts_with_all = ["keys", "jobs"])]
    rerun: Option<String>,
}

pub(super) fn verify(context: &Context, workspace: &Workspace, args: &VerifyArgs) -> Result<(), CliError> {
    if let Some(stage) = &args.rerun {
        return verify_by_rerun(context, &VerifyByRerunArgs::latest(stage));
    }
    let all = workspace.keys()?;
    let keys = if args.keys.is_empty() { all } else { keys_named(&all, &args.keys)? };
    let keys: Vec<&Digest> = keys.iter().collect();
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let found = {
        const MEGABYTE: u64 = 1_000_000;
        let megabytes = |bytes: u64| usize::try_from(bytes / MEGABYTE).unwrap_or(usize::MAX);
        let manifests = keys.iter().filter_map(|key| Manifest::read(&workspace.checkpoint_dir(key)).ok().flatten());
        let total = megabytes(manifests.map(|manifest| manifest.bytes()).sum());
        let counter = Counter::new(context.progress_mode(), "MB read");
        let done = AtomicU64::new(0);
        let read = |bytes| counter.at(megabytes(done.fetch_add(bytes, Ordering::Relaxed) + bytes), Some(total));
        workspace.verify_all(&keys, args.jobs.map_or(cores, usize::from), &read)?
    };
    let mut out = Output::stdout();
    let mut damaged = 0;
    for (key, found) in keys.iter().zip(found) {
        let (status, why) = match found {
            Lookup::Hit(_) => ("ok", None),
            Lookup::Miss => ("gone", None),
            Lookup::Quarantined { reason, dir } => {
                damaged += 1;
                ("damaged", Some(format!("{reason}; moved to {}", context.shown(&dir))))
            }
        };
        if context.json {
            out.json(&json!({"key": key, "status": status, "reason": why}))?;
        } else {
            let why = why.map(|why| format!("  {why}")).unwrap_or_default();
            out.line(format!("{}  {status}{why}", key.short()))?;
        }
    }
    let damaged_answers = if args.keys.is_empty() { verify_kept(context, workspace, &mut out)? } else { 0 };
    out.finish()?;
    if damaged == 0 && damaged_answers > 0 {
        let message = format!("{} of kept answers damaged", count(damaged_answers, "file"));
        return Err(CliError::new(Kind::CorruptCache, message)
            .hint("the damaged files were removed; the next stage that needs them computes them again"));
    }
    if damaged == 0 {
        return Ok(());
    }
    Err(CliError::new(Kind::CorruptCache, format!("{} damaged", count(damaged, "checkpoint")))
        .hint("they are in `runs/quarantine`; the next run makes them again"))
}

/// Reads the kept answers of arenas and evaluations, and removes damaged files. Returns their number.
fn verify_kept(context: &Context, workspace: &Workspace, out: &mut Output) -> Result<usize, CliError> {
    let files = workspace.kept_files()?;
    let mut damaged = 0;
    for file in &files {
        if Kept::read(file) != Kept::Damaged {
            continue;
        }
        damaged += 1;
        let shown = context.shown(file).to_string();
        let reason = match fs_err::remove_file(file) {
            Ok(()) => "its content is not what was written; removed".to_owned(),
            Err(error) => format!("its content is not what was written, and it cannot be removed: {error}"),
        };
        if context.json {
            out.json(&json!({"answers": shown, "status": "damaged", "reason": reason}))?;
        } else {
            out.line(format!("{shown}  damaged  {reason}"))?;
        }
    }
    let whole = files.len() - damaged;
    if context.json && whole > 0 {
        out.json(&json!({"answers": whole, "status": "ok"}))?;
    } else if whole > 0 {
        out.line(format!("kept answers: {}  ok", count(whole, "file")))?;
    }
    Ok(damaged)
}
