//! A repository's folder in the user's Hugging Face cache.

use super::error::HubError;
use super::listing::Listing;
use crate::recipe::{HubReference, HubRepoKind, is_commit};
use hf_hub::{Cache, CacheRepo, Repo, RepoType};
use std::fs::TryLockError;
use std::io;
use std::path::{Path, PathBuf};

/// The directory of commits' listings in a repository's folder. Python's listings (`trees`) are read too, but not
/// written: with one, Python would call a snapshot incomplete that holds only the needed files.
const LISTINGS: &str = ".listings";
const PYTHON_LISTINGS: &str = "trees";

/// A repository's folder: `models--OWNER--NAME`.
pub(super) struct Folder {
    /// The repository, as hf-hub names it.
    pub(super) repo: Repo,
    /// `OWNER/NAME`.
    pub(super) repo_id: String,
    cache: PathBuf,
    layout: CacheRepo,
}

impl Folder {
    pub(super) fn new(cache: &Path, reference: &HubReference) -> Self {
        let kind = match reference.kind {
            HubRepoKind::Model => RepoType::Model,
            HubRepoKind::Dataset => RepoType::Dataset,
        };
        let repo = Repo::with_revision(reference.repo.clone(), kind, reference.revision.clone());
        let layout = Cache::new(cache.to_owned()).repo(repo.clone());
        Self { repo, repo_id: reference.repo.clone(), cache: cache.to_owned(), layout }
    }

    pub(super) fn name(&self) -> String {
        self.repo.folder_name()
    }

    fn root(&self) -> PathBuf {
        self.cache.join(self.name())
    }

    pub(super) fn snapshot(&self, commit: &str) -> PathBuf {
        self.layout.pointer_path(commit)
    }

    pub(super) fn blob(&self, etag: &str) -> PathBuf {
        self.layout.blob_path(etag)
    }

    /// Returns the path of an incomplete blob. Older versions of Python's library continue it too.
    pub(super) fn partial(&self, etag: &str) -> PathBuf {
        self.layout.blob_path(&format!("{etag}.incomplete"))
    }

    /// Returns the commit of the branch or tag `revision` at the last lookup.
    pub(super) fn commit_of(&self, revision: &str) -> Option<String> {
        let text = fs_err::read_to_string(self.root().join("refs").join(revision)).ok()?;
        Some(text.trim().to_owned()).filter(|commit| is_commit(commit))
    }

    pub(super) fn save_ref(&self, revision: &str, commit: &str) -> io::Result<()> {
        if self.commit_of(revision).as_deref() == Some(commit) {
            return Ok(());
        }
        write_whole(&self.root().join("refs").join(revision), commit.as_bytes())
    }

    /// Returns the files of the commit, if they are known.
    pub(super) fn listing(&self, commit: &str) -> Option<Listing> {
        [LISTINGS, PYTHON_LISTINGS].iter().find_map(|folder| {
            let path = self.root().join(folder).join(format!("{commit}.json"));
            Listing::parse(&fs_err::read(path).ok()?)
        })
    }

    pub(super) fn save_listing(&self, commit: &str, listing: &Listing) -> io::Result<()> {
        if self.listing(commit).is_some() {
            return Ok(());
        }
        let text = serde_json::to_vec_pretty(listing).expect("names and numbers serialize");
        write_whole(&self.root().join(LISTINGS).join(format!("{commit}.json")), &text)
    }

    /// Takes the lock of a blob, the same one that `huggingface_hub` takes. Calls `on_wait` if another process holds
    /// it.
    pub(super) fn lock(&self, etag: &str, on_wait: impl FnOnce()) -> io::Result<fs_err::File> {
        let folder = self.cache.join(".locks").join(self.name());
        fs_err::create_dir_all(&folder)?;
        let lock = fs_err::OpenOptions::new().create(true).append(true).open(folder.join(format!("{etag}.lock")))?;
        match lock.file().try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                on_wait();
                lock.file().lock()?;
            }
            Err(TryLockError::Error(error)) => return Err(error),
        }
        Ok(lock)
    }

    /// Makes the blob `etag` the file `name` of the snapshot of `commit`, by a relative link.
    pub(super) fn link(&self, commit: &str, name: &str, etag: &str) -> Result<(), HubError> {
        let pointer = self.snapshot(commit).join(name);
        let parent = pointer.parent().unwrap_or(&pointer);
        fs_err::create_dir_all(parent)?;
        let up = "../".repeat(name.split('/').count() + 1);
        let temporary = parent.join(format!(".{etag}.{}", ulid::Ulid::generate()));
        fs_err::os::unix::fs::symlink(format!("{up}blobs/{etag}"), &temporary)?;
        fs_err::rename(&temporary, &pointer)?;
        Ok(())
    }
}

/// Writes a file atomically.
fn write_whole(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let parent = path.parent().unwrap_or(path);
    fs_err::create_dir_all(parent)?;
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let temporary = parent.join(format!(".{name}.{}", ulid::Ulid::generate()));
    fs_err::write(&temporary, bytes)?;
    fs_err::rename(&temporary, path)
}
