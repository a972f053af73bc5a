//! A memo of the comparisons of training sets with evaluation sets, to avoid repeated ones.

use super::write_volatile;
use crate::digest::Digest;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

const FILE: &str = "overlaps.json";
/// The number of entries above which the memo is cleared.
const MOST: usize = 10_000;

/// Results of comparisons, by the digest of what was compared.
#[derive(Debug)]
pub struct Overlaps {
    path: PathBuf,
    found: BTreeMap<Digest, Value>,
    changed: bool,
}

impl Overlaps {
    /// Opens the memo in the run directory `root`. A missing or unreadable one is treated as empty.
    pub(super) fn open(root: &Path) -> Self {
        let path = root.join(FILE);
        let found = fs_err::read(&path).ok().and_then(|bytes| serde_json::from_slice(&bytes).ok()).unwrap_or_default();
        Self { path, found, changed: false }
    }

    /// Returns the result of an earlier comparison.
    pub fn get<T: DeserializeOwned>(&self, compared: &Digest) -> Option<T> {
        serde_json::from_value(self.found.get(compared)?.clone()).ok()
    }

    /// Records a result.
    ///
    /// # Panics
    /// Panics if it does not serialize.
    pub fn insert(&mut self, compared: Digest, result: &impl Serialize) {
        if self.found.len() >= MOST {
            self.found.clear();
        }
        self.found.insert(compared, serde_json::to_value(result).expect("a result serializes"));
        self.changed = true;
    }

    /// Writes the memo if something was added. It is only a memo: a failure is not an error.
    pub fn save(&mut self) {
        if !self.changed {
            return;
        }
        let text = serde_json::to_vec(&self.found).expect("results serialize");
        if write_volatile(&self.path, &text).is_ok() {
            self.changed = false;
        }
    }
}
