//! What lies in `runs/`: checkpoints with what is known of each, and what killed or failed processes left behind.

use super::attempt::{ARENA_ANSWERS, ASSIGNMENT, JUDGE_CACHE, KEY, RECORD};
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
    /// Its key.
    pub key: Digest,
    /// The stage's name in the recipe that made it; empty when it does not say.
    pub stage: String,
    /// The stage's kind; absent when it does not say.
    pub kind: Option<StageKind>,
    /// When it was committed.
    pub committed_at: DateTime<Utc>,
    /// Bytes of its files.
    pub bytes: u64,
    /// Its manifest is missing or malformed.
    pub damaged: bool,
    /// The checkpoints it was made from.
    pub parents: Vec<Digest>,
    /// Content of the files it was made from.
    pub inputs: BTreeSet<Digest>,
    /// Its pin.
    pub pin: Option<Pin>,
    /// Somebody works on the key.
    pub held: bool,
}

/// What a leftover is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LeftoverKind {
    /// An attempt directory that no process works in.
    Attempt,
    /// An attempt whose checkpoint is in the cache all the same.
    FinishedAttempt,
    /// The directory in which `verify` ran a stage again.
    Rerun,
    /// A damaged checkpoint that was moved away.
    Quarantined,
    /// A temporary file whose process was killed.
    Temporary,
    /// What an interrupted removal left.
    Trash,
    /// What a player of an arena answered.
    Answers,
    /// What a file was called and which rows it had ([`InputRecord`](super::InputRecord)).
    InputRecord,
}

/// Something in `runs/` that is not a checkpoint.
#[derive(Clone, Debug, PartialEq)]
pub struct Leftover {
    /// What it is.
    pub kind: LeftoverKind,
    /// Where it is.
    pub path: PathBuf,
    /// The key of an attempt.
    pub key: Option<Digest>,
    /// Bytes of its files.
    pub bytes: u64,
    /// When anything in it was last written.
    pub touched_at: DateTime<Utc>,
    /// The checkpoints that it needs.
    pub parents: Vec<Digest>,
    /// Content of the files that it needs; of a record of a file, that of the file.
    pub inputs: BTreeSet<Digest>,
    /// Somebody works in it.
    pub held: bool,
}

impl Workspace {
    /// All checkpoints, by key.
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
                    None => continue, // taken away meanwhile
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

    /// Everything in `runs/` that a process left behind: attempts, reruns, the quarantine, temporary files, trash.
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
    /// What is at `path`; nothing when it has gone meanwhile.
    fn at(path: PathBuf, kind: LeftoverKind, key: Option<Digest>) -> Result<Option<Self>, WorkspaceError> {
        let Some(Tree { bytes, touched_at }) = Tree::of(&path)? else { return Ok(None) };
        let key_json = json(&path.join(KEY));
        let (parents, held) = match kind {
            LeftoverKind::Attempt | LeftoverKind::FinishedAttempt => {
                let starting = !path.join(ASSIGNMENT).exists(); // its dispatcher is about to write it
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
            | LeftoverKind::InputRecord => (Vec::new(), false),
        };
        let inputs = inputs(&key_json);
        Ok(Some(Self { kind, path, key, bytes, touched_at, parents, inputs, held }))
    }
}

fn is_new(touched_at: DateTime<Utc>) -> bool {
    Utc::now() - touched_at < chrono::TimeDelta::minutes(1)
}

/// The JSON of a file; null where there is none.
fn json(path: &Path) -> Value {
    fs_err::read(path).ok().and_then(|bytes| serde_json::from_slice(&bytes).ok()).unwrap_or_default()
}

fn parents(key_json: &Value) -> Vec<Digest> {
    let parents = key_json["parents"].as_array().map(Vec::as_slice).unwrap_or_default();
    parents.iter().filter_map(|parent| Digest::parse(parent.as_str()?)).collect()
}

/// All content that a specification names.
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

/// Paths and names in a directory; none when it is not there.
fn children(dir: &Path) -> Result<Vec<(PathBuf, String)>, WorkspaceError> {
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

/// What a file or all files below a directory are together.
struct Tree {
    bytes: u64,
    touched_at: DateTime<Utc>,
}

impl Tree {
    /// What is at `path`, links not followed; nothing when it is not there.
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
                Err(error) if error.kind() == ErrorKind::NotFound => {} // its process goes on
                added => added?,
            }
        }
        Ok(())
    }
}
