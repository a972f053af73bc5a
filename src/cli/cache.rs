//! `orchestrate cache ls|verify`.

use super::context::Context;
use super::error::{CliError, Kind};
use super::output::Output;
use super::plan::count;
use crate::cache::{Cache, Lookup, Manifest};
use crate::digest::Digest;
use crate::report::{Column, Table, width};
use clap::{Args, Subcommand};
use serde_json::json;

/// What to do with the cache.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  orchestrate cache ls
  orchestrate cache ls --json | jq .bytes
  orchestrate cache verify          all checkpoints
  orchestrate cache verify 3f2a91   those whose key begins so")]
pub(super) struct CacheArgs {
    #[command(subcommand)]
    command: CacheCommand,
}

/// What to do with the cache.
#[derive(Debug, Subcommand)]
enum CacheCommand {
    /// List the checkpoints.
    Ls,
    /// Read checkpoints and compare every file with its manifest; damaged ones go into quarantine.
    Verify {
        /// Beginnings of keys [default: all]
        #[arg(value_name = "KEY")]
        keys: Vec<String>,
    },
}

pub(super) fn cache(context: &Context, args: &CacheArgs) -> Result<(), CliError> {
    let cache = Cache::open(context.runs())?;
    match &args.command {
        CacheCommand::Ls => list(context, &cache),
        CacheCommand::Verify { keys } => verify(context, &cache, keys),
    }
}

/// What `record.json` says a checkpoint was made of.
struct Record {
    stage: String,
    kind: String,
    committed_at: String,
}

fn record(cache: &Cache, key: &Digest) -> Record {
    let path = cache.root().join("cache").join(key.as_str()).join("record.json");
    let record: serde_json::Value =
        fs_err::read(path).ok().and_then(|bytes| serde_json::from_slice(&bytes).ok()).unwrap_or_default();
    let text = |name: &str| record[name].as_str().unwrap_or_default().to_owned();
    Record { stage: text("stage"), kind: text("kind"), committed_at: text("committed_at") }
}

fn list(context: &Context, cache: &Cache) -> Result<(), CliError> {
    let mut out = Output::stdout();
    let mut table = Table::new(vec![
        Column::left("key"),
        Column::left("stage").shortened(),
        Column::left("kind").dropped(1),
        Column::left("committed").dropped(2),
        Column::right("size"),
    ]);
    for key in cache.keys()? {
        let manifest = Manifest::read(&cache.root().join("cache").join(key.as_str())).ok().flatten();
        let bytes = manifest.map(|manifest| manifest.bytes());
        let Record { stage, kind, committed_at } = record(cache, &key);
        if context.json {
            let bytes = json!(bytes);
            out.json(&json!({"key": key, "stage": stage, "kind": kind, "committed_at": committed_at, "bytes": bytes}))?;
            continue;
        }
        table.push(vec![
            if context.verbose { key.as_str() } else { key.short() }.to_owned(),
            stage,
            kind,
            committed_at.chars().take(16).collect::<String>().replace('T', " "),
            bytes.map_or_else(|| "damaged".to_owned(), size),
        ]);
    }
    if !table.is_empty() {
        out.line(table.render(width()))?;
    }
    out.finish()
}

fn verify(context: &Context, cache: &Cache, wanted: &[String]) -> Result<(), CliError> {
    let all = cache.keys()?;
    let chosen = |key: &&Digest| wanted.is_empty() || wanted.iter().any(|start| key.as_str().starts_with(start));
    let keys: Vec<&Digest> = all.iter().filter(chosen).collect();
    if keys.is_empty() && !wanted.is_empty() {
        return Err(CliError::nothing("no checkpoint has such a key").hint("`orchestrate cache ls` lists them"));
    }
    let mut out = Output::stdout();
    let mut damaged = 0;
    for key in &keys {
        let (status, why) = match cache.verify(key)? {
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
    out.finish()?;
    if damaged == 0 {
        return Ok(());
    }
    Err(CliError::new(Kind::CorruptCache, format!("{} damaged", count(damaged, "checkpoint")))
        .hint("they are in `runs/quarantine`; the next run makes them again"))
}

/// `812 B`, `3.4 MB`.
fn size(bytes: u64) -> String {
    let bytes = bytes as f64;
    match bytes {
        ..1e3 => format!("{bytes} B"),
        ..1e6 => format!("{:.1} kB", bytes / 1e3),
        ..1e9 => format!("{:.1} MB", bytes / 1e6),
        _ => format!("{:.2} GB", bytes / 1e9),
    }
}
