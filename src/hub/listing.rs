//! The files of a repository at a commit, with sizes and hashes. A listing never changes, so it is kept.

use crate::recipe::is_path;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::Path;

/// The format version of a listing, which is that of `huggingface_hub`'s `trees/COMMIT.json`. Those can be read too.
const FORMAT_VERSION: u32 = 1;

/// The files of a repository at a commit, by name.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub(super) struct Listing {
    format_version: u32,
    files: BTreeMap<String, Entry>,
}

/// The hub's information about a file. A mirror may give none; then the file's own headers are used.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
pub(super) struct Entry {
    /// The size in bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) size: Option<u64>,
    /// The git hash of the file, or of the pointer to a large file.
    #[serde(skip_serializing_if = "Option::is_none")]
    blob_id: Option<String>,
    /// SHA-256 of a large file.
    #[serde(skip_serializing_if = "Option::is_none")]
    lfs_sha256: Option<String>,
}

impl Entry {
    /// Returns the name of the file's content in `blobs`, which is its `ETag` at the hub: SHA-256, or the git hash of
    /// a small file.
    pub(super) fn etag(&self) -> Option<&str> {
        self.lfs_sha256.as_deref().or(self.blob_id.as_deref())
    }
}

/// A repository as `/api/models/OWNER/NAME/revision/REVISION?blobs=true` describes it.
#[derive(Debug, Deserialize)]
pub(super) struct RepoInfo {
    /// The commit.
    pub(super) sha: String,
    siblings: Vec<Sibling>,
}

#[derive(Debug, Deserialize)]
struct Sibling {
    rfilename: String,
    size: Option<u64>,
    #[serde(rename = "blobId")]
    blob_id: Option<String>,
    lfs: Option<LargeFile>,
}

#[derive(Debug, Deserialize)]
struct LargeFile {
    sha256: Option<String>,
    size: Option<u64>,
}

impl From<RepoInfo> for Listing {
    fn from(info: RepoInfo) -> Self {
        let files = info.siblings.into_iter().filter(|file| is_path(&file.rfilename)).map(|file| {
            let lfs_size = file.lfs.as_ref().and_then(|lfs| lfs.size);
            let lfs_sha256 = file.lfs.and_then(|lfs| lfs.sha256);
            (file.rfilename, Entry { size: lfs_size.or(file.size), blob_id: file.blob_id, lfs_sha256 })
        });
        Self { format_version: FORMAT_VERSION, files: files.collect() }
    }
}

impl Listing {
    /// Parses a stored listing; `None` if it has another format.
    pub(super) fn parse(bytes: &[u8]) -> Option<Self> {
        let listing: Self = serde_json::from_slice(bytes).ok()?;
        let is_sound = listing.format_version == FORMAT_VERSION && listing.names().all(is_path);
        is_sound.then_some(listing)
    }

    /// Lists the files that are in `directory`, for a commit without a stored listing.
    pub(super) fn of_directory(directory: &Path) -> Option<Self> {
        let mut files = BTreeMap::new();
        let mut folders = vec![String::new()];
        while let Some(folder) = folders.pop() {
            for entry in fs_err::read_dir(directory.join(&folder)).ok()?.filter_map(Result::ok) {
                let Ok(name) = entry.file_name().into_string() else { continue };
                let name = format!("{folder}{name}");
                match fs_err::metadata(entry.path()) {
                    Ok(metadata) if metadata.is_dir() => folders.push(format!("{name}/")),
                    Ok(_) => drop(files.insert(name, Entry::default())),
                    Err(_) => {} // a link to a blob that no longer exists
                }
            }
        }
        Some(Self { format_version: FORMAT_VERSION, files })
    }

    /// Returns all names, sorted.
    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        self.files.keys().map(String::as_str)
    }

    pub(super) fn has(&self, name: &str) -> bool {
        self.files.contains_key(name)
    }

    pub(super) fn entry(&self, name: &str) -> Entry {
        self.files.get(name).cloned().unwrap_or_default()
    }

    /// Returns the names that equal `pattern` or match it.
    pub(super) fn matching(&self, pattern: &str) -> Vec<String> {
        if self.has(pattern) {
            return vec![pattern.to_owned()];
        }
        let Ok(pattern) = glob::Pattern::new(pattern) else { return Vec::new() };
        let options = glob::MatchOptions { require_literal_separator: true, ..glob::MatchOptions::default() };
        self.names().filter(|name| pattern.matches_with(name, options)).map(str::to_owned).collect()
    }
}
