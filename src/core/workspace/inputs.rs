//! What files were called and which rows they had, by the digest of their content: only to tell what changed. A key holds
//! digests alone, which say that something changed, not what.
//!
//! `runs/inputs/<digest>.json` is written once for every input of a stage that is run. Nothing depends on it; `cache gc`
//! removes it with the last result or attempt that was made from it.

use super::Workspace;
use crate::digest::Digest;
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};

pub(super) const INPUTS: &str = "inputs";

/// Rows of larger files are not remembered: their digests would take long.
const MOST_BYTES: u64 = 64 << 20;

/// Hexadecimal digits that tell two rows apart.
const ROW_DIGITS: usize = 16;

/// A file or a directory that a stage read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct InputRecord {
    /// As recipes name it.
    pub path: PathBuf,
    /// The beginnings of the SHA-256 of its rows, for files of one row a line that are not large.
    pub rows: Option<Vec<String>>,
}

impl InputRecord {
    /// The record of the content `digest` that lies at `path`; recipes call it `name`. The rows of a file that has changed
    /// since it got that digest are unknown.
    pub fn read(digest: &Digest, path: &Path, name: &Path) -> Self {
        Self { path: name.to_owned(), rows: rows(digest, path) }
    }

    /// Remembers the content `digest` at `path`, unless it is remembered already. A failure costs an explanation, so it
    /// is none of the caller's.
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

    /// What is remembered of the content `digest`.
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
