//! Leases, which ensure that at most one process works on a key.
//!
//! An advisory lock on `lease.lock` decides. The kernel releases it when the last process that holds it ends. The
//! worker of a `command` stage shares the lock with its program, so that a program that outlives its worker keeps the
//! lease. `lease.json` beside it names the owner, for users.

use super::error::WorkspaceError;
use super::fault::fault_point;
use super::write_volatile;
use crate::host::FileLock;
use crate::host::boot_id;
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::io::{self, ErrorKind};
use std::path::Path;

const LOCK: &str = "lease.lock";

/// The owner of a lease.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LeaseOwner {
    /// The host name.
    pub host: String,
    /// The id of the host's boot, by which process ids of different boots are distinguished.
    pub boot_id: String,
    /// The process id.
    pub pid: u32,
    /// The time when the lease was taken.
    pub since: DateTime<Utc>,
}

impl fmt::Display for LeaseOwner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "process {} on {} (since {})", self.pid, self.host, self.since.format("%Y-%m-%d %H:%M:%S UTC"))
    }
}

impl LeaseOwner {
    /// Returns this process as an owner.
    pub fn this_process() -> Self {
        Self {
            host: rustix::system::uname().nodename().to_string_lossy().into_owned(),
            boot_id: boot_id(),
            pid: std::process::id(),
            since: Utc::now(),
        }
    }
}

/// The right to work on a key, until it is dropped or the last process that holds it ends.
#[derive(Debug)]
pub struct Lease(FileLock);

impl Lease {
    /// Takes the lease of the attempt directory `dir`.
    ///
    /// # Errors
    /// [`WorkspaceError::Leased`] with the owner when another process has it.
    pub(super) fn acquire(dir: &Path) -> Result<Self, WorkspaceError> {
        let lock = loop {
            // A process that commits moves the directory away, possibly between this line and the lock.
            fs_err::create_dir_all(dir)?;
            let file = match fs_err::OpenOptions::new().create(true).append(true).open(dir.join(LOCK)) {
                Err(error) if error.kind() == ErrorKind::NotFound => continue,
                opened => opened?,
            };
            let Some(lock) = FileLock::try_exclusive(file)? else {
                return Err(WorkspaceError::Leased { owner: Self::owner(dir) });
            };
            if lock.is_at(&dir.join(LOCK)) {
                break lock;
            }
        };
        let text = serde_json::to_vec_pretty(&LeaseOwner::this_process()).expect("an owner serializes");
        write_volatile(&dir.join("lease.json"), &text)?;
        fault_point("lease-taken");
        Ok(Self(lock))
    }

    /// Shares the lease with every process that this one starts from now on.
    pub fn share_with_children(&self) -> io::Result<()> {
        self.0.share_with_children()
    }

    /// Returns the last owner of the lease of `dir`, whether or not it still holds the lease.
    fn owner(dir: &Path) -> LeaseOwner {
        let owner = fs_err::read(dir.join("lease.json")).ok().and_then(|bytes| serde_json::from_slice(&bytes).ok());
        owner.unwrap_or_else(|| LeaseOwner {
            host: "this or another host".to_owned(),
            boot_id: String::new(),
            pid: 0,
            since: Utc::now(),
        })
    }

    /// Whether a process holds the lease of `dir`.
    pub(super) fn is_held(dir: &Path) -> bool {
        FileLock::is_held(&dir.join(LOCK))
    }
}

/// Returns the processes of this machine that hold the lease of the attempt directory `dir` ([`FileLock::holders`]):
/// its worker, and the program of a `command` stage.
pub fn lease_holders(dir: &Path) -> Vec<u32> {
    FileLock::holders(&dir.join(LOCK))
}

/// Returns the owner of the lease of the attempt directory `dir`, or `None` when no process holds it.
pub fn lease_owner(dir: &Path) -> Option<LeaseOwner> {
    Lease::is_held(dir).then(|| Lease::owner(dir))
}
