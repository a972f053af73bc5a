//! `orchestrate runs ls|rm`.

use super::amount::{ago, parse_age, size};
use super::context::Context;
use super::error::{CliError, Kind};
use super::find::{find_run, warn_of};
use super::output::Output;
use super::plan::count;
use crate::history::{KeyUse, LogDamage, PastRuns, RemovalRefusal, key_uses, remove_run};
use crate::report::{Column, Table, width};
use crate::stage::RunStatus;
use crate::workspace::Workspace;
use chrono::{DateTime, TimeDelta, Utc};
use clap::{Args, Subcommand};
use serde_json::json;
use std::io::Write as _;
use ulid::Ulid;

/// What to do with the records of runs.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  orchestrate runs ls                            every run, the newest last
  orchestrate runs rm 7Q4XZ1                     remove one
  orchestrate runs rm --older-than 90d --dry-run list what would be removed")]
pub(super) struct RunsArgs {
    #[command(subcommand)]
    command: RunsCommand,
}

/// What to do with the records of runs.
#[derive(Debug, Subcommand)]
enum RunsCommand {
    /// List the runs.
    Ls(LsArgs),
    /// Remove the records of runs; their results stay in the cache.
    Rm(RmArgs),
}

/// Which runs to list.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  orchestrate runs ls
  orchestrate runs ls --older-than 30d

--json prints {\"run\",\"status\",\"started_at\",\"recipes\":[..],\"stages\",\"resumes\"}, one a line.")]
struct LsArgs {
    /// Only runs that began at least AGE ago: 12h, 30d, 2w
    #[arg(long, value_name = "AGE", value_parser = parse_age)]
    older_than: Option<TimeDelta>,
}

/// Which runs to forget.
#[derive(Debug, Args)]
#[command(after_help = "\
Removes the directory `runs/log/RUN`: the command line, the recipes, the plan and the events. The
history no longer lists it. Its results stay in the cache, and `orchestrate cache gc --unreferenced` frees
those that no other run names. A running run is never removed; a run with a damaged log can be.

Examples:
  orchestrate runs rm 7Q4XZ1
  orchestrate runs rm --older-than 90d --dry-run
  orchestrate runs rm --older-than 90d

--json prints {\"run\",\"removed\"}, one a line.")]
struct RmArgs {
    /// Runs' ids, the beginnings or ends of some, or `latest`
    #[arg(value_name = "RUN", required_unless_present = "older_than")]
    runs: Vec<String>,
    /// All runs that began at least AGE ago: 12h, 30d, 2w
    #[arg(long, value_name = "AGE", value_parser = parse_age, conflicts_with = "runs")]
    older_than: Option<TimeDelta>,
    /// Remove nothing; list what would be removed
    #[arg(short = 'n', long)]
    dry_run: bool,
}

pub(super) fn runs(context: &Context, args: &RunsArgs) -> Result<(), CliError> {
    match &args.command {
        RunsCommand::Ls(args) => ls(context, args),
        RunsCommand::Rm(args) => rm(context, args),
    }
}

fn ls(context: &Context, args: &LsArgs) -> Result<(), CliError> {
    let PastRuns { runs, damage } = PastRuns::all(context.runs())?;
    damage.iter().for_each(warn_of);
    let mut out = Output::stdout();
    let now = Utc::now();
    let mut table = Table::new(vec![
        Column::left("run"),
        Column::right("began"),
        Column::left("status"),
        Column::right("stages").dropped(1),
        Column::left("recipes").shortened(),
    ]);
    for past in runs.iter().rev().filter(|past| is_older(&past.run, args.older_than, now)) {
        let stages = past.planned_stages();
        let began = began(&past.run);
        if context.json {
            out.json(&json!({
                "run": past.run, "status": past.status, "started_at": began, "recipes": past.invocation.recipes,
                "stages": stages, "resumes": past.invocation.resumes,
            }))?;
            continue;
        }
        let recipes: Vec<String> = past.invocation.recipes.iter().map(|path| path.display().to_string()).collect();
        table.push(vec![
            past.run.clone(),
            began.map(|at| ago(at, now)).unwrap_or_default(),
            past.status.to_string(),
            stages.map(|stages| stages.to_string()).unwrap_or_default(),
            recipes.join(" "),
        ]);
    }
    if !table.is_empty() {
        out.line(table.render(width()))?;
    }
    out.finish()
}

fn rm(context: &Context, args: &RmArgs) -> Result<(), CliError> {
    let found = PastRuns::all(context.runs())?;
    let chosen = match args.older_than {
        Some(age) => older(&found, age),
        None => named(&found, &args.runs)?,
    };
    let workspace = Workspace::open(context.runs())?;
    let mut out = Output::stdout();
    for run in &chosen {
        if !args.dry_run {
            remove_run(&workspace, run).map_err(|refusal| cannot_remove(run, refusal))?;
        }
        if context.json {
            out.json(&json!({"run": run, "removed": !args.dry_run}))?;
        } else {
            out.line(format!("run {run}  {}", if args.dry_run { "would be removed" } else { "removed" }))?;
        }
    }
    out.finish()?;
    workspace.empty_trash()?;
    if !context.quiet {
        tell_what_is_left(context, &workspace, &chosen, args.dry_run)?;
    }
    Ok(())
}

/// Returns when the run with this id began.
fn began(run: &str) -> Option<DateTime<Utc>> {
    Some(Ulid::from_string(run).ok()?.datetime().into())
}

fn is_older(run: &str, age: Option<TimeDelta>, now: DateTime<Utc>) -> bool {
    age.is_none_or(|age| began(run).is_some_and(|began| began <= now - age))
}

/// Returns the removable runs of at least this age, oldest first.
fn older(found: &PastRuns, age: TimeDelta) -> Vec<String> {
    let now = Utc::now();
    let ended = found.runs.iter().filter(|past| past.status != RunStatus::Running).map(|past| past.run.clone());
    let mut chosen: Vec<String> = ended.filter(|run| is_older(run, Some(age), now)).collect();
    chosen.reverse();
    chosen
}

/// Returns the runs called `wanted`, including those with damaged logs.
fn named(found: &PastRuns, wanted: &[String]) -> Result<Vec<String>, CliError> {
    let damaged: Vec<&str> = found.damage.iter().filter_map(LogDamage::run).collect();
    let mut chosen: Vec<String> = Vec::new();
    for wanted in wanted {
        let upper = wanted.to_ascii_uppercase();
        let run = match damaged.iter().find(|run| **run == upper) {
            Some(run) => (*run).to_owned(),
            None => find_run(&found.runs, wanted)?.run.clone(),
        };
        if !chosen.contains(&run) {
            chosen.push(run);
        }
    }
    Ok(chosen)
}

fn cannot_remove(run: &str, refusal: RemovalRefusal) -> CliError {
    match refusal {
        RemovalRefusal::Running => CliError::new(Kind::Usage, format!("run {run} is still running"))
            .hint(format!("`orchestrate cancel {run}` stops it")),
        RemovalRefusal::Unknown { host } => {
            CliError::new(Kind::Usage, format!("run {run} was started on `{host}`, and it may still run there"))
                .hint(format!("if it is dead: `orchestrate resume {run} --takeover`, then remove it"))
        }
        RemovalRefusal::Workspace(error) => error.into(),
    }
}

/// Reports how many results are no longer used by any run.
fn tell_what_is_left(
    context: &Context,
    workspace: &Workspace,
    removed: &[String],
    dry_run: bool,
) -> Result<(), CliError> {
    let uses = key_uses(context.runs())?.by_key;
    let is_named = |uses: &KeyUse| uses.runs.iter().any(|run| !removed.contains(run));
    let left =
        workspace.checkpoints()?.into_iter().filter(|checkpoint| !uses.get(&checkpoint.key).is_some_and(is_named));
    let (number, bytes) = left.fold((0, 0), |(number, bytes), checkpoint| (number + 1, bytes + checkpoint.bytes));
    if number > 0 {
        let verb = if dry_run { "would be" } else { "are" };
        // A failed write to stderr cannot be reported.
        let _ = writeln!(
            std::io::stderr(),
            "{} ({}) {verb} named by no run; `orchestrate cache gc --unreferenced --delete` removes such results",
            count(number, "result"),
            size(bytes)
        );
    }
    Ok(())
}
