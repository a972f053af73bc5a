//! Leases: at most one process works on a key.
//!
//! The arbiter is an advisory lock on `lease.lock`, which the kernel drops when its owner dies, however it dies; so a
//! dead owner's lease is free at once. `lease.json` beside it says who the owner is, for people.

use super::error::CacheError;
use super::write_volatile;
use chrono::{DateTime, Utc};
use rustix::fs::{FlockOperation, flock};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::path::Path;

/// Who works on a key.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LeaseOwner {
    /// Host name.
    pub host: String,
    /// Identity of the host's boot, so that a process id is not mistaken for one of before.
    pub boot_id: String,
    /// Process id.
    pub pid: u32,
    /// When the lease was taken.
    pub since: DateTime<Utc>,
}

impl fmt::Display for LeaseOwner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "process {} on {} (since {})", self.pid, self.host, self.since.format("%Y-%m-%d %H:%M:%S UTC"))
    }
}

impl LeaseOwner {
    /// This process.
    pub fn this_process() -> Self {
        Self {
            host: rustix::system::uname().nodename().to_string_lossy().into_owned(),
            boot_id: boot_id(),
            pid: std::process::id(),
            since: Utc::now(),
        }
    }
}

/// Identity of this boot of the machine; empty where the system does not tell.
pub fn boot_id() -> String {
    fs_err::read_to_string("/proc/sys/kernel/random/boot_id").map(|id| id.trim().to_owned()).unwrap_or_default()
}

/// The right to work on a key, until it is dropped or its process ends.
#[derive(Debug)]
pub struct Lease {
    _lock: fs_err::File,
}

impl Lease {
    /// Takes the lease of the attempt directory `dir`.
    ///
    /// # Errors
    /// [`CacheError::Leased`] with the owner when somebody has it.
    pub(super) fn acquire(dir: &Path) -> Result<Self, CacheError> {
        let lock = fs_err::OpenOptions::new().create(true).append(true).open(dir.join("lease.lock"))?;
        match flock(&lock, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(rustix::io::Errno::WOULDBLOCK) => {
                let owner = Self::owner(dir).unwrap_or_else(|| LeaseOwner {
                    host: "this or another host".to_owned(),
                    boot_id: String::new(),
                    pid: 0,
                    since: Utc::now(),
                });
                return Err(CacheError::Leased { owner });
            }
            Err(error) => return Err(std::io::Error::from(error).into()),
        }
        let text = serde_json::to_vec_pretty(&LeaseOwner::this_process()).expect("an owner serializes");
        write_volatile(&dir.join("lease.json"), &text)?;
        Ok(Self { _lock: lock })
    }

    /// Who took the lease of `dir` last, whether or not they still have it.
    pub(super) fn owner(dir: &Path) -> Option<LeaseOwner> {
        serde_json::from_slice(&fs_err::read(dir.join("lease.json")).ok()?).ok()
    }

    /// Who has the lease of `dir` now.
    pub(super) fn holder(dir: &Path) -> Option<LeaseOwner> {
        let lock = fs_err::File::open(dir.join("lease.lock")).ok()?;
        match flock(&lock, FlockOperation::NonBlockingLockShared) {
            Err(rustix::io::Errno::WOULDBLOCK) => Self::owner(dir),
            _ => None,
        }
    }
}
