//! The file system side: attempt directories, their commit into content-addressed checkpoints, leases, digests of files.
//!
//! ```text
//! runs/
//!   work/<key>/            one attempt directory per key that is being worked on (or was, and was interrupted)
//!     assignment.json      what the worker is to do ([`Assignment`]), written by the dispatcher
//!     key.json             what the key is the digest of
//!     lease.lock, .json    the lock of who works here, and who that is: host, boot id, process id
//!     events.jsonl         what happened (`event`), appended by the worker
//!     worker.log           the worker's stderr
//!     judge-spent-*.json   what the stage asked a judge so far, and what it cost
//!     resume/step-N/       resume points, each with a manifest.json written last; of a `command` stage, what its program likes
//!     parameters.json      what the program of a `command` stage is told
//!     out/                 the checkpoint in the making
//!   work/verify-.../       a directory like `runs/` of its own, in which `orchestrate verify` reruns a stage
//!   cache/<key>/           a committed checkpoint: out/ renamed, with key.json, events.jsonl and manifest.json; that of a
//!                          stage that samples has all its completions in completions.parquet
//!   judge-cache/           answers of judges and services, by the content of their requests (`rewards::judge`)
//!   quarantine/            checkpoints that failed verification
//!   digests.json           memo of file digests by (device, inode, size, mtime, ctime)
//!   history.db             SQLite index (`store`)
//!   log/<run>/             one run: run.jsonl (its events), recipes as they were
//! ```
//!
//! Commit: every file of `out/` is flushed to disk, `manifest.json` (SHA-256 of each) is written last, the directory is
//! renamed to `cache/<key>`, its parent flushed. A checkpoint is visible only whole.

mod assignment;
mod attempt;
mod digests;
mod error;
mod event_log;
mod fault;
mod lease;
mod manifest;
mod objects;

pub use assignment::{Assignment, DeviceChoice, Runtime};
pub use attempt::{Attempt, EventReader, JUDGE_CACHE, is_bookkeeping};
pub use digests::FileDigests;
pub use error::CacheError;
pub use event_log::{COMPLETIONS, EventLog};
pub use lease::{Lease, LeaseOwner, boot_id};
pub use manifest::{FileRecord, Manifest};
pub use objects::{Cache, Checkpoint, Lookup};

use std::io::Write as _;
use std::path::Path;

/// Writes a file whole or not at all: into a temporary file beside it, flushed, then renamed.
pub fn write_file(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    replace_file(path, bytes, true)?;
    sync_dir(path.parent().expect("a file lies in a directory"))
}

/// Writes a file that is whole for every process that reads it. When the machine's power fails it may be lost: enough for what is
/// written anew before it is read again, and many times as fast as flushing it.
fn write_volatile(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    replace_file(path, bytes, false)
}

fn replace_file(path: &Path, bytes: &[u8], is_flushed: bool) -> std::io::Result<()> {
    let name = path.file_name().expect("a file has a name").to_string_lossy();
    let part = path.with_file_name(format!(".{name}.{}.part", std::process::id()));
    let mut file = fs_err::File::create(&part)?;
    file.write_all(bytes)?;
    if is_flushed {
        file.sync_all()?;
    }
    fs_err::rename(&part, path)
}

/// Flushes a directory's entries to disk.
fn sync_dir(dir: &Path) -> std::io::Result<()> {
    fs_err::File::open(dir)?.sync_all()
}
