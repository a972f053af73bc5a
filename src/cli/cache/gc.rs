//! `orchestrate cache gc`.

use super::shown_key;
use crate::cli::amount::{parse_age, parse_size, size};
use crate::cli::context::Context;
use crate::cli::error::CliError;
use crate::cli::output::Output;
use crate::cli::plan::count;
use crate::cli::planning;
use crate::history::{KeyUses, key_uses};
use crate::recipe::Overrides;
use crate::report::{Column, Table, width};
use crate::workspace::{LeftoverKind, Need, Needs, Policy, Removal, RemovalChoice, Workspace, choose};
use chrono::{TimeDelta, Utc};
use clap::Args;
use serde_json::json;
use std::io::Write as _;
use std::path::PathBuf;

/// Which checkpoints and leftovers to remove.
#[derive(Debug, Args)]
#[command(after_help = "\
Lists what can be removed, with the reasons; `--delete` removes it. Without --older-than, --max-size and
--unreferenced no checkpoint is removed. What goes then is what killed and failed processes left: attempts,
reruns of `verify`, the quarantine and temporary files. Kept answers of arenas' players and of evaluations go
at the same age (see --leftovers); the results that were made from them stay.

Never removed: pinned checkpoints, those that a live run uses, those that a process works on, and all that a
remaining checkpoint was made from. --older-than and --unreferenced together select checkpoints that fit
both. --max-size then selects the least recently used of the rest.

With --json, for each: {\"what\", \"key\", \"stage\", \"path\", \"bytes\", \"reason\", \"removed\"}.

Examples:
  orchestrate cache gc                                     leftovers
  orchestrate cache gc --older-than 30d                    and checkpoints that no run used for 30 days
  orchestrate cache gc --max-size 200GB --delete           the least recently used, until the rest fits
  orchestrate cache gc --unreferenced                      checkpoints that no run of the history names
  orchestrate cache gc --unreferenced recipes/*.toml       checkpoints that these recipes do not need now")]
pub(super) struct GcArgs {
    /// Recipes whose stages count as referred to [default: the stages of all runs in the history]
    #[arg(value_name = "RECIPE", requires = "unreferenced")]
    recipes: Vec<PathBuf>,
    /// Change a key of the recipes; can be repeated
    #[arg(long, value_name = "KEY=VALUE", requires = "recipes")]
    set: Vec<String>,
    /// Select checkpoints that no run used for AGE: 12h, 30d, 2w
    #[arg(long, value_name = "AGE", value_parser = parse_age)]
    older_than: Option<TimeDelta>,
    /// Select the least recently used until all checkpoints together take SIZE: 500MB, 200GiB
    #[arg(long, value_name = "SIZE", value_parser = parse_size)]
    max_size: Option<u64>,
    /// Select checkpoints that nothing refers to
    #[arg(long)]
    unreferenced: bool,
    /// Select attempts, reruns, quarantined checkpoints and kept answers that are unchanged for AGE
    #[arg(long, value_name = "AGE", value_parser = parse_age, default_value = "7d")]
    leftovers: TimeDelta,
    /// Remove what is shown
    #[arg(long, visible_alias = "yes")]
    delete: bool,
}

pub(super) fn gc(context: &Context, workspace: &Workspace, args: &GcArgs) -> Result<(), CliError> {
    // Planning may take long, so it comes before the lock.
    let planned = match args.recipes.as_slice() {
        [] => None,
        recipes => {
            let overrides = Overrides::with_process_environment(args.set.clone());
            Some(planning::planned(context, recipes, &overrides, &[])?.plan)
        }
    };
    let lock = if args.delete { Some(workspace.lock_for_removal()?) } else { None };
    let KeyUses { by_key: uses, damage } = key_uses(context.runs())?;
    if let Some(damage) = damage.into_iter().next() {
        // The damaged log may name any of the results.
        return Err(CliError::from(damage).hint("nothing was removed: the run may need any of the results"));
    }
    let needs = Needs {
        live: uses.iter().filter(|(_, uses)| uses.live).map(|(key, _)| key.clone()).collect(),
        last_used: uses.iter().filter_map(|(key, uses)| Some((key.clone(), uses.last_used?))).collect(),
        referenced: match planned {
            Some(plan) => plan.stages.into_iter().map(|stage| stage.key).collect(),
            None => uses.into_keys().collect(),
        },
    };
    let policy = Policy {
        unused_for: args.older_than,
        unreferenced: args.unreferenced,
        max_bytes: args.max_size,
        leftovers_untouched_for: args.leftovers,
    };
    let mut choice = choose(&workspace.checkpoints()?, &workspace.leftovers()?, &needs, &policy, Utc::now());
    if let Some(lock) = lock {
        let mut removed = Vec::new();
        for removal in choice.removals {
            if workspace.throw_away(&lock, &removal)? {
                removed.push(removal);
            }
        }
        choice.removals = removed;
        drop(lock);
        workspace.empty_trash()?;
    }
    print(context, &choice, args)
}

fn what(removal: &Removal) -> &'static str {
    match removal {
        Removal::Checkpoint { .. } => "checkpoint",
        Removal::Leftover { leftover, .. } => match leftover.kind {
            LeftoverKind::Attempt | LeftoverKind::FinishedAttempt => "attempt",
            LeftoverKind::Rerun => "rerun",
            LeftoverKind::Quarantined => "quarantined",
            LeftoverKind::Temporary => "temporary file",
            LeftoverKind::Trash => "trash",
            LeftoverKind::InputRecord => "input record",
            LeftoverKind::Answers | LeftoverKind::EvalAnswers => "answers",
        },
    }
}

fn print(context: &Context, choice: &RemovalChoice, args: &GcArgs) -> Result<(), CliError> {
    let mut out = Output::stdout();
    let mut table = Table::new(vec![
        Column::left("what"),
        Column::left("which").shortened(),
        Column::left("stage").shortened().dropped(1),
        Column::right("size"),
        Column::left("why").wrapped(),
    ]);
    for removal in &choice.removals {
        let (key, path, stage) = match removal {
            Removal::Checkpoint { checkpoint, .. } => (Some(&checkpoint.key), None, checkpoint.stage.as_str()),
            Removal::Leftover { leftover, .. } => (leftover.key.as_ref(), Some(&leftover.path), ""),
        };
        let (what, bytes, reason) = (what(removal), removal.bytes(), removal.reason());
        if context.json {
            let path = path.map(|path| context.shown(path).to_string());
            out.json(&json!({
                "what": what, "key": key, "stage": stage, "path": path, "bytes": bytes, "reason": reason,
                "removed": args.delete,
            }))?;
            continue;
        }
        let name = path.and_then(|path| path.file_name()).unwrap_or_default().to_string_lossy().into_owned();
        let which = key.map_or(name, |key| shown_key(context, key));
        table.push(vec![what.to_owned(), which, stage.to_owned(), size(bytes), reason.to_owned()]);
    }
    if !table.is_empty() {
        out.line(table.render(width()))?;
    }
    out.finish()?;
    if context.json || context.quiet {
        return Ok(());
    }
    let mut err = std::io::stderr().lock();
    let freed: u64 = choice.removals.iter().map(Removal::bytes).sum();
    let number = choice.removals.len();
    let written = match (number, args.delete) {
        (0, _) => writeln!(err, "nothing to remove; the checkpoints take {}", size(choice.kept_bytes)),
        (_, true) => writeln!(err, "removed {}, {}", count(number, "thing"), size(freed)),
        (_, false) => {
            writeln!(err, "{} can be removed, {}; `--delete` removes them", count(number, "thing"), size(freed))
        }
    };
    let _ = written.and_then(|()| print_needed(&mut err, choice, args)); // a failed write to stderr cannot be reported
    Ok(())
}

/// Reports the checkpoints that stay although the user asked for their removal.
fn print_needed(err: &mut impl std::io::Write, choice: &RemovalChoice, args: &GcArgs) -> std::io::Result<()> {
    let words = [
        (Need::Pinned, "pinned"),
        (Need::LiveRun, "used by a live run"),
        (Need::Held, "being worked on"),
        (Need::Parent, "needed by checkpoints that are kept"),
    ];
    for (need, word) in words {
        let keys: Vec<&str> = choice.needed.iter().filter(|(_, n)| *n == need).map(|(key, _)| key.short()).collect();
        if !keys.is_empty() {
            let more = if keys.len() > 5 { ", ..." } else { "" };
            let shown = keys[..keys.len().min(5)].join(", ");
            writeln!(err, "kept, as {word}: {} ({shown}{more})", count(keys.len(), "checkpoint"))?;
        }
    }
    match args.max_size {
        Some(limit) if choice.kept_bytes > limit => {
            writeln!(err, "what must be kept takes {}, more than {}", size(choice.kept_bytes), size(limit))
        }
        _ => Ok(()),
    }
}
