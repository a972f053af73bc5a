//! `hf://` with a server on loopback that implements the hub's routes: the library, and the real binary.

mod cli;
mod download;
mod paper;
mod refusals;
mod server;

use orchestrate::hub::{Hub, HubEnvironment, HubError, Snapshot};
use orchestrate::recipe::HubReference;
use server::Server;
use std::path::{Path, PathBuf};

/// A hub and an empty cache.
pub(crate) struct World {
    pub(crate) server: Server,
    directory: tempfile::TempDir,
}

impl World {
    pub(crate) fn new() -> Self {
        Self { server: Server::start(), directory: tempfile::tempdir().unwrap() }
    }

    pub(crate) fn cache(&self) -> &Path {
        self.directory.path()
    }

    /// Returns the folder of `owner/tiny` in the cache.
    pub(crate) fn folder(&self) -> PathBuf {
        self.cache().join("models--owner--tiny")
    }

    pub(crate) fn environment(&self) -> HubEnvironment {
        HubEnvironment {
            endpoint: self.server.url().parse().unwrap(),
            cache: self.cache().to_owned(),
            token: None,
            offline: false,
        }
    }

    /// Fetches the reference `text`, as a new process would.
    pub(crate) fn fetch(&self, text: &str) -> Result<Snapshot, HubError> {
        fetch(self.environment(), text)
    }
}

pub(crate) fn fetch(environment: HubEnvironment, text: &str) -> Result<Snapshot, HubError> {
    Hub::new(environment, |_| {}).snapshot(&HubReference::parse(text).unwrap())
}

/// Returns every file below `directory`, as relative paths.
pub(crate) fn files_below(directory: &Path) -> Vec<String> {
    let mut found = Vec::new();
    let mut folders = vec![directory.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs_err::read_dir(&folder).into_iter().flatten() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else {
                found.push(path.strip_prefix(directory).unwrap().display().to_string());
            }
        }
    }
    found.sort();
    found
}
