//! The inventory of `runs/`: checkpoints with their metadata, and leftovers of killed or failed processes.

use super::attempt::{ARENA_ANSWERS, ASSIGNMENT, EVAL_ANSWERS, JUDGE_CACHE, KEY, RECORD};
use super::error::WorkspaceError;
use super::inputs::INPUTS;
use super::lease::Lease;
use super::manifest::Manifest;
use super::objects::{CACHE, QUARANTINE, REPLACE, TRASH, WORK, Workspace};
use super::pins::{PINS, Pin};
use crate::digest::Digest;
use crate::stage::StageKind;
use chrono::{DateTime, Utc};
use serde_json::Value;
use std::collections::BTreeSet;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

/// A checkpoint of the cache.
#[derive(Clone, Debug, PartialEq)]
pub struct StoredCheckpoint {
    /// The cache key.
    pub key: Digest,
    /// The stage's name in the recipe that made it; empty when unknown.
    pub stage: String,
    /// The stage's kind; absent when unknown.
    pub kind: Option<StageKind>,
    /// The time of the commit.
    pub committed_at: DateTime<Utc>,
    /// The bytes of the checkpoint's files.
    pub bytes: u64,
    /// Whether the manifest is missing or malformed.
    pub damaged: bool,
    /// The checkpoints that are parents of this one.
    pub parents: Vec<Digest>,
    /// The digests of the files that the stage read.
    pub inputs: BTreeSet<Digest>,
    /// The pin, if there is one.
    pub pin: Option<Pin>,
    /// Whether a process works on the key.
    pub held: bool,
}

/// The kind of a leftover.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LeftoverKind {
    /// An attempt directory that no process works in.
    Attempt,
    /// An attempt whose checkpoint is nevertheless in the cache.
    FinishedAttempt,
    /// The directory in which `verify` ran a stage again.
    Rerun,
    /// A damaged checkpoint that was moved away.
    Quarantined,
    /// A temporary file whose process was killed.
    Temporary,
    /// The remainder of an interrupted removal.
    Trash,
    /// The answers of an arena's player.
    Answers,
    /// The answers of a model in evaluations, with their measurements.
    EvalAnswers,
    /// The record of an input file's name and rows ([`InputRecord`](super::InputRecord)).
    InputRecord,
}

/// Something in `runs/` that is not a checkpoint.
#[derive(Clone, Debug, PartialEq)]
pub struct Leftover {
    /// The kind of the leftover.
    pub kind: LeftoverKind,
    /// The path of the leftover.
    pub path: PathBuf,
    /// The key of an attempt.
    pub key: Option<Digest>,
    /// The bytes of its files.
    pub bytes: u64,
    /// The time of the last write to any of its files.
    pub touched_at: DateTime<Utc>,
    /// The checkpoints that it needs.
    pub parents: Vec<Digest>,
    /// The digests of the files that it needs; for an input record, the digest of that input.
    pub inputs: BTreeSet<Digest>,
    /// Whether a process works in it.
    pub held: bool,
}

impl Workspace {
    /// Returns all checkpoints, by key.
    pub fn checkpoints(&self) -> Result<Vec<StoredCheckpoint>, WorkspaceError> {
        let mut pins = self.pins()?;
        let mut found = Vec::new();
        for key in self.keys()? {
            let dir = self.root().join(CACHE).join(key.as_str());
            let manifest = Manifest::read(&dir).ok().flatten();
            let record = json(&dir.join(RECORD));
            let text = |name: &str| record[name].as_str().unwrap_or_default().to_owned();
            let committed_at = record["committed_at"].as_str().and_then(|at| at.parse().ok());
            let tree = match (&manifest, committed_at) {
                (Some(manifest), Some(touched_at)) => Tree { bytes: manifest.bytes(), touched_at },
                _ => match Tree::of(&dir)? {
                    Some(tree) => tree,
                    None => continue, // removed meanwhile
                },
            };
            let key_json = json(&dir.join(KEY));
            found.push(StoredCheckpoint {
                stage: text("stage"),
                kind: text("kind").parse().ok(),
                committed_at: tree.touched_at,
                bytes: tree.bytes,
                damaged: manifest.is_none(),
                parents: parents(&key_json),
                inputs: inputs(&key_json),
                pin: pins.remove(&key),
                held: self.holder(&key).is_some(),
                key,
            });
        }
        Ok(found)
    }

    /// Returns all leftovers in `runs/`: attempts, reruns, the quarantine, temporary files and trash.
    pub fn leftovers(&self) -> Result<Vec<Leftover>, WorkspaceError> {
        let mut found = Vec::new();
        for (path, name) in children(&self.root().join(WORK))? {
            let key = Digest::parse(&name);
            let kind = match &key {
                Some(key) if self.contains(key) && !path.join(REPLACE).exists() => LeftoverKind::FinishedAttempt,
                Some(_) => LeftoverKind::Attempt,
                None if name.starts_with("verify-") => LeftoverKind::Rerun,
                None if name.starts_with('.') => LeftoverKind::Trash,
                None => continue,
            };
            found.extend(Leftover::at(path, kind, key)?);
        }
        for (directory, kind) in [(QUARANTINE, LeftoverKind::Quarantined), (TRASH, LeftoverKind::Trash)] {
            for (path, _) in children(&self.root().join(directory))? {
                found.extend(Leftover::at(path, kind, None)?);
            }
        }
        for (path, name) in children(&self.root().join(INPUTS))? {
            if let Some(digest) = name.strip_suffix(".json").and_then(Digest::parse) {
                let record = Leftover::at(path, LeftoverKind::InputRecord, None)?;
                found.extend(record.map(|record| Leftover { inputs: [digest].into(), ..record }));
            }
        }
        let answers = self.root().join(ARENA_ANSWERS);
        for (path, name) in children(&answers)? {
            if name.strip_suffix(".json").and_then(Digest::parse).is_some() {
                found.extend(Leftover::at(path, LeftoverKind::Answers, None)?);
            }
        }
        let mut directories = vec![self.root().to_owned(), self.root().join(PINS), self.root().join(INPUTS), answers];
        for (path, name) in children(&self.root().join(EVAL_ANSWERS))? {
            if Digest::parse(&name).is_some() {
                directories.push(path.clone());
                found.extend(Leftover::at(path, LeftoverKind::EvalAnswers, None)?);
            }
        }
        directories.extend(children(&self.root().join(JUDGE_CACHE))?.into_iter().map(|(path, _)| path));
        for directory in directories.iter().filter(|path| path.is_dir()) {
            for (path, _) in children(directory)? {
                if path.extension().is_some_and(|extension| extension == "part") && path.is_file() {
                    found.extend(Leftover::at(path, LeftoverKind::Temporary, None)?);
                }
            }
        }
        Ok(found)
    }
}

impl Leftover {
    /// Returns the leftover at `path`, or `None` if it has been removed meanwhile.
    fn at(path: PathBuf, kind: LeftoverKind, key: Option<Digest>) -> Result<Option<Self>, WorkspaceError> {
        let Some(Tree { bytes, touched_at }) = Tree::of(&path)? else { return Ok(None) };
        let key_json = json(&path.join(KEY));
        let (parents, held) = match kind {
            LeftoverKind::Attempt | LeftoverKind::FinishedAttempt => {
                let starting = !path.join(ASSIGNMENT).exists(); // its dispatcher is about to write the assignment
                (parents(&key_json), Lease::is_held(&path) || (starting && is_new(touched_at)))
            }
            LeftoverKind::Rerun => {
                let attempts = children(&path.join(WORK))?;
                let linked = children(&path.join(CACHE))?.into_iter().filter_map(|(_, name)| Digest::parse(&name));
                (linked.collect(), attempts.iter().any(|(attempt, _)| Lease::is_held(attempt)))
            }
            LeftoverKind::Quarantined
            | LeftoverKind::Temporary
            | LeftoverKind::Trash
            | LeftoverKind::Answers
            | LeftoverKind::EvalAnswers
            | LeftoverKind::InputRecord => (Vec::new(), false),
        };
        let inputs = inputs(&key_json);
        Ok(Some(Self { kind, path, key, bytes, touched_at, parents, inputs, held }))
    }
}

fn is_new(touched_at: DateTime<Utc>) -> bool {
    Utc::now() - touched_at < chrono::TimeDelta::minutes(1)
}

/// Returns the JSON of a file, or null where the file is missing or malformed.
fn json(path: &Path) -> Value {
    fs_err::read(path).ok().and_then(|bytes| serde_json::from_slice(&bytes).ok()).unwrap_or_default()
}

fn parents(key_json: &Value) -> Vec<Digest> {
    let parents = key_json["parents"].as_array().map(Vec::as_slice).unwrap_or_default();
    parents.iter().filter_map(|parent| Digest::parse(parent.as_str()?)).collect()
}

/// Returns all digests in a spec.
fn inputs(key_json: &Value) -> BTreeSet<Digest> {
    fn collect(value: &Value, found: &mut BTreeSet<Digest>) {
        match value {
            Value::String(text) => found.extend(Digest::parse(text)),
            Value::Array(items) => items.iter().for_each(|item| collect(item, found)),
            Value::Object(fields) => fields.values().for_each(|field| collect(field, found)),
            Value::Null | Value::Bool(_) | Value::Number(_) => {}
        }
    }
    let mut found = BTreeSet::new();
    collect(&key_json["spec"], &mut found);
    found
}

/// Returns the paths and names in a directory; empty when the directory does not exist.
pub(super) fn children(dir: &Path) -> Result<Vec<(PathBuf, String)>, WorkspaceError> {
    let entries = match fs_err::read_dir(dir) {
        Ok(entries) => entries,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error.into()),
    };
    let mut found = Vec::new();
    for entry in entries {
        let entry = entry?;
        if let Ok(name) = entry.file_name().into_string() {
            found.push((entry.path(), name));
        }
    }
    found.sort();
    Ok(found)
}

/// The total size and the last write of a file, or of all files below a directory.
struct Tree {
    bytes: u64,
    touched_at: DateTime<Utc>,
}

impl Tree {
    /// Examines `path` without following links. Returns `None` when it does not exist.
    fn of(path: &Path) -> Result<Option<Self>, WorkspaceError> {
        let mut tree = Self { bytes: 0, touched_at: SystemTime::UNIX_EPOCH.into() };
        match tree.add(path) {
            Ok(()) => Ok(Some(tree)),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    fn add(&mut self, path: &Path) -> io::Result<()> {
        let metadata = fs_err::symlink_metadata(path)?;
        self.touched_at = self.touched_at.max(metadata.modified()?.into());
        if !metadata.is_dir() {
            self.bytes += metadata.len();
            return Ok(());
        }
        for entry in fs_err::read_dir(path)? {
            match self.add(&entry?.path()) {
                Err(error) if error.kind() == ErrorKind::NotFound => {} // another process removed it
                added => added?,
            }
        }
        Ok(())
    }
}
