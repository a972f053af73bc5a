//! Removes chosen items in such a way that a run which begins meanwhile does not miss them.
//!
//! A run records the keys that it plans to use while it shares `gc.lock`. The collector holds the lock exclusively from
//! reading those plans until all chosen items are renamed into `runs/trash/`. So a run is either seen as live, or finds
//! the item missing at its lookup and makes it again. The trash is emptied after the lock is released, because that may
//! take long.

use super::attempt::remove_dir;
use super::error::WorkspaceError;
use super::lease::Lease;
use super::objects::{CACHE, TRASH, Workspace};
use super::retention::{Removal, place};
use rustix::fs::{FlockOperation, flock};
use std::io::ErrorKind;
use std::path::Path;

const LOCK: &str = "gc.lock";

/// A lock that prevents runs from beginning, or the collector from choosing, until it is dropped.
#[derive(Debug)]
pub struct CollectionLock {
    _file: fs_err::File,
}

impl Workspace {
    /// Locks for a run that is about to record the keys it plans to use. Waits until no collector is choosing.
    pub fn lock_for_planning(&self) -> Result<CollectionLock, WorkspaceError> {
        self.collection_lock(FlockOperation::LockShared)
    }

    /// Locks for the collector. Waits until no run is writing its plan.
    pub fn lock_for_removal(&self) -> Result<CollectionLock, WorkspaceError> {
        self.collection_lock(FlockOperation::LockExclusive)
    }

    fn collection_lock(&self, operation: FlockOperation) -> Result<CollectionLock, WorkspaceError> {
        let file = fs_err::OpenOptions::new().create(true).append(true).open(self.root().join(LOCK))?;
        flock(&file, operation).map_err(std::io::Error::from)?;
        Ok(CollectionLock { _file: file })
    }

    /// Renames the item into the trash. Returns false if it has gone already, or if a process has begun to work on it.
    pub fn throw_away(&self, _lock: &CollectionLock, removal: &Removal) -> Result<bool, WorkspaceError> {
        let place = place(removal, &self.root().join(CACHE));
        let attempt = match removal {
            Removal::Checkpoint { checkpoint, .. } => Some(self.attempt_dir(&checkpoint.key)),
            Removal::Leftover { leftover, .. } => leftover.key.as_ref().map(|key| self.attempt_dir(key)),
        };
        if attempt.is_some_and(|dir| Lease::is_held(&dir)) {
            return Ok(false);
        }
        if place.starts_with(self.root().join(TRASH)) {
            return Ok(true);
        }
        self.move_to_trash(&place)
    }

    /// Renames the directory of a run's log into the trash. Returns false if it has gone already.
    pub fn throw_away_log(&self, _lock: &CollectionLock, log_dir: &Path) -> Result<bool, WorkspaceError> {
        self.move_to_trash(log_dir)
    }

    fn move_to_trash(&self, place: &Path) -> Result<bool, WorkspaceError> {
        let trash = self.root().join(TRASH);
        fs_err::create_dir_all(&trash)?;
        let name = place.file_name().expect("what goes has a name").to_string_lossy();
        match fs_err::rename(place, trash.join(format!("{name}-{}", ulid::Ulid::generate()))) {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    /// Deletes the content of the trash, including that of interrupted removals.
    pub fn empty_trash(&self) -> Result<(), WorkspaceError> {
        remove_dir(&self.root().join(TRASH))
    }
}
