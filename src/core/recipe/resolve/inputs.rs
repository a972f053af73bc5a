//! What a recipe asks of the file system beyond its own text.

use crate::digest::Digest;
use crate::recipe::text::hub_reference::HubReference;
use crate::recipe::text::patterns::matching_files;
use std::io;
use std::path::{Path, PathBuf};

/// What of the hub is on disk.
#[derive(Clone, Debug)]
pub struct HubFiles {
    /// The repository at one commit.
    pub directory: PathBuf,
    /// The files of a data set that were asked for; none for a model.
    pub files: Vec<PathBuf>,
}

/// Why something of the hub cannot be had.
#[derive(Clone, Debug)]
pub struct HubRefusal {
    /// What is wrong.
    pub message: String,
    /// What to do.
    pub help: String,
}

/// Digests of the files that a recipe names, and the files that a pattern names. Paths are absolute.
///
/// An implementation should remember digests: variants name the same files again and again.
pub trait Inputs {
    /// The digest of a model's or an encoder's directory.
    fn directory(&mut self, path: &Path) -> io::Result<Digest>;

    /// The digest of a file's bytes.
    fn file(&mut self, path: &Path) -> io::Result<Digest>;

    /// Brings what `reference` names onto the disk, if it is not there.
    fn hub(&mut self, reference: &HubReference) -> Result<HubFiles, HubRefusal>;

    /// The files that match `pattern`, which is relative to `directory`, sorted.
    fn glob(&mut self, directory: &Path, pattern: &str) -> io::Result<Vec<PathBuf>> {
        matching_files(directory, pattern)
    }
}
