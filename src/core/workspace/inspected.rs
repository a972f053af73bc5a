//! A memo of the models and data that a worker has inspected successfully, to avoid repeated inspections.

use super::write_volatile;
use crate::digest::{Digest, canonical_json};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

const FILE: &str = "inspected.json";
/// The number of entries above which the memo is cleared.
const MOST: usize = 10_000;

/// Successful inspections, by the digest of what was read and of the worker that read it.
#[derive(Debug)]
pub struct Inspected {
    path: PathBuf,
    passed: BTreeSet<Digest>,
    changed: bool,
}

/// Returns the digest of an inspection. `reads` describes what is read, with the digests of files, and `worker` is the
/// digest of the worker.
pub fn inspection_key(reads: &Value, worker: &Digest) -> Digest {
    Digest::of(canonical_json(&json!([reads, worker])).as_bytes())
}

impl Inspected {
    /// Opens the memo in the run directory `root`. A missing or unreadable one is treated as empty.
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

    /// Records that the inspection passed.
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
