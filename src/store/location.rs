//! The location of the database. It must not be on a network file system: SQLite's locks and its shared memory do not
//! work there, and the database is damaged sooner or later (<https://sqlite.org/faq.html#q5>,
//! <https://sqlite.org/wal.html>).

use super::StoreError;
use crate::host::network_file_system;
use std::path::{Path, PathBuf};

/// Names the database's file instead of `runs/history.db`.
pub const DATABASE_VARIABLE: &str = "ORCHESTRATE_DB";

/// Returns the path of the database for the run directory `runs`.
///
/// # Errors
/// [`StoreError::Network`] if the path is on a network file system.
pub fn database_path(runs: &Path) -> Result<PathBuf, StoreError> {
    let named = std::env::var_os(DATABASE_VARIABLE).filter(|value| !value.is_empty());
    let path = named.map_or_else(|| runs.join("history.db"), PathBuf::from);
    match network_file_system(&path) {
        Some(kind) => Err(StoreError::Network { path, kind }),
        None => Ok(path),
    }
}
