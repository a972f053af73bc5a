//! What the directories of the cache say beyond being whole: keys, results, how far an attempt got.

use crate::arena::{ARENA, ArenaResult};
use crate::digest::Digest;
use crate::event::{Event, EventKind, Measurement};
use crate::recipe::spec::StageSpec;
use crate::workspace::{Workspace, WorkspaceError};
use std::collections::BTreeMap;
use std::path::PathBuf;

/// The `key.json` of every checkpoint.
pub(super) fn key_documents(workspace: &Workspace) -> Result<BTreeMap<Digest, serde_json::Value>, WorkspaceError> {
    let document = |key: Digest| {
        let bytes = fs_err::read(checkpoint_dir(workspace, &key).join("key.json")).ok()?;
        Some((key, serde_json::from_slice(&bytes).ok()?))
    };
    // A checkpoint that is being taken away or that is damaged explains nothing.
    Ok(workspace.keys()?.into_iter().filter_map(document).collect())
}

/// The newest resume point that an attempt at `key` left, by its name; the worker checks whether it is whole.
pub fn newest_resume_step(workspace: &Workspace, key: &Digest) -> Option<u64> {
    let entries = fs_err::read_dir(workspace.attempt_dir(key).join("resume")).ok()?;
    entries.flatten().filter_map(|entry| entry.file_name().to_str()?.strip_prefix("step-")?.parse().ok()).max()
}

/// Where the events of `key` are: with its checkpoint, else, or when that is being made again, with the attempt at it.
pub fn events_dir(workspace: &Workspace, key: &Digest) -> PathBuf {
    let committed = checkpoint_dir(workspace, key);
    if committed.is_dir() && !workspace.is_being_replaced(key) { committed } else { workspace.attempt_dir(key) }
}

/// What the stage with this key measured: its last `finished` event.
pub fn results(workspace: &Workspace, key: &Digest) -> Result<BTreeMap<String, Measurement>, WorkspaceError> {
    let text = fs_err::read_to_string(checkpoint_dir(workspace, key).join("events.jsonl"))?;
    // Completions make the file long and stand before the end, so only lines that can be the one are parsed.
    let finished =
        text.lines().rev().filter(|line| line.contains("{\"finished\":")).find_map(
            |line| match serde_json::from_str::<Event>(line).ok()?.kind {
                EventKind::Finished(results) => Some(results),
                _ => None,
            },
        );
    Ok(finished.unwrap_or_default())
}

/// What the stage with this key did, by its `key.json`; absent without a result, or where another version wrote it in a form
/// that is not understood.
pub fn stage_spec(workspace: &Workspace, key: &Digest) -> Option<StageSpec> {
    let text = fs_err::read_to_string(checkpoint_dir(workspace, key).join("key.json")).ok()?;
    let mut document: serde_json::Value = serde_json::from_str(&text).ok()?;
    serde_json::from_value(document["spec"].take()).ok()
}

/// What the arena with this key found; absent where there is no result, or one of another kind of stage.
pub fn arena_result(workspace: &Workspace, key: &Digest) -> Result<Option<ArenaResult>, WorkspaceError> {
    let path = checkpoint_dir(workspace, key).join(ARENA);
    if !path.is_file() {
        return Ok(None);
    }
    let bytes = fs_err::read(&path)?;
    serde_json::from_slice(&bytes).map(Some).map_err(|source| WorkspaceError::Malformed { path, source })
}

/// Where the checkpoint of `key` is once it is committed.
pub(crate) fn checkpoint_dir(workspace: &Workspace, key: &Digest) -> PathBuf {
    workspace.root().join("cache").join(key.as_str())
}
