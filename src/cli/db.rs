//! `orchestrate db`: the database of the history.

use super::context::{Context, block_on};
use super::error::CliError;
use super::find::warn_of;
use super::open_history;
use super::output::Output;
use super::plan::count;
use crate::history::rebuild_history;
use crate::workspace::Workspace;
use clap::{Args, Subcommand};
use serde_json::json;
use std::io::Write as _;

/// What to do with the database.
#[derive(Debug, Args)]
#[command(after_help = "\
Example:\n  orchestrate db rebuild")]
pub(super) struct DbArgs {
    #[command(subcommand)]
    command: DbCommand,
}

#[derive(Debug, Subcommand)]
enum DbCommand {
    /// Rebuild the history's database from the files.
    #[command(after_help = "\
The files under runs/ are authoritative: log/ records what ran, cache/ and work/ what the stages reported. The
database `runs/history.db` is an index of them for `history`, `query` and `export`, which update it
themselves. Use this command for a database that is damaged or not trusted. It runs in one transaction:
other commands see the old rows until it is done, and nothing changes if it is stopped.

Metrics and completions of checkpoints that were removed from the cache are in no file any more, so they
are dropped.

  orchestrate db rebuild

ORCHESTRATE_DB=FILE puts the database elsewhere; it must be on a local disk, since SQLite's locks do
not work on network file systems.

--json prints {\"database\",\"runs\",\"stages\",\"unreadable_lines\",\"lost_stages\",\"moved\"}.")]
    Rebuild,
}

pub(super) fn db(context: &Context, args: &DbArgs) -> Result<(), CliError> {
    let DbCommand::Rebuild = args.command;
    let rebuilt = block_on(async { Ok(rebuild_history(&Workspace::open(context.runs())?).await?) })?;
    let mut out = Output::stdout();
    if context.json {
        let indexed = &rebuilt.indexed;
        out.json(&json!({
            "database": rebuilt.path, "runs": indexed.runs, "stages": indexed.stages,
            "unreadable_lines": indexed.unreadable_lines, "lost_stages": rebuilt.lost, "moved": rebuilt.moved,
        }))?;
        return out.finish();
    }
    rebuilt.indexed.damage.iter().for_each(warn_of);
    let mut err = std::io::stderr().lock();
    // A failed write to stderr cannot be reported.
    if let Some(moved) = &rebuilt.moved {
        let _ = writeln!(err, "the damaged database was moved to `{}`", context.shown(moved));
    }
    if rebuilt.lost > 0 {
        let stages = count(rebuilt.lost, "stage");
        let _ = writeln!(err, "no file has the metrics and completions of {stages} any more: removed from the cache");
    }
    out.line(format!("`{}` rebuilt: {}", context.shown(&rebuilt.path), open_history::read(&rebuilt.indexed)))?;
    out.finish()
}
