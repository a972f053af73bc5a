//! The cache: committed checkpoints by key, and the attempts on the way there.

use super::assignment::Assignment;
use super::attempt::{ASSIGNMENT, Attempt, KEY, remove_dir};
use super::digests::FileDigests;
use super::error::CacheError;
use super::lease::{Lease, LeaseOwner};
use super::manifest::{MANIFEST, Manifest};
use super::write_volatile;
use crate::digest::Digest;
use std::path::{Path, PathBuf};

pub(super) const CACHE: &str = "cache";
pub(super) const DIGESTS: &str = "digests.json";
const WORK: &str = "work";
const QUARANTINE: &str = "quarantine";

/// The directory `runs/`.
#[derive(Clone, Debug)]
pub struct Cache {
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

impl Cache {
    /// Opens `root` (a project's `runs/`), making it when it is missing.
    pub fn open(root: &Path) -> Result<Self, CacheError> {
        for name in [CACHE, WORK] {
            fs_err::create_dir_all(root.join(name))?;
        }
        Ok(Self { root: fs_err::canonicalize(root)? })
    }

    /// The directory itself.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The memo of file digests.
    pub fn digests(&self) -> FileDigests {
        FileDigests::open(&self.root.join(DIGESTS))
    }

    /// Looks for a checkpoint; one whose files are missing or of another size is moved to the quarantine, never served.
    pub fn lookup(&self, key: &Digest) -> Result<Lookup, CacheError> {
        let dir = self.root.join(CACHE).join(key.as_str());
        let found = match Manifest::read(&dir) {
            Ok(None) if !dir.exists() => return Ok(Lookup::Miss),
            Ok(None) => Err(format!("`{MANIFEST}` is missing")),
            Ok(Some(manifest)) => manifest.check_sizes(&dir).map(|()| manifest),
            Err(CacheError::Malformed { source, .. }) => Err(format!("`{MANIFEST}` is malformed: {source}")),
            Err(error) => return Err(error),
        };
        match found {
            Ok(manifest) => Ok(Lookup::Hit(Checkpoint { key: key.clone(), dir, manifest })),
            Err(reason) => Ok(Lookup::Quarantined { dir: self.quarantine(key)?, reason }),
        }
    }

    /// Reads all of a checkpoint and compares it with its manifest; a damaged one is moved to the quarantine.
    pub fn verify(&self, key: &Digest) -> Result<Lookup, CacheError> {
        let Lookup::Hit(checkpoint) = self.lookup(key)? else { return self.lookup(key) };
        match checkpoint.manifest.check_digests(&checkpoint.dir) {
            Ok(()) => Ok(Lookup::Hit(checkpoint)),
            Err(reason) => Ok(Lookup::Quarantined { dir: self.quarantine(key)?, reason }),
        }
    }

    /// Whether a checkpoint of `key` is there, whole or not.
    pub fn contains(&self, key: &Digest) -> bool {
        self.root.join(CACHE).join(key.as_str()).exists()
    }

    /// Keys of all committed checkpoints, sorted.
    pub fn keys(&self) -> Result<Vec<Digest>, CacheError> {
        let mut keys = Vec::new();
        for entry in fs_err::read_dir(self.root.join(CACHE))? {
            if let Some(key) = entry?.file_name().to_str().and_then(Digest::parse) {
                keys.push(key);
            }
        }
        keys.sort();
        Ok(keys)
    }

    /// Where attempts at `key` happen.
    pub fn attempt_dir(&self, key: &Digest) -> PathBuf {
        self.root.join(WORK).join(key.as_str())
    }

    /// Prepares an attempt: makes its directory or goes on in the one that an interrupted attempt left.
    pub fn prepare(&self, assignment: &Assignment, key_json: &serde_json::Value) -> Result<Attempt, CacheError> {
        let dir = self.attempt_dir(&assignment.key);
        fs_err::create_dir_all(&dir)?;
        let pretty = |value: serde_json::Value| serde_json::to_vec_pretty(&value).expect("values serialize");
        write_volatile(&dir.join(KEY), &pretty(key_json.clone()))?;
        let assignment = serde_json::to_value(assignment).expect("an assignment serializes");
        write_volatile(&dir.join(ASSIGNMENT), &pretty(assignment))?;
        Attempt::open(&dir)
    }

    /// Who works on `key` now.
    pub fn holder(&self, key: &Digest) -> Option<LeaseOwner> {
        Lease::holder(&self.attempt_dir(key))
    }

    /// Forgets everything about `key`: its checkpoint and its attempt.
    ///
    /// # Errors
    /// [`CacheError::Leased`] when somebody works on it.
    pub fn discard(&self, key: &Digest) -> Result<(), CacheError> {
        if let Some(owner) = self.holder(key) {
            return Err(CacheError::Leased { owner });
        }
        remove_dir(&self.attempt_dir(key))?;
        remove_dir(&self.root.join(CACHE).join(key.as_str()))
    }

    fn quarantine(&self, key: &Digest) -> Result<PathBuf, CacheError> {
        let quarantine = self.root.join(QUARANTINE);
        fs_err::create_dir_all(&quarantine)?;
        let stamp = chrono::Utc::now().format("%Y%m%dT%H%M%S%.6f");
        let dir = quarantine.join(format!("{}-{stamp}", key.as_str()));
        fs_err::rename(self.root.join(CACHE).join(key.as_str()), &dir)?;
        Ok(dir)
    }
}
