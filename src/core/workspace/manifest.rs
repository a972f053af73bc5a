//! `manifest.json`: the files of a directory with their digests, written last, so that a directory that has one is whole.

use super::attempt::BOOKKEEPING;
use super::digests::digest_file;
use super::error::WorkspaceError;
use super::write_file;
use crate::digest::Digest;
use rustix::fs::{AtFlags, Mode, OFlags};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::io;
use std::path::Path;

/// Name of the file.
pub(super) const MANIFEST: &str = "manifest.json";

/// Version of the format.
const FORMAT: u32 = 1;

/// The files of a committed directory.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// Version of this format.
    pub format: u32,
    /// By path relative to the directory, with `/`.
    pub files: BTreeMap<String, FileRecord>,
}

/// One file of a manifest.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FileRecord {
    /// SHA-256 of the content.
    pub sha256: Digest,
    /// Size.
    pub bytes: u64,
}

impl Manifest {
    /// Flushes every file of `dir` to disk, then writes its manifest.
    pub(super) fn seal(dir: &Path) -> Result<Self, WorkspaceError> {
        let mut files = BTreeMap::new();
        collect(dir, "", &mut files)?;
        let manifest = Self { format: FORMAT, files };
        let text = serde_json::to_string_pretty(&manifest).expect("a manifest serializes");
        write_file(&dir.join(MANIFEST), text.as_bytes())?;
        Ok(manifest)
    }

    /// Reads the manifest of `dir`; `None` when there is none, so `dir` is not whole.
    pub fn read(dir: &Path) -> Result<Option<Self>, WorkspaceError> {
        let path = dir.join(MANIFEST);
        match fs_err::read(&path) {
            Ok(bytes) => {
                serde_json::from_slice(&bytes).map(Some).map_err(|source| WorkspaceError::Malformed { path, source })
            }
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Whether every file is there with its size; cheap. The error says what is wrong.
    pub fn check_sizes(&self, dir: &Path) -> Result<(), String> {
        // thousands of checkpoints are looked at before a run: their directories are looked up once each
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let opened = rustix::fs::open(dir, flags, Mode::empty()).map_err(|error| io::Error::from(error).to_string())?;
        for (name, record) in &self.files {
            let bytes = match rustix::fs::statat(&opened, name.as_str(), AtFlags::empty()) {
                Ok(stat) => u64::try_from(stat.st_size).unwrap_or(0),
                Err(_) => fs_err::metadata(dir.join(name)).map_err(|error| error.to_string())?.len(),
            };
            if bytes != record.bytes {
                return Err(format!("`{name}` has {bytes} bytes, not {}", record.bytes));
            }
        }
        Ok(())
    }

    /// Whether every file has its digest; reads everything. The error says what is wrong.
    pub fn check_digests(&self, dir: &Path) -> Result<(), String> {
        self.check_sizes(dir)?;
        for (name, record) in &self.files {
            let found = digest_file(&dir.join(name)).map_err(|e| e.to_string())?;
            if found != record.sha256 {
                return Err(format!("`{name}` has digest {}, not {}", found.short(), record.sha256.short()));
            }
        }
        Ok(())
    }

    /// What the stage made, without what the commit added about the attempt (events, log, times): the same stage on the
    /// same machine gives the same again.
    pub fn outputs(&self) -> impl Iterator<Item = (&str, &FileRecord)> {
        let output = |name: &str| !BOOKKEEPING.contains(&name);
        self.files.iter().map(|(name, record)| (name.as_str(), record)).filter(move |(name, _)| output(name))
    }

    /// Bytes of all files.
    pub fn bytes(&self) -> u64 {
        self.files.values().map(|record| record.bytes).sum()
    }
}

fn collect(dir: &Path, prefix: &str, files: &mut BTreeMap<String, FileRecord>) -> Result<(), WorkspaceError> {
    for entry in fs_err::read_dir(dir)? {
        let entry = entry?;
        let name = entry.file_name().into_string().map_err(|name| WorkspaceError::Name { name })?;
        let name = format!("{prefix}{name}");
        if entry.file_type()?.is_dir() {
            collect(&entry.path(), &format!("{name}/"), files)?;
        } else if name != MANIFEST {
            let file = fs_err::File::open(entry.path())?;
            file.sync_all()?;
            let bytes = file.metadata()?.len();
            files.insert(name, FileRecord { sha256: digest_file(&entry.path())?, bytes });
        }
    }
    fs_err::File::open(dir)?.sync_all()?;
    Ok(())
}
