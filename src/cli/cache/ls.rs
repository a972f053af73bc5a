//! `orchestrate cache ls`.

use super::shown_key;
use crate::cli::amount::{ago, parse_age, parse_size, size};
use crate::cli::args::word;
use crate::cli::context::Context;
use crate::cli::error::CliError;
use crate::cli::find::warn_of;
use crate::cli::output::Output;
use crate::digest::Digest;
use crate::history::{KeyUse, KeyUses, key_uses};
use crate::report::{Column, Table, width};
use crate::stage::StageKind;
use crate::workspace::{KEPT_OF, Leftover, LeftoverKind, StoredCheckpoint, Workspace};
use chrono::{DateTime, TimeDelta, Utc};
use clap::{Args, ValueEnum};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::io::Write as _;

/// Which checkpoints to list, and in which order.
#[derive(Debug, Args)]
#[command(after_help = "\
With --json: {\"key\", \"stage\", \"kind\", \"committed_at\", \"bytes\", \"damaged\", \"pinned\", \"note\", \"last_used\",
\"runs\": [..], \"variants\": [..], \"live\", \"parents\": [..]}; with --answers {\"answers\": \"arena\" | \"evaluations\",
\"parent\", \"bytes\", \"written_at\", \"path\"}.

Examples:
  orchestrate cache ls
  orchestrate cache ls --kind grpo --sort size
  orchestrate cache ls --larger 1GB --older-than 30d
  orchestrate cache ls --used-by latest             a run, or the beginning of its id
  orchestrate cache ls --used-by grid/rouge         a variant
  orchestrate cache ls --unused                     those that no run names
  orchestrate cache ls --json | jq .bytes")]
#[expect(clippy::struct_excessive_bools, reason = "each is an independent option")]
pub(super) struct LsArgs {
    /// Sort by this; the largest comes last
    #[arg(long, value_enum, default_value_t = Sort::Committed)]
    sort: Sort,
    /// Turn the order round
    #[arg(long)]
    reverse: bool,
    /// Only stages of this kind; can be repeated
    #[arg(long, value_name = "KIND", value_parser = word::<StageKind>())]
    kind: Vec<StageKind>,
    /// Only those of more than SIZE: 500MB, 2GiB
    #[arg(long, value_name = "SIZE", value_parser = parse_size)]
    larger: Option<u64>,
    /// Only those that no run used for AGE: 12h, 30d, 2w
    #[arg(long, value_name = "AGE", value_parser = parse_age)]
    older_than: Option<TimeDelta>,
    /// Only those that are pinned
    #[arg(long)]
    pinned: bool,
    /// Only those that a run (`latest`, or the beginning of its id) or a variant uses
    #[arg(long, value_name = "RUN|VARIANT", conflicts_with = "unused")]
    used_by: Option<String>,
    /// Only those that no run names
    #[arg(long)]
    unused: bool,
    /// List the kept answers of arenas and evaluations instead
    #[arg(long, conflicts_with_all = ["kind", "larger", "older_than", "pinned", "used_by", "unused"])]
    answers: bool,
}

/// By what to sort.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum Sort {
    /// When it was made.
    Committed,
    /// When a run last used it.
    Used,
    /// Bytes.
    Size,
    /// The stage's name.
    Stage,
    /// The key.
    Key,
}

/// A checkpoint with its uses.
struct CheckpointRow {
    checkpoint: StoredCheckpoint,
    uses: KeyUse,
}

impl CheckpointRow {
    fn last_used(&self) -> DateTime<Utc> {
        self.uses.last_used.map_or(self.checkpoint.committed_at, |used| used.max(self.checkpoint.committed_at))
    }
}

pub(super) fn ls(context: &Context, workspace: &Workspace, args: &LsArgs) -> Result<(), CliError> {
    let now = Utc::now();
    if args.answers {
        return ls_answers(context, workspace, now);
    }
    let rows = rows(context, workspace, args, now)?;
    let mut out = Output::stdout();
    if context.json {
        for CheckpointRow { checkpoint, uses } in &rows {
            let StoredCheckpoint { key, stage, kind, committed_at, bytes, damaged, parents, pin, held, inputs: _ } =
                checkpoint;
            out.json(&json!({
                "key": key, "stage": stage, "kind": kind, "committed_at": committed_at, "bytes": bytes,
                "damaged": damaged, "pinned": pin.is_some(), "note": pin.as_ref().and_then(|pin| pin.note.as_ref()),
                "last_used": uses.last_used, "runs": uses.runs, "variants": uses.variants,
                "live": uses.live || *held, "parents": parents,
            }))?;
        }
        return out.finish();
    }
    let mut table = Table::new(vec![
        Column::left("key"),
        Column::left("stage").shortened(),
        Column::left("kind").dropped(2),
        Column::left("committed").dropped(3),
        Column::right("used").dropped(4),
        Column::right("runs").dropped(1),
        Column::left("variants").shortened().dropped(0),
        Column::right("size"),
        Column::left("note").wrapped(),
    ]);
    for row in &rows {
        let CheckpointRow { checkpoint, uses } = row;
        let note = match (&checkpoint.pin, checkpoint.damaged, uses.live || checkpoint.held) {
            (_, true, _) => "damaged".to_owned(),
            (Some(pin), ..) => pin.note.as_ref().map_or("pinned".to_owned(), |note| format!("pinned: {note}")),
            (None, _, true) => "in use".to_owned(),
            (None, ..) => String::new(),
        };
        table.push(vec![
            shown_key(context, &checkpoint.key),
            checkpoint.stage.clone(),
            checkpoint.kind.map(|kind| kind.to_string()).unwrap_or_default(),
            checkpoint.committed_at.format("%Y-%m-%d %H:%M").to_string(),
            ago(row.last_used(), now),
            uses.runs.len().to_string(),
            uses.variants.iter().cloned().collect::<Vec<_>>().join(" "),
            size(checkpoint.bytes),
            note,
        ]);
    }
    if !table.is_empty() {
        out.line(table.render(width()))?;
    }
    out.finish()?;
    if let Some(kept) = kept_answers(&workspace.leftovers()?).filter(|_| !context.quiet) {
        let _ = writeln!(std::io::stderr(), "{kept}"); // a failed write to stderr cannot be reported
    }
    Ok(())
}

/// Prints the kept answers of models instead of checkpoints.
fn ls_answers(context: &Context, workspace: &Workspace, now: DateTime<Utc>) -> Result<(), CliError> {
    let mut out = Output::stdout();
    let mut table = Table::new(vec![
        Column::left("answers"),
        Column::left("of").shortened(),
        Column::right("written"),
        Column::right("size"),
        Column::left("where").shortened().dropped(0),
    ]);
    let stages: BTreeMap<Digest, String> =
        workspace.checkpoints()?.into_iter().map(|checkpoint| (checkpoint.key, checkpoint.stage)).collect();
    for leftover in workspace.leftovers()?.iter().filter(|leftover| is_kept_answers(leftover)) {
        let what = if leftover.kind == LeftoverKind::Answers { "arena" } else { "evaluations" };
        let about: Value = fs_err::read(leftover.path.join(KEPT_OF))
            .ok()
            .and_then(|bytes| serde_json::from_slice(&bytes).ok())
            .unwrap_or_default();
        let parent = about["parent"].as_str();
        let path = context.shown(&leftover.path).to_string();
        if context.json {
            out.json(&json!({
                "answers": what, "parent": parent, "bytes": leftover.bytes, "written_at": leftover.touched_at, "path": path,
            }))?;
            continue;
        }
        let key = parent.and_then(|parent| Digest::parse(parent.split('/').next().unwrap_or_default()));
        let of = match (&key, leftover.kind) {
            (Some(key), _) => {
                let stage = stages.get(key).map_or("a removed checkpoint", String::as_str);
                format!("{stage} {}", shown_key(context, key))
            }
            (None, LeftoverKind::Answers) => "a player".to_owned(),
            (None, _) => "the untrained model".to_owned(),
        };
        table.push(vec![what.to_owned(), of, ago(leftover.touched_at, now), size(leftover.bytes), path]);
    }
    if !table.is_empty() {
        out.line(table.render(width()))?;
    }
    out.finish()
}

fn is_kept_answers(leftover: &Leftover) -> bool {
    matches!(leftover.kind, LeftoverKind::Answers | LeftoverKind::EvalAnswers)
}

/// Returns a line about the kept answers, if there are any.
fn kept_answers(leftovers: &[Leftover]) -> Option<String> {
    let kept: Vec<&Leftover> = leftovers.iter().filter(|leftover| is_kept_answers(leftover)).collect();
    let bytes = kept.iter().map(|leftover| leftover.bytes).sum();
    (!kept.is_empty()).then(|| format!("kept answers take {} more; `--answers` lists them", size(bytes)))
}

fn rows(
    context: &Context,
    workspace: &Workspace,
    args: &LsArgs,
    now: DateTime<Utc>,
) -> Result<Vec<CheckpointRow>, CliError> {
    let KeyUses { by_key: mut uses, damage } = key_uses(context.runs())?;
    damage.iter().for_each(warn_of);
    let newest = uses.values().filter_map(|uses| uses.runs.first()).max().cloned();
    let uses_it = |uses: &KeyUse, wanted: &str| {
        let start = wanted.to_ascii_uppercase();
        let is_run = |run: &String| run.starts_with(&start) || (wanted == "latest" && Some(run) == newest.as_ref());
        let is_variant = |label: &String| label == wanted || label.rsplit('/').next() == Some(wanted);
        uses.runs.iter().any(is_run) || uses.variants.iter().any(is_variant)
    };
    let mut rows: Vec<CheckpointRow> = workspace
        .checkpoints()?
        .into_iter()
        .map(|checkpoint| CheckpointRow { uses: uses.remove(&checkpoint.key).unwrap_or_default(), checkpoint })
        .filter(|row| args.kind.is_empty() || row.checkpoint.kind.is_some_and(|kind| args.kind.contains(&kind)))
        .filter(|row| args.larger.is_none_or(|bytes| row.checkpoint.bytes > bytes))
        .filter(|row| args.older_than.is_none_or(|age| now - row.last_used() >= age))
        .filter(|row| !args.pinned || row.checkpoint.pin.is_some())
        .filter(|row| args.used_by.as_ref().is_none_or(|wanted| uses_it(&row.uses, wanted)))
        .filter(|row| !args.unused || row.uses.runs.is_empty())
        .collect();
    rows.sort_by(|a, b| a.checkpoint.key.cmp(&b.checkpoint.key));
    match args.sort {
        Sort::Committed => rows.sort_by_key(|row| row.checkpoint.committed_at),
        Sort::Used => rows.sort_by_key(CheckpointRow::last_used),
        Sort::Size => rows.sort_by_key(|row| row.checkpoint.bytes),
        Sort::Stage => rows.sort_by(|a, b| a.checkpoint.stage.cmp(&b.checkpoint.stage)),
        Sort::Key => {}
    }
    if args.reverse {
        rows.reverse();
    }
    let narrowed = args.used_by.as_ref().filter(|_| rows.is_empty());
    if let Some(wanted) = narrowed {
        return Err(CliError::nothing(format!("no checkpoint is used by a run or a variant `{wanted}`"))
            .hint("`orchestrate history` lists runs and variants"));
    }
    Ok(rows)
}
