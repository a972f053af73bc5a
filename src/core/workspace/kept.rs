//! Files of answers and measurements that stages keep for later stages. They can be computed again, so a damaged one is
//! never served, and a lost one costs only time.
//!
//! A kept file begins with a line that has the SHA-256 digest of the rest. Arenas' files of earlier versions have no
//! such line and begin with `[`.

use super::attempt::{ARENA_ANSWERS, EVAL_ANSWERS, EVENTS};
use super::error::WorkspaceError;
use super::inventory::children;
use super::objects::Workspace;
use super::write_file;
use crate::digest::Digest;
use std::io;
use std::path::{Path, PathBuf};

/// The document in a directory of evaluations' answers, whose digest is the directory's name.
pub const KEPT_OF: &str = "of.json";

/// The phase of an evaluation that needs no model.
pub const NO_MODEL: &str = "every answer is kept: no model is loaded";

/// Whether the evaluation whose checkpoint is `dir` was computed from kept answers alone. An evaluation that was
/// interrupted and loaded a model before counts as one that loaded it.
pub fn loaded_no_model(dir: &Path) -> bool {
    let events = fs_err::read_to_string(dir.join(EVENTS)).unwrap_or_default();
    let starts = events.lines().filter(|line| line.contains("\"started\":{")).count();
    let phase = format!("\"phase\":\"{NO_MODEL}\"");
    starts > 0 && events.lines().filter(|line| line.contains(&phase)).count() == starts
}

/// The state of a kept file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kept {
    /// The file does not exist or cannot be read.
    Absent,
    /// The content is not what was written.
    Damaged,
    /// The content.
    Whole(Vec<u8>),
}

impl Kept {
    /// Reads the kept file at `path`.
    pub fn read(path: &Path) -> Self {
        let Ok(bytes) = fs_err::read(path) else { return Self::Absent };
        if bytes.starts_with(b"[") {
            let is_json = serde_json::from_slice::<serde::de::IgnoredAny>(&bytes).is_ok();
            return if is_json { Self::Whole(bytes) } else { Self::Damaged };
        }
        let line = bytes.iter().position(|&byte| byte == b'\n');
        match line.map(|end| (&bytes[..end], &bytes[end + 1..])) {
            Some((digest, content)) if Digest::of(content).as_str().as_bytes() == digest => {
                Self::Whole(content.to_vec())
            }
            _ => Self::Damaged,
        }
    }

    /// Writes a kept file, completely or not. Creates its directory.
    ///
    /// # Errors
    /// Fails if the file cannot be written.
    pub fn write(path: &Path, content: &[u8]) -> io::Result<()> {
        fs_err::create_dir_all(path.parent().expect("a file lies in a directory"))?;
        let digest = Digest::of(content);
        write_file(path, &[digest.as_str().as_bytes(), b"\n", content].concat())
    }
}

impl Workspace {
    /// Returns the paths of all kept files: those of arenas' players and those of evaluations.
    ///
    /// # Errors
    /// Fails if a directory cannot be read.
    pub fn kept_files(&self) -> Result<Vec<PathBuf>, WorkspaceError> {
        let mut directories = vec![self.root().join(ARENA_ANSWERS)];
        let evaluations = children(&self.root().join(EVAL_ANSWERS))?;
        directories.extend(evaluations.into_iter().map(|(path, _)| path).filter(|path| path.is_dir()));
        let mut found = Vec::new();
        for directory in directories {
            let files = children(&directory)?.into_iter().filter(|(_, name)| is_kept(name));
            found.extend(files.map(|(path, _)| path));
        }
        Ok(found)
    }
}

/// Whether a file of this name has answers or measurements, by their key.
fn is_kept(name: &str) -> bool {
    name.strip_suffix(".json").and_then(Digest::parse).is_some()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_served_only_as_it_was_written() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("of a model").join("file.json");
        assert_eq!(Kept::read(&path), Kept::Absent);
        Kept::write(&path, b"{\"a\": 1}").unwrap();
        assert_eq!(Kept::read(&path), Kept::Whole(b"{\"a\": 1}".to_vec()));
        let whole = fs_err::read(&path).unwrap();
        for place in 0..whole.len() {
            let mut other = whole.clone();
            other[place] ^= 1;
            fs_err::write(&path, &other).unwrap();
            assert_eq!(Kept::read(&path), Kept::Damaged, "byte {place}");
            fs_err::write(&path, &whole[..place]).unwrap();
            assert_eq!(Kept::read(&path), Kept::Damaged, "{place} bytes");
        }
    }

    #[test]
    fn files_of_earlier_versions_need_no_digest() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file.json");
        fs_err::write(&path, "[{\"ids\": [1]}]").unwrap();
        assert_eq!(Kept::read(&path), Kept::Whole(b"[{\"ids\": [1]}]".to_vec()));
        fs_err::write(&path, "[{\"ids\": [1]").unwrap();
        assert_eq!(Kept::read(&path), Kept::Damaged);
    }
}
