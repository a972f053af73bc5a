//! Records of the names and rows of input files, by the digest of their content. They serve only to explain a change: a
//! key holds digests, which show that something changed, but not what.
//!
//! `runs/inputs/<digest>.json` is written once for every input of a stage that runs. Nothing depends on it. `cache gc`
//! removes it with the last result or attempt that was made from the input.

use super::Workspace;
use crate::digest::Digest;
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};

pub(super) const INPUTS: &str = "inputs";

/// The size in bytes above which the rows of a file are not recorded, because digesting them would take long.
const MOST_BYTES: u64 = 64 << 20;

/// The number of hexadecimal digits that identify a row.
const ROW_DIGITS: usize = 16;

/// The record of a file or a directory that a stage read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct InputRecord {
    /// The path as recipes write it.
    pub path: PathBuf,
    /// The prefixes of the SHA-256 digests of the rows, for small files with one row per line.
    pub rows: Option<Vec<String>>,
}

impl InputRecord {
    /// Creates the record of the content `digest` at `path`, which recipes call `name`. If the file has changed since
    /// it had that digest, its rows are unknown.
    pub fn read(digest: &Digest, path: &Path, name: &Path) -> Self {
        Self { path: name.to_owned(), rows: rows(digest, path) }
    }

    /// Records the content `digest` at `path`, unless a record exists. A failure costs only an explanation, so it is
    /// ignored.
    pub fn remember(workspace: &Workspace, digest: &Digest, path: &Path, name: &Path) {
        let file = file(workspace, digest);
        if file.exists() {
            return;
        }
        let text = serde_json::to_vec(&Self::read(digest, path, name)).expect("a record serializes");
        let part = file.with_extension(format!("{}.part", std::process::id()));
        let parent = file.parent().expect("the file lies in a directory");
        let _ = fs_err::create_dir_all(parent)
            .and_then(|()| fs_err::write(&part, text))
            .and_then(|()| fs_err::rename(&part, &file));
    }

    /// Returns the record of the content `digest`.
    pub fn load(workspace: &Workspace, digest: &Digest) -> Option<Self> {
        serde_json::from_slice(&fs_err::read(file(workspace, digest)).ok()?).ok()
    }
}

fn file(workspace: &Workspace, digest: &Digest) -> PathBuf {
    workspace.root().join(INPUTS).join(format!("{digest}.json"))
}

fn rows(digest: &Digest, path: &Path) -> Option<Vec<String>> {
    let is_lines =
        path.extension().is_some_and(|extension| ["jsonl", "txt", "md"].iter().any(|known| extension == *known));
    if !is_lines || fs_err::metadata(path).ok()?.len() > MOST_BYTES {
        return None;
    }
    let bytes = fs_err::read(path).ok()?;
    if Digest::of(&bytes) != *digest {
        return None;
    }
    let lines = bytes.split(|byte| *byte == b'\n').filter(|line| !line.trim_ascii().is_empty());
    Some(lines.map(|line| Digest::of(line).as_str()[..ROW_DIGITS].to_owned()).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_remembered_by_the_content_they_had() {
        let dir = tempfile::tempdir().unwrap();
        let workspace = Workspace::open(&dir.path().join("runs")).unwrap();
        let (path, name) = (dir.path().join("rows.jsonl"), Path::new("data/rows.jsonl"));
        fs_err::write(&path, "one\n\ntwo\n").unwrap();
        let digest = Digest::of(b"one\n\ntwo\n");
        InputRecord::remember(&workspace, &digest, &path, name);
        let known = InputRecord::load(&workspace, &digest).unwrap();
        assert_eq!((known.path.as_path(), known.rows.map(|rows| rows.len())), (name, Some(2)));
        fs_err::write(&path, "another\n").unwrap();
        assert_eq!(InputRecord::read(&digest, &path, name).rows, None, "these are not the rows of that content");
        assert_eq!(InputRecord::load(&workspace, &Digest::of(b"another\n")), None);
    }
}
