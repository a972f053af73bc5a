//! What a recipe asks of the file system beyond its own text.

use crate::digest::Digest;
use std::io;
use std::path::{Path, PathBuf};

/// Digests of the files that a recipe names, and the files that a pattern names. Paths are absolute.
///
/// An implementation should remember digests: variants name the same files again and again.
pub trait Inputs {
    /// The digest of a model's or an encoder's directory.
    fn directory(&mut self, path: &Path) -> io::Result<Digest>;

    /// The digest of a file's bytes.
    fn file(&mut self, path: &Path) -> io::Result<Digest>;

    /// The files that match `pattern`, sorted.
    fn glob(&mut self, pattern: &str) -> io::Result<Vec<PathBuf>> {
        let paths =
            glob::glob(pattern).map_err(|error| io::Error::new(io::ErrorKind::InvalidInput, error.to_string()))?;
        let mut files = Vec::new();
        for path in paths {
            let path = path.map_err(io::Error::from)?;
            if path.is_file() {
                files.push(path);
            }
        }
        files.sort();
        Ok(files)
    }
}
