//! Resolves references to files in the Hugging Face cache.

use super::client::{Client, Failure};
use super::download::Download;
use super::download::HubStep;
use super::environment::HubEnvironment;
use super::error::HubError;
use super::folder::Folder;
use super::listing::Listing;
use crate::recipe::{HubReference, is_commit};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// A repository at a commit, on disk.
#[derive(Clone, Debug)]
pub struct Snapshot {
    /// `.../snapshots/COMMIT`.
    pub directory: PathBuf,
    /// The commit.
    pub commit: String,
    /// The requested files of a data set, sorted; empty for a model, which is the whole directory.
    pub files: Vec<PathBuf>,
    /// Why the hub was not asked for the revision's current commit; absent if it was, or if the revision is a commit.
    pub not_asked: Option<String>,
}

/// The hub, with the snapshots of this process: each reference is looked up once.
pub struct Hub<'a> {
    environment: HubEnvironment,
    client: Client,
    on_step: Box<dyn FnMut(HubStep<'_>) + 'a>,
    known: BTreeMap<HubReference, Result<Snapshot, HubError>>,
}

impl<'a> Hub<'a> {
    /// Creates the hub that `environment` names. `on_step` is called for each step of a download.
    pub fn new(environment: HubEnvironment, on_step: impl FnMut(HubStep<'_>) + 'a) -> Self {
        let client = Client::new(&environment);
        Self { environment, client, on_step: Box::new(on_step), known: BTreeMap::new() }
    }

    /// Returns the snapshot of `reference`, and downloads missing files.
    ///
    /// # Errors
    /// Missing files cannot be downloaded, the files are not a readable model, or they arrived damaged.
    pub fn snapshot(&mut self, reference: &HubReference) -> Result<Snapshot, HubError> {
        if let Some(known) = self.known.get(reference) {
            return known.clone();
        }
        let found = self.find(reference);
        self.known.insert(reference.clone(), found.clone());
        found
    }

    /// Returns the snapshots that were found so far, with their references.
    pub fn found(&self) -> impl Iterator<Item = (&HubReference, &Snapshot)> {
        self.known.iter().filter_map(|(reference, found)| Some((reference, found.as_ref().ok()?)))
    }

    fn find(&mut self, reference: &HubReference) -> Result<Snapshot, HubError> {
        let folder = Folder::new(&self.environment.cache, reference);
        if is_commit(&reference.revision)
            && let Some(snapshot) = whole(&folder, reference, &reference.revision, Evidence::Listing)
        {
            return Ok(snapshot);
        }
        if self.environment.offline {
            let reason = "HF_HUB_OFFLINE is set".to_owned();
            return cached(&folder, reference, reason).ok_or_else(|| HubError::Offline {
                wanted: format!("`{reference}`"),
                cache: self.environment.cache.display().to_string(),
                folder: folder.name(),
            });
        }
        match self.client.listing(&folder, reference) {
            Ok((commit, listing)) => self.bring(&folder, reference, commit, &listing),
            Err(Failure::Unreachable(reason)) => {
                let not_asked = format!("`{}` cannot be reached", self.client.host());
                cached(&folder, reference, not_asked).ok_or_else(|| self.unreachable(&folder, reference, reason))
            }
            Err(Failure::Hub(error)) => Err(*error),
        }
    }

    /// Downloads the missing files of `reference`.
    fn bring(
        &mut self,
        folder: &Folder,
        reference: &HubReference,
        commit: String,
        listing: &Listing,
    ) -> Result<Snapshot, HubError> {
        let directory = folder.snapshot(&commit);
        folder.save_listing(&commit, listing)?;
        let mut download =
            Download { client: &self.client, folder, reference, commit: &commit, on_step: &mut self.on_step };
        let mut fetch = |files: &[String]| match download.files(listing, files) {
            Ok(()) => Ok(()),
            Err(Failure::Hub(error)) => Err(*error),
            Err(Failure::Unreachable(reason)) => {
                let environment = &self.environment;
                Err(unreachable_error(environment, folder, reference, self.client.host(), reason))
            }
        };
        let files = if let Some(pattern) = &reference.file {
            let files = listing.matching(pattern);
            if files.is_empty() {
                let some = listing.names().take(8).map(str::to_owned).collect();
                return Err(HubError::NoFile { wanted: format!("`{reference}`"), some });
            }
            fetch(&files)?;
            files
        } else {
            super::model_files::check(&reference.repo, listing)?;
            fetch(&super::model_files::settings(listing))?;
            fetch(&super::model_files::weights(&reference.repo, listing, &directory)?)?;
            Vec::new()
        };
        if commit != reference.revision {
            folder.save_ref(&reference.revision, &commit)?;
        }
        let files = files.iter().map(|file| directory.join(file)).collect();
        Ok(Snapshot { directory, commit, files, not_asked: None })
    }

    fn unreachable(&self, folder: &Folder, reference: &HubReference, reason: String) -> HubError {
        unreachable_error(&self.environment, folder, reference, self.client.host(), reason)
    }
}

pub(super) fn unreachable_error(
    environment: &HubEnvironment,
    folder: &Folder,
    reference: &HubReference,
    host: String,
    reason: String,
) -> HubError {
    let cache = environment.cache.display().to_string();
    HubError::Unreachable { wanted: format!("`{reference}`"), host, reason, cache, folder: folder.name() }
}

/// The evidence that a snapshot is complete.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Evidence {
    /// The hub's listing of the commit: every file that would be fetched is present.
    Listing,
    /// The files that make a model are present. Python may have left out a file that it did not need.
    Files,
}

/// Returns the newest snapshot of `reference` in the cache, without asking the hub.
pub(super) fn cached(folder: &Folder, reference: &HubReference, reason: String) -> Option<Snapshot> {
    let commit =
        if reference.is_pinned() { reference.revision.clone() } else { folder.commit_of(&reference.revision)? };
    let snapshot = whole(folder, reference, &commit, Evidence::Files)?;
    Some(Snapshot { not_asked: (!reference.is_pinned()).then_some(reason), ..snapshot })
}

/// Returns the snapshot of `commit`, if every file that `reference` needs is present.
pub(super) fn whole(folder: &Folder, reference: &HubReference, commit: &str, evidence: Evidence) -> Option<Snapshot> {
    let directory = folder.snapshot(commit);
    let here = |files: &[String]| files.iter().all(|file| directory.join(file).is_file());
    let listing = folder.listing(commit);
    let listing = match (listing, evidence) {
        (Some(listing), _) => listing,
        (None, Evidence::Files) => Listing::of_directory(&directory)?,
        (None, Evidence::Listing) => return None,
    };
    let files = if let Some(pattern) = &reference.file {
        let files = listing.matching(pattern);
        (!files.is_empty() && here(&files)).then_some(files)?
    } else {
        super::model_files::check(&reference.repo, &listing).ok()?;
        let is_whole = here(&super::model_files::settings(&listing))
            && here(&super::model_files::weights(&reference.repo, &listing, &directory).ok()?);
        is_whole.then(Vec::new)?
    };
    let files = files.iter().map(|file| directory.join(file)).collect();
    Some(Snapshot { directory: directory.clone(), commit: commit.to_owned(), files, not_asked: None })
}

/// Returns the length of the file at `path` in bytes; 0 if it does not exist.
pub(super) fn length(path: &Path) -> u64 {
    fs_err::metadata(path).map_or(0, |metadata| metadata.len())
}
