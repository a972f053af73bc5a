//! The file system side: attempt directories, their commit into content-addressed checkpoints, leases, digests of files.
//!
//! ```text
//! runs/
//!   work/<key>/            one attempt directory per key that is being worked on (or was, and was interrupted)
//!     assignment.json      what the worker is to do ([`Assignment`]), written by the dispatcher
//!     key.json             what the key is the digest of
//!     lease.json           who works here: host, boot id, pid, process start time
//!     events.jsonl         what happened (`event`), appended by the worker
//!     worker.log           the worker's stderr
//!     resume/step-N/       resume points, each with a manifest.json written last
//!     out/                 the checkpoint in the making
//!   cache/<key>/           a committed checkpoint: out/ renamed, with key.json, events.jsonl and manifest.json
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
mod lease;
mod manifest;
mod objects;

pub use assignment::{Assignment, DeviceChoice, Runtime};
pub use attempt::Attempt;
pub use digests::FileDigests;
pub use lease::{Lease, LeaseOwner};
pub use manifest::Manifest;
pub use objects::{Cache, CacheError, Checkpoint};
