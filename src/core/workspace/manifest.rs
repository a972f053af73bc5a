//! `manifest.json`: the files of a directory with their digests. It is written last, so a directory that has one is
//! complete.

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

/// The name of the file.
pub(super) const MANIFEST: &str = "manifest.json";

/// The version of the format.
const FORMAT: u32 = 1;

/// The files of a committed directory.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// The version of the format.
    pub format: u32,
    /// The files by path relative to the directory, with `/` as separator.
    pub files: BTreeMap<String, FileRecord>,
}

/// One file of a manifest.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FileRecord {
    /// The SHA-256 digest of the content.
    pub sha256: Digest,
    /// The size in bytes.
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

    /// Reads the manifest of `dir`. Returns `None` without a manifest, which means that `dir` is incomplete.
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

    /// Checks that every file exists with its size, without reading the files.
    ///
    /// # Errors
    /// A description of the problem.
    pub fn check_sizes(&self, dir: &Path) -> Result<(), String> {
        // Before a run thousands of checkpoints are checked, so each directory is resolved only once.
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

    /// Checks that every file has its digest. This reads all files.
    ///
    /// # Errors
    /// A description of the problem.
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

    /// Returns the files that the stage itself made, without those that the commit added about the attempt (events,
    /// log, times). The same stage on the same machine makes the same files again.
    pub fn outputs(&self) -> impl Iterator<Item = (&str, &FileRecord)> {
        let output = |name: &str| !BOOKKEEPING.contains(&name);
        self.files.iter().map(|(name, record)| (name.as_str(), record)).filter(move |(name, _)| output(name))
    }

    /// Returns the bytes of all files.
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
