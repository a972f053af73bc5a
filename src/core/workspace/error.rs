//! What can go wrong on disk.

use super::lease::LeaseOwner;
use std::ffi::OsString;
use std::path::PathBuf;

/// Why the cache could not do it. Nothing half-done is ever visible as a checkpoint.
#[derive(Debug, thiserror::Error)]
pub enum WorkspaceError {
    /// A file or directory failed; the message names it.
    #[error(transparent)]
    Io(#[from] std::io::Error),
    /// A file of the cache is not what this program writes.
    #[error("`{}` is malformed", path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: serde_json::Error,
    },
    /// A file name that is not text.
    #[error("the file name {name:?} is not UTF-8")]
    Name {
        /// The name.
        name: OsString,
    },
    /// Somebody else works on the key.
    #[error("{owner} is working on this stage")]
    Leased {
        /// Who.
        owner: LeaseOwner,
    },
    /// The directory cannot hold a cache.
    #[error("`{}` cannot hold results: {reason}", path.display())]
    Unusable {
        /// The directory.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// What was to be written into a directory failed.
    #[error("{0}")]
    Content(String),
}

const DISK_FULL: &str = "the disk is full: free some space, then `orchestrate resume`";

/// What to do about a file that could not be written.
pub fn io_hint(error: &std::io::Error) -> Option<String> {
    match error.kind() {
        std::io::ErrorKind::StorageFull => Some(DISK_FULL.to_owned()),
        std::io::ErrorKind::ReadOnlyFilesystem | std::io::ErrorKind::PermissionDenied => {
            Some("the directory must be writable; `-C DIR` chooses another project".to_owned())
        }
        _ => None,
    }
}

impl WorkspaceError {
    /// What to do about it.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Io(error) => io_hint(error),
            // whoever filled the directory, here or in libtorch, said it in words
            Self::Content(message) if message.contains("No space left on device") => Some(DISK_FULL.to_owned()),
            Self::Malformed { .. } => Some("remove the file's directory; the stage then runs again".to_owned()),
            Self::Leased { .. } => Some("wait for it, or end that process".to_owned()),
            Self::Name { .. } | Self::Unusable { .. } | Self::Content(_) => None,
        }
    }
}
