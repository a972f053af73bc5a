//! The subcommands of `cache`, and functions that they share.

use super::{gc, ls, pin, verify};
use crate::cli::context::Context;
use crate::cli::error::CliError;
use crate::digest::Digest;
use crate::workspace::Workspace;
use clap::{Args, Subcommand};

/// What to do with the cache.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  orchestrate cache ls --sort size                         the largest last
  orchestrate cache verify                                 compare every file with its manifest
  orchestrate cache pin 3f2a91 --note \"figure 2\"           never remove this checkpoint
  orchestrate cache gc --older-than 30d                    list what can be removed
  orchestrate cache gc --older-than 30d --delete           remove it")]
pub(in crate::cli) struct CacheArgs {
    #[command(subcommand)]
    command: CacheCommand,
}

/// What to do with the cache.
#[derive(Debug, Subcommand)]
enum CacheCommand {
    /// List the checkpoints.
    Ls(ls::LsArgs),
    /// Read checkpoints, on all cores, and compare every file with its manifest; damaged ones go into quarantine.
    Verify(verify::VerifyArgs),
    /// Remove checkpoints that are not needed, and what killed processes left; without `--delete`, only show them.
    Gc(gc::GcArgs),
    /// Protect a checkpoint, and all it was made from, from `cache gc`.
    Pin(pin::PinArgs),
    /// Remove a pin.
    Unpin(pin::UnpinArgs),
}

pub(in crate::cli) fn cache(context: &Context, args: &CacheArgs) -> Result<(), CliError> {
    let workspace = Workspace::open(context.runs())?;
    match &args.command {
        CacheCommand::Ls(args) => ls::ls(context, &workspace, args),
        CacheCommand::Verify(args) => verify::verify(context, &workspace, args),
        CacheCommand::Gc(args) => gc::gc(context, &workspace, args),
        CacheCommand::Pin(args) => pin::pin(context, &workspace, args),
        CacheCommand::Unpin(args) => pin::unpin(context, &workspace, args),
    }
}

/// Returns the keys of `all` that begin with one of `wanted`.
///
/// # Errors
/// No key begins with one of `wanted`.
pub(super) fn keys_named(all: &[Digest], wanted: &[String]) -> Result<Vec<Digest>, CliError> {
    if let Some(unknown) = wanted.iter().find(|start| !all.iter().any(|key| key.as_str().starts_with(*start))) {
        return Err(CliError::nothing(format!("no checkpoint has a key that begins with `{unknown}`"))
            .hint("`orchestrate cache ls` lists them"));
    }
    let named = |key: &&Digest| wanted.iter().any(|start| key.as_str().starts_with(start));
    Ok(all.iter().filter(named).cloned().collect())
}

/// Formats a key, in full with `--verbose`.
pub(super) fn shown_key(context: &Context, key: &Digest) -> String {
    if context.verbose { key.as_str() } else { key.short() }.to_owned()
}
