//! The interface by which resolving reads the file system and the hub.

use crate::digest::Digest;
use crate::recipe::text::hub_reference::HubReference;
use crate::recipe::text::patterns::matching_files;
use std::io;
use std::path::{Path, PathBuf};

/// Files of the hub on disk.
#[derive(Clone, Debug)]
pub struct HubFiles {
    /// The directory of the repository at one commit.
    pub directory: PathBuf,
    /// The requested files of a data set; empty for a model.
    pub files: Vec<PathBuf>,
}

/// The reason why a reference to the hub cannot be resolved.
#[derive(Clone, Debug)]
pub struct HubRefusal {
    /// The message that says what is wrong.
    pub message: String,
    /// The advice on what to do.
    pub help: String,
}

/// The source of the digests of files that a recipe names, and of the files that a pattern matches. Paths are absolute.
///
/// An implementation should cache digests, because variants name the same files repeatedly.
pub trait Inputs {
    /// Returns the digest of a model's or an encoder's directory.
    fn directory(&mut self, path: &Path) -> io::Result<Digest>;

    /// Returns the digest of a file's bytes.
    fn file(&mut self, path: &Path) -> io::Result<Digest>;

    /// Returns the files of `reference`, and downloads them if they are not on disk.
    fn hub(&mut self, reference: &HubReference) -> Result<HubFiles, HubRefusal>;

    /// Returns the files that match `pattern`, which is relative to `directory`, sorted.
    fn glob(&mut self, directory: &Path, pattern: &str) -> io::Result<Vec<PathBuf>> {
        matching_files(directory, pattern)
    }
}
