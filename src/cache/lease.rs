//! Leases: at most one process works on a key.
//!
//! The arbiter is an advisory lock on `lease.lock`, which the kernel drops when its owner dies, however it dies; so a
//! dead owner's lease is free at once. `lease.json` beside it says who the owner is, for people.

use super::error::CacheError;
use super::fault::fault_point;
use super::write_volatile;
use chrono::{DateTime, Utc};
use rustix::fs::{FlockOperation, flock};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::fs::Metadata;
use std::io::ErrorKind;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::time::Duration;

const LOCK: &str = "lease.lock";

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
        let lock = loop {
            // whoever commits moves the directory away, perhaps between here and the lock
            fs_err::create_dir_all(dir)?;
            let lock = match fs_err::OpenOptions::new().create(true).append(true).open(dir.join(LOCK)) {
                Err(error) if error.kind() == ErrorKind::NotFound => continue,
                opened => opened?,
            };
            if !lock_exclusively(&lock)? {
                return Err(CacheError::Leased { owner: Self::owner(dir) });
            }
            if fs_err::metadata(dir.join(LOCK)).is_ok_and(|there| is_same(&there, &lock)) {
                break lock;
            }
        };
        let text = serde_json::to_vec_pretty(&LeaseOwner::this_process()).expect("an owner serializes");
        write_volatile(&dir.join("lease.json"), &text)?;
        fault_point("lease-taken");
        Ok(Self { _lock: lock })
    }

    /// Who took the lease of `dir` last, whether or not they still have it.
    fn owner(dir: &Path) -> LeaseOwner {
        let owner = fs_err::read(dir.join("lease.json")).ok().and_then(|bytes| serde_json::from_slice(&bytes).ok());
        owner.unwrap_or_else(|| LeaseOwner {
            host: "this or another host".to_owned(),
            boot_id: String::new(),
            pid: 0,
            since: Utc::now(),
        })
    }

    /// Whether somebody has the lease of `dir` now.
    pub(super) fn is_held(dir: &Path) -> bool {
        fs_err::File::open(dir.join(LOCK))
            .is_ok_and(|lock| flock(&lock, FlockOperation::NonBlockingLockShared) == Err(rustix::io::Errno::WOULDBLOCK))
    }

    /// Who has the lease of `dir` now.
    pub(super) fn holder(dir: &Path) -> Option<LeaseOwner> {
        Self::is_held(dir).then(|| Self::owner(dir))
    }
}

/// False when somebody else has the lock. Those who only look whether it is taken have it for a moment, so it is tried a few
/// times.
fn lock_exclusively(lock: &fs_err::File) -> std::io::Result<bool> {
    for pause_ms in [1, 5, 20, 50, 0] {
        match flock(lock, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => return Ok(true),
            Err(rustix::io::Errno::WOULDBLOCK) => std::thread::sleep(Duration::from_millis(pause_ms)),
            Err(error) => return Err(error.into()),
        }
    }
    Ok(false)
}

fn is_same(there: &Metadata, lock: &fs_err::File) -> bool {
    lock.metadata().is_ok_and(|here| (here.dev(), here.ino()) == (there.dev(), there.ino()))
}
