//! The cache: committed checkpoints by key, and the attempts on the way there.

use super::assignment::Assignment;
use super::attempt::{ASSIGNMENT, Attempt, KEY, OUT, remove_dir};
use super::digests::FileDigests;
use super::error::WorkspaceError;
use super::fault::fault_point;
use super::inspected::Inspected;
use super::lease::{Lease, LeaseOwner, lease_owner};
use super::manifest::{MANIFEST, Manifest};
use super::{write_file, write_volatile};
use crate::digest::Digest;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

pub(super) const CACHE: &str = "cache";
pub(super) const DIGESTS: &str = "digests.json";
pub(super) const WORK: &str = "work";
pub(super) const QUARANTINE: &str = "quarantine";
/// What `cache gc` is about to remove.
pub(super) const TRASH: &str = "trash";
/// In an attempt directory: its result takes the place of the one in the cache.
pub(super) const REPLACE: &str = "replace";
/// In an attempt directory: the result whose place is being taken, where that needs two renames.
pub(super) const REPLACED: &str = "replaced";

/// The directory `runs/`.
#[derive(Clone, Debug)]
pub struct Workspace {
    root: PathBuf,
}

/// A committed result.
#[derive(Clone, Debug, PartialEq)]
pub struct Checkpoint {
    /// Its key.
    pub key: Digest,
    /// Its directory.
    pub dir: PathBuf,
    /// Its files.
    pub manifest: Manifest,
}

/// What a look into the cache found.
#[derive(Clone, Debug, PartialEq)]
pub enum Lookup {
    /// A whole checkpoint.
    Hit(Checkpoint),
    /// Nothing.
    Miss,
    /// A damaged checkpoint, which was moved away and why.
    Quarantined {
        /// What is wrong with it.
        reason: String,
        /// Where it is now.
        dir: PathBuf,
    },
}

impl Workspace {
    /// Opens `root` (a project's `runs/`), making it when it is missing.
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

    /// The directory itself.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The memo of file digests.
    pub fn digests(&self) -> FileDigests {
        FileDigests::open(&self.root.join(DIGESTS))
    }

    /// The memo of inspections.
    pub fn inspected(&self) -> Inspected {
        Inspected::open(&self.root)
    }

    /// Looks for a checkpoint; one whose files are missing or of another size is moved to the quarantine, never served.
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

    /// Puts a result back that was set aside for another one whose process then died.
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

    /// Reads all of a checkpoint and compares it with its manifest; a damaged one is moved to the quarantine.
    pub fn verify(&self, key: &Digest) -> Result<Lookup, WorkspaceError> {
        let cores = crate::parallel::cores();
        Ok(self.verify_all(&[key], cores, &|_| {})?.remove(0))
    }

    /// Whether a checkpoint of `key` is there, whole or not.
    pub fn contains(&self, key: &Digest) -> bool {
        self.checkpoint_dir(key).exists()
    }

    /// Keys of all committed checkpoints, sorted.
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

    /// Where the checkpoint of `key` is once it is committed.
    pub fn checkpoint_dir(&self, key: &Digest) -> PathBuf {
        self.root.join(CACHE).join(key.as_str())
    }

    /// Keys that are being worked on or were, sorted.
    pub fn attempted_keys(&self) -> Result<Vec<Digest>, WorkspaceError> {
        let mut keys = Vec::new();
        for entry in fs_err::read_dir(self.root.join(WORK))? {
            keys.extend(entry?.file_name().to_str().and_then(Digest::parse));
        }
        keys.sort();
        Ok(keys)
    }

    /// Where attempts at `key` happen.
    pub fn attempt_dir(&self, key: &Digest) -> PathBuf {
        self.root.join(WORK).join(key.as_str())
    }

    /// Prepares an attempt: makes its directory or goes on in the one that an interrupted attempt left.
    pub fn prepare(&self, assignment: &Assignment, key_json: &serde_json::Value) -> Result<Attempt, WorkspaceError> {
        // a process that has just committed the same key moves the directory away
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

    /// Who works on `key` now.
    pub fn holder(&self, key: &Digest) -> Option<LeaseOwner> {
        lease_owner(&self.attempt_dir(key))
    }

    /// Makes the attempt at `key` one whose result takes the place of the one in the cache, which stays until then. Unless the
    /// attempt `goes_on`, it starts over.
    ///
    /// # Errors
    /// [`WorkspaceError::Leased`] when somebody works on it.
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
    /// [`WorkspaceError::Leased`] when somebody works on it.
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

    /// Whether an attempt at `key` has begun that takes the place of the result in the cache.
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
