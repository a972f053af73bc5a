//! From a reference to files in the Hugging Face cache.

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
    /// The files of a data set that were asked for, sorted; for a model none, as it is the whole directory.
    pub files: Vec<PathBuf>,
    /// Why the hub was not asked what the revision is now; absent if it was, or if the revision is a commit.
    pub not_asked: Option<String>,
}

/// The hub, as this process knows it: whatever is asked for twice is looked up once.
pub struct Hub<'a> {
    environment: HubEnvironment,
    client: Client,
    on_step: Box<dyn FnMut(HubStep<'_>) + 'a>,
    known: BTreeMap<HubReference, Result<Snapshot, HubError>>,
}

impl<'a> Hub<'a> {
    /// The hub that `environment` names; `on_step` hears of downloads.
    pub fn new(environment: HubEnvironment, on_step: impl FnMut(HubStep<'_>) + 'a) -> Self {
        let client = Client::new(&environment);
        Self { environment, client, on_step: Box::new(on_step), known: BTreeMap::new() }
    }

    /// What `reference` names, downloaded as far as it is not here.
    ///
    /// # Errors
    /// Not here and not to be had, no model that could be read, or damaged on the way.
    pub fn snapshot(&mut self, reference: &HubReference) -> Result<Snapshot, HubError> {
        if let Some(known) = self.known.get(reference) {
            return known.clone();
        }
        let found = self.find(reference);
        self.known.insert(reference.clone(), found.clone());
        found
    }

    /// What was found so far, each with what it was found for.
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

    /// Downloads what of `reference` is not here.
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

/// How much has to be known of a snapshot to call it whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Evidence {
    /// The hub's listing of the commit: every file that would be fetched is here.
    Listing,
    /// What makes a model is here; Python may have left out a file that it did not need.
    Files,
}

/// The newest state of `reference` that is here, without asking the hub.
pub(super) fn cached(folder: &Folder, reference: &HubReference, reason: String) -> Option<Snapshot> {
    let commit =
        if reference.is_pinned() { reference.revision.clone() } else { folder.commit_of(&reference.revision)? };
    let snapshot = whole(folder, reference, &commit, Evidence::Files)?;
    Some(Snapshot { not_asked: (!reference.is_pinned()).then_some(reason), ..snapshot })
}

/// The snapshot of `commit`, if all that `reference` needs of it is here.
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

/// The length of the file at `path`; 0 if there is none.
pub(super) fn length(path: &Path) -> u64 {
    fs_err::metadata(path).map_or(0, |metadata| metadata.len())
}
