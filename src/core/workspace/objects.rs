//! The cache: committed checkpoints by key, and the attempts that lead to them.

use super::assignment::Assignment;
use super::attempt::{ASSIGNMENT, Attempt, KEY, OUT, remove_dir};
use super::digests::FileDigests;
use super::error::WorkspaceError;
use super::fault::fault_point;
use super::inspected::Inspected;
use super::lease::{Lease, LeaseOwner, lease_owner};
use super::manifest::{MANIFEST, Manifest};
use super::overlaps::Overlaps;
use super::{write_file, write_volatile};
use crate::digest::Digest;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

pub(super) const CACHE: &str = "cache";
pub(super) const DIGESTS: &str = "digests.json";
pub(super) const WORK: &str = "work";
pub(super) const QUARANTINE: &str = "quarantine";
/// The directory of items that `cache gc` is about to remove.
pub(super) const TRASH: &str = "trash";
/// The file in an attempt directory that marks that its result replaces the one in the cache.
pub(super) const REPLACE: &str = "replace";
/// The directory in an attempt directory of the result being replaced, where the replacement needs two renames.
pub(super) const REPLACED: &str = "replaced";

/// The directory `runs/`.
#[derive(Clone, Debug)]
pub struct Workspace {
    root: PathBuf,
}

/// A committed result.
#[derive(Clone, Debug, PartialEq)]
pub struct Checkpoint {
    /// The cache key.
    pub key: Digest,
    /// The checkpoint's directory.
    pub dir: PathBuf,
    /// The checkpoint's files.
    pub manifest: Manifest,
}

/// The result of a lookup in the cache.
#[derive(Clone, Debug, PartialEq)]
pub enum Lookup {
    /// The cache has a complete checkpoint.
    Hit(Checkpoint),
    /// The cache has no checkpoint.
    Miss,
    /// The checkpoint was damaged and has been moved away.
    Quarantined {
        /// The description of the damage.
        reason: String,
        /// The new path of the checkpoint.
        dir: PathBuf,
    },
}

impl Workspace {
    /// Opens `root` (a project's `runs/`) and creates it if it is missing.
    pub fn open(root: &Path) -> Result<Self, WorkspaceError> {
        for name in [CACHE, WORK] {
            fs_err::create_dir_all(root.join(name))?;
        }
        let root = fs_err::canonicalize(root)?;
        if root.to_str().is_none() {
            return Err(WorkspaceError::Unusable { path: root, reason: "its path is not UTF-8".to_owned() });
        }
        Ok(Self { root })
    }

    /// Returns the path of the directory.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Returns the memo of file digests.
    pub fn digests(&self) -> FileDigests {
        FileDigests::open(&self.root.join(DIGESTS))
    }

    /// Returns the memo of comparisons of training data with evaluation sets.
    pub fn overlaps(&self) -> Overlaps {
        Overlaps::open(&self.root)
    }

    /// Returns the memo of inspections.
    pub fn inspected(&self) -> Inspected {
        Inspected::open(&self.root)
    }

    /// Looks for a checkpoint. If its files are missing or differ in size, it is moved to the quarantine and not
    /// returned.
    pub fn lookup(&self, key: &Digest) -> Result<Lookup, WorkspaceError> {
        let dir = self.checkpoint_dir(key);
        let found = match Manifest::read(&dir) {
            Ok(None) if !dir.exists() => {
                return if self.put_back(key)? { self.lookup(key) } else { Ok(Lookup::Miss) };
            }
            Ok(None) => Err(format!("`{MANIFEST}` is missing")),
            Ok(Some(manifest)) => manifest.check_sizes(&dir).map(|()| manifest),
            Err(WorkspaceError::Malformed { source, .. }) => Err(format!("`{MANIFEST}` is malformed: {source}")),
            Err(error) => return Err(error),
        };
        match found {
            Ok(manifest) => Ok(Lookup::Hit(Checkpoint { key: key.clone(), dir, manifest })),
            Err(reason) => Ok(Lookup::Quarantined { dir: self.quarantine(key)?, reason }),
        }
    }

    /// Puts back a result that was set aside by a process that died before the replacement.
    fn put_back(&self, key: &Digest) -> Result<bool, WorkspaceError> {
        let attempt = self.attempt_dir(key);
        let replaced = attempt.join(REPLACED);
        if !replaced.exists() || Lease::is_held(&attempt) {
            return Ok(false);
        }
        match fs_err::rename(replaced, self.checkpoint_dir(key)) {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(false), // another process was faster
            Err(error) => Err(error.into()),
        }
    }

    /// Reads a checkpoint and compares every byte with its manifest. A damaged one is moved to the quarantine.
    pub fn verify(&self, key: &Digest) -> Result<Lookup, WorkspaceError> {
        let cores = crate::parallel::cores();
        Ok(self.verify_all(&[key], cores, &|_| {})?.remove(0))
    }

    /// Whether a checkpoint of `key` exists, complete or not.
    pub fn contains(&self, key: &Digest) -> bool {
        self.checkpoint_dir(key).exists()
    }

    /// Returns the keys of all committed checkpoints, sorted.
    pub fn keys(&self) -> Result<Vec<Digest>, WorkspaceError> {
        let mut keys = Vec::new();
        for entry in fs_err::read_dir(self.root.join(CACHE))? {
            if let Some(key) = entry?.file_name().to_str().and_then(Digest::parse) {
                keys.push(key);
            }
        }
        keys.sort();
        Ok(keys)
    }

    /// Returns the directory of the checkpoint of `key`, which exists once it is committed.
    pub fn checkpoint_dir(&self, key: &Digest) -> PathBuf {
        self.root.join(CACHE).join(key.as_str())
    }

    /// Returns the keys that have an attempt directory, sorted.
    pub fn attempted_keys(&self) -> Result<Vec<Digest>, WorkspaceError> {
        let mut keys = Vec::new();
        for entry in fs_err::read_dir(self.root.join(WORK))? {
            keys.extend(entry?.file_name().to_str().and_then(Digest::parse));
        }
        keys.sort();
        Ok(keys)
    }

    /// Returns the directory of attempts at `key`.
    pub fn attempt_dir(&self, key: &Digest) -> PathBuf {
        self.root.join(WORK).join(key.as_str())
    }

    /// Prepares an attempt: creates its directory, or continues in the one that an interrupted attempt left.
    pub fn prepare(&self, assignment: &Assignment, key_json: &serde_json::Value) -> Result<Attempt, WorkspaceError> {
        // A process that has just committed the same key moves the directory away.
        for _ in 0..3 {
            match self.prepare_once(assignment, key_json) {
                Err(WorkspaceError::Io(error)) if error.kind() == ErrorKind::NotFound => {}
                prepared => return prepared,
            }
        }
        self.prepare_once(assignment, key_json)
    }

    fn prepare_once(&self, assignment: &Assignment, key_json: &serde_json::Value) -> Result<Attempt, WorkspaceError> {
        let dir = self.attempt_dir(&assignment.key);
        fs_err::create_dir_all(&dir)?;
        if !Lease::is_held(&dir) && dir.join(OUT).join(MANIFEST).exists() {
            remove_dir(&dir.join(OUT))?; // a checkpoint that was never committed, or one that was replaced
        }
        let pretty = |value: serde_json::Value| serde_json::to_vec_pretty(&value).expect("values serialize");
        fault_point("prepare-before-key");
        write_volatile(&dir.join(KEY), &pretty(key_json.clone()))?;
        fault_point("prepare-before-assignment");
        let assignment = serde_json::to_value(assignment).expect("an assignment serializes");
        write_volatile(&dir.join(ASSIGNMENT), &pretty(assignment))?;
        fault_point("prepare-done");
        Attempt::open(&dir)
    }

    /// Returns the process that works on `key` now.
    pub fn holder(&self, key: &Digest) -> Option<LeaseOwner> {
        lease_owner(&self.attempt_dir(key))
    }

    /// Marks the attempt at `key` as one whose result replaces the one in the cache, which stays until then. The
    /// attempt starts over unless it `goes_on`.
    ///
    /// # Errors
    /// [`WorkspaceError::Leased`] when a process works on the key.
    pub fn begin_again(&self, key: &Digest, goes_on: bool) -> Result<(), WorkspaceError> {
        if let Some(owner) = self.holder(key) {
            return Err(WorkspaceError::Leased { owner });
        }
        self.put_back(key)?;
        let dir = self.attempt_dir(key);
        if !goes_on {
            remove_dir(&dir)?;
        }
        fs_err::create_dir_all(&dir)?;
        Ok(write_file(&dir.join(REPLACE), b"")?)
    }

    /// Moves a damaged attempt at `key` to the quarantine, so that the next one starts afresh, and returns its new
    /// place.
    ///
    /// # Errors
    /// [`WorkspaceError::Leased`] when a process works on the key.
    pub fn set_attempt_aside(&self, key: &Digest) -> Result<PathBuf, WorkspaceError> {
        let replaces = self.is_being_replaced(key);
        self.put_back(key)?;
        let lease = Lease::acquire(&self.attempt_dir(key))?;
        let aside = self.to_quarantine(&self.attempt_dir(key), key)?;
        drop(lease);
        if replaces {
            self.begin_again(key, true)?;
        }
        Ok(aside)
    }

    /// Whether an attempt at `key` that replaces the result in the cache has begun.
    pub fn is_being_replaced(&self, key: &Digest) -> bool {
        self.attempt_dir(key).join(REPLACE).exists()
    }

    pub(super) fn quarantine(&self, key: &Digest) -> Result<PathBuf, WorkspaceError> {
        self.to_quarantine(&self.checkpoint_dir(key), key)
    }

    fn to_quarantine(&self, what: &Path, key: &Digest) -> Result<PathBuf, WorkspaceError> {
        let quarantine = self.root.join(QUARANTINE);
        fs_err::create_dir_all(&quarantine)?;
        let stamp = chrono::Utc::now().format("%Y%m%dT%H%M%S%.6f");
        let dir = quarantine.join(format!("{}-{stamp}", key.as_str()));
        fs_err::rename(what, &dir)?;
        Ok(dir)
    }
}
