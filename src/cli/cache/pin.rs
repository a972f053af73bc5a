//! `orchestrate cache pin` and `unpin`.

use super::{keys_named, shown_key};
use crate::cli::context::Context;
use crate::cli::error::{CliError, Kind};
use crate::cli::output::Output;
use crate::digest::Digest;
use crate::workspace::Workspace;
use clap::Args;
use serde_json::json;

/// Which checkpoint stays.
#[derive(Debug, Args)]
#[command(after_help = "\
--json prints {\"key\",\"pinned\"}.

Examples:
  orchestrate cache pin 3f2a91
  orchestrate cache pin 3f2a91 --note \"the numbers of figure 2\"
  orchestrate cache ls --pinned")]
pub(super) struct PinArgs {
    /// The beginning of its key
    #[arg(value_name = "KEY")]
    key: String,
    /// Why it stays; shown by `cache ls`
    #[arg(long, value_name = "TEXT")]
    note: Option<String>,
}

/// Whose pin goes.
#[derive(Debug, Args)]
#[command(after_help = "\
--json prints {\"key\",\"pinned\"}.

Examples:
  orchestrate cache unpin 3f2a91")]
pub(super) struct UnpinArgs {
    /// The beginning of its key
    #[arg(value_name = "KEY")]
    key: String,
}

pub(super) fn pin(context: &Context, workspace: &Workspace, args: &PinArgs) -> Result<(), CliError> {
    let key = the_one(&workspace.keys()?, &args.key)?;
    workspace.pin(&key, args.note.clone())?;
    tell(context, &key, true)
}

pub(super) fn unpin(context: &Context, workspace: &Workspace, args: &UnpinArgs) -> Result<(), CliError> {
    // A pin may be older than its checkpoint, if that was quarantined.
    let pinned: Vec<Digest> = workspace.pins()?.into_keys().collect();
    let mut known = workspace.keys()?;
    known.extend(pinned);
    known.sort();
    known.dedup();
    let key = the_one(&known, &args.key)?;
    if !workspace.unpin(&key)? {
        return Err(CliError::nothing(format!("{} is not pinned", shown_key(context, &key)))
            .hint("`orchestrate cache ls --pinned` lists those that are"));
    }
    tell(context, &key, false)
}

fn the_one(all: &[Digest], wanted: &str) -> Result<Digest, CliError> {
    let mut found = keys_named(all, &[wanted.to_owned()])?;
    if found.len() > 1 {
        let keys: Vec<&str> = found.iter().take(5).map(Digest::short).collect();
        return Err(CliError::new(Kind::Usage, format!("`{wanted}` matches {} keys", found.len()))
            .hint(format!("type more characters of it: {}", keys.join(", "))));
    }
    Ok(found.remove(0))
}

fn tell(context: &Context, key: &Digest, pinned: bool) -> Result<(), CliError> {
    let mut out = Output::stdout();
    if context.json {
        out.json(&json!({"key": key, "pinned": pinned}))?;
    } else {
        out.line(format!("{}  {}", shown_key(context, key), if pinned { "pinned" } else { "no longer pinned" }))?;
    }
    out.finish()
}
