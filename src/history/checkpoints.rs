//! Reads keys, results and resume points from the directories of checkpoints and attempts.

use crate::arena::{ARENA, ArenaResult};
use crate::digest::Digest;
use crate::event::{Event, EventKind, Measurement};
use crate::recipe::spec::StageSpec;
use crate::workspace::{Workspace, WorkspaceError};
use std::collections::BTreeMap;
use std::path::PathBuf;

/// Returns the `key.json` of every checkpoint that has a readable one.
pub(super) fn key_documents(workspace: &Workspace) -> Result<BTreeMap<Digest, serde_json::Value>, WorkspaceError> {
    let document = |key: Digest| {
        let bytes = fs_err::read(checkpoint_dir(workspace, &key).join("key.json")).ok()?;
        Some((key, serde_json::from_slice(&bytes).ok()?))
    };
    // A checkpoint that is damaged or being removed explains nothing.
    Ok(workspace.keys()?.into_iter().filter_map(document).collect())
}

/// Returns the newest resume point that an attempt at `key` left, judged by its name. The worker checks whether it is
/// whole.
pub fn newest_resume_step(workspace: &Workspace, key: &Digest) -> Option<u64> {
    let entries = fs_err::read_dir(workspace.attempt_dir(key).join("resume")).ok()?;
    entries.flatten().filter_map(|entry| entry.file_name().to_str()?.strip_prefix("step-")?.parse().ok()).max()
}

/// Returns the directory that holds the events of `key`: its checkpoint. Without a checkpoint, or while a rerun
/// replaces it, the directory is the attempt.
pub fn events_dir(workspace: &Workspace, key: &Digest) -> PathBuf {
    let committed = checkpoint_dir(workspace, key);
    if committed.is_dir() && !workspace.is_being_replaced(key) { committed } else { workspace.attempt_dir(key) }
}

/// Returns the measurements of the stage with this key, from its last `finished` event.
pub fn results(workspace: &Workspace, key: &Digest) -> Result<BTreeMap<String, Measurement>, WorkspaceError> {
    let text = fs_err::read_to_string(checkpoint_dir(workspace, key).join("events.jsonl"))?;
    // Completions make the file long and come before the end. So only lines that can be the right one are parsed.
    let finished =
        text.lines().rev().filter(|line| line.contains("{\"finished\":")).find_map(
            |line| match serde_json::from_str::<Event>(line).ok()?.kind {
                EventKind::Finished(results) => Some(results),
                _ => None,
            },
        );
    Ok(finished.unwrap_or_default())
}

/// Returns the spec of the stage with this key, from its `key.json`. It is absent without a result, or where another
/// version wrote the file in a form that cannot be parsed.
pub fn stage_spec(workspace: &Workspace, key: &Digest) -> Option<StageSpec> {
    let text = fs_err::read_to_string(checkpoint_dir(workspace, key).join("key.json")).ok()?;
    let mut document: serde_json::Value = serde_json::from_str(&text).ok()?;
    serde_json::from_value(document["spec"].take()).ok()
}

/// Returns the result of the arena with this key. It is absent without a result, or for another kind of stage.
pub fn arena_result(workspace: &Workspace, key: &Digest) -> Result<Option<ArenaResult>, WorkspaceError> {
    let path = checkpoint_dir(workspace, key).join(ARENA);
    if !path.is_file() {
        return Ok(None);
    }
    let bytes = fs_err::read(&path)?;
    serde_json::from_slice(&bytes).map(Some).map_err(|source| WorkspaceError::Malformed { path, source })
}

/// Returns the directory of the checkpoint of `key` once it is committed.
pub(crate) fn checkpoint_dir(workspace: &Workspace, key: &Digest) -> PathBuf {
    workspace.root().join("cache").join(key.as_str())
}
