//! Pins: checkpoints that `cache gc` never removes under any policy. Each has a file `runs/pins/<key>.json`, so that
//! two processes that pin at the same time do not overwrite each other's pins.

use super::error::WorkspaceError;
use super::objects::Workspace;
use super::write_file;
use crate::digest::Digest;
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::path::PathBuf;

pub(super) const PINS: &str = "pins";

/// The reason and the time of a pin.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Pin {
    /// The user's note.
    pub note: Option<String>,
    /// The time when the checkpoint was pinned.
    pub at: DateTime<Utc>,
}

impl Workspace {
    /// Pins `key`. An existing pin gets the new note.
    pub fn pin(&self, key: &Digest, note: Option<String>) -> Result<(), WorkspaceError> {
        let path = self.pin_path(key);
        fs_err::create_dir_all(path.parent().expect("a pin lies in a directory"))?;
        let text = serde_json::to_vec_pretty(&Pin { note, at: Utc::now() }).expect("a pin serializes");
        Ok(write_file(&path, &text)?)
    }

    /// Removes the pin of `key`. Returns false if there was none.
    pub fn unpin(&self, key: &Digest) -> Result<bool, WorkspaceError> {
        match fs_err::remove_file(self.pin_path(key)) {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    /// Returns all pins.
    ///
    /// # Errors
    /// A pin that cannot be read: ignoring it could cost a result.
    pub fn pins(&self) -> Result<BTreeMap<Digest, Pin>, WorkspaceError> {
        let entries = match fs_err::read_dir(self.root().join(PINS)) {
            Ok(entries) => entries,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(BTreeMap::new()),
            Err(error) => return Err(error.into()),
        };
        let mut pins = BTreeMap::new();
        for entry in entries {
            let path = entry?.path();
            let name = path.file_name().and_then(|name| name.to_str()).and_then(|name| name.strip_suffix(".json"));
            let Some(key) = name.and_then(Digest::parse) else { continue };
            let bytes = fs_err::read(&path)?;
            let pin = serde_json::from_slice(&bytes).map_err(|source| WorkspaceError::Malformed { path, source })?;
            pins.insert(key, pin);
        }
        Ok(pins)
    }

    fn pin_path(&self, key: &Digest) -> PathBuf {
        self.root().join(PINS).join(format!("{}.json", key.as_str()))
    }
}
