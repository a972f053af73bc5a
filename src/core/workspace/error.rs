//! Errors of the run directory.

use super::lease::LeaseOwner;
use std::ffi::OsString;
use std::path::PathBuf;

/// An error of the run directory. An incomplete result is never visible as a checkpoint.
#[derive(Debug, thiserror::Error)]
pub enum WorkspaceError {
    /// An operation on a file or directory failed; the message names the path.
    #[error(transparent)]
    Io(#[from] std::io::Error),
    /// A file of the run directory does not have the format that this program writes.
    #[error("`{}` is malformed", path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
        /// The parser's error.
        source: serde_json::Error,
    },
    /// A file name is not UTF-8.
    #[error("the file name {name:?} is not UTF-8")]
    Name {
        /// The name.
        name: OsString,
    },
    /// Somebody else works on the key.
    #[error("{owner} is working on this stage")]
    Leased {
        /// The process that has the lease.
        owner: LeaseOwner,
    },
    /// The directory cannot hold results.
    #[error("`{}` cannot hold results: {reason}", path.display())]
    Unusable {
        /// The directory.
        path: PathBuf,
        /// The reason.
        reason: String,
    },
    /// Writing the content of a directory failed.
    #[error("{0}")]
    Content(String),
}

const DISK_FULL: &str = "the disk is full: free some space, then `orchestrate resume`";

/// Returns advice about a file that could not be written.
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
    /// Returns advice about the error.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Io(error) => io_hint(error),
            // The code that filled the directory, here or in libtorch, reported the error as text.
            Self::Content(message) if message.contains("No space left on device") => Some(DISK_FULL.to_owned()),
            Self::Malformed { .. } => Some("remove the file's directory; the stage then runs again".to_owned()),
            Self::Leased { .. } => Some("wait for it, or end that process".to_owned()),
            Self::Name { .. } | Self::Unusable { .. } | Self::Content(_) => None,
        }
    }
}
