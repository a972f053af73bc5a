//! Which models and data a worker has looked at and found good, so that it need not look again.

use super::write_volatile;
use crate::digest::{Digest, canonical_json};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

const FILE: &str = "inspected.json";
/// Beyond these many the memo starts over.
const MOST: usize = 10_000;

/// Inspections without a complaint, by the digest of what was read and of the worker that read it.
#[derive(Debug)]
pub struct Inspected {
    path: PathBuf,
    passed: BTreeSet<Digest>,
    changed: bool,
}

/// What an inspection depends on: `reads` says what is read, with the digests of files, and `worker` is who reads it.
pub fn inspection_key(reads: &Value, worker: &Digest) -> Digest {
    Digest::of(canonical_json(&json!([reads, worker])).as_bytes())
}

impl Inspected {
    /// The memo below the run directory `root`; one that is missing or unreadable is as good as empty.
    pub(super) fn open(root: &Path) -> Self {
        let path = root.join(FILE);
        let passed: BTreeSet<Digest> =
            fs_err::read(&path).ok().and_then(|bytes| serde_json::from_slice(&bytes).ok()).unwrap_or_default();
        Self { path, passed, changed: false }
    }

    /// Whether this inspection passed before.
    pub fn has_passed(&self, inspection: &Digest) -> bool {
        self.passed.contains(inspection)
    }

    /// Remembers that it passed.
    pub fn pass(&mut self, inspection: Digest) {
        if self.passed.len() >= MOST {
            self.passed.clear();
        }
        self.changed |= self.passed.insert(inspection);
    }

    /// Writes the memo if something was added. It is only a memo: a failure is not an error.
    pub fn save(&mut self) {
        if !self.changed {
            return;
        }
        let text = serde_json::to_vec(&self.passed).expect("digests serialize");
        if write_volatile(&self.path, &text).is_ok() {
            self.changed = false;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_passed_is_remembered_for_the_worker_that_looked() {
        let dir = tempfile::tempdir().unwrap();
        let (reads, worker) = (json!(["sft", 512]), Digest::of(b"worker"));
        let key = inspection_key(&reads, &worker);
        let mut memo = Inspected::open(dir.path());
        assert!(!memo.has_passed(&key));
        memo.pass(key.clone());
        memo.save();
        let memo = Inspected::open(dir.path());
        assert!(memo.has_passed(&key));
        assert!(!memo.has_passed(&inspection_key(&json!(["sft", 256]), &worker)));
        assert!(!memo.has_passed(&inspection_key(&reads, &Digest::of(b"another"))));
        fs_err::write(dir.path().join(FILE), "no JSON").unwrap();
        assert!(!Inspected::open(dir.path()).has_passed(&key));
    }
}
