//! The run directory: attempts at stages, their commit into content-addressed checkpoints, leases, digests of files, what is removed.
//!
//! ```text
//! runs/
//!   work/<key>/            one attempt directory per key that is being worked on (or was, and was interrupted)
//!     assignment.json      what the worker is to do ([`Assignment`]), written by the dispatcher
//!     key.json             what the key is the digest of
//!     lease.lock, .json    the lock of who works here, and who that is: host, boot id, process id
//!     events.jsonl         what happened (`event`), appended by the worker
//!     worker.log           the worker's stderr
//!     exit-*.json          how a worker ended that committed nothing, one file for each ([`Job`])
//!     judge-spent-*.json   what the stage asked a judge so far, and what it cost
//!     resume/step-N/       resume points, each with a manifest.json written last; of a `command` stage, what its program likes
//!     parameters.json      the inputs of a `command` stage's program
//!     out/                 the checkpoint in the making; out-N/ in the N-th try of a `command` stage
//!     replace              present: the result takes the place of the one in the cache (`run --force`)
//!   work/verify-.../       a directory like `runs/` of its own, in which `orchestrate verify` reruns a stage
//!   cache/<key>/           a committed checkpoint: out/ renamed, with key.json, events.jsonl and manifest.json; that of a
//!                          stage that samples has all its completions in completions.parquet
//!   judge-cache/           answers of judges and services, by the content of their requests (`rewards::judge`)
//!   arena-answers/         answers of an arena's players, by all that they depend on
//!   quarantine/            checkpoints that failed verification, attempts whose events cannot be read
//!   inputs/<digest>.json   what files were called and digests of their rows, to tell what changed ([`InputRecord`])
//!   pins/<key>.json        a checkpoint that `cache gc` keeps, and why
//!   trash/                 what `cache gc` is about to remove
//!   gc.lock                keeps runs from beginning while it chooses
//!   digests.json           memo of file digests by (device, inode, size, mtime, ctime)
//!   inspected.json         memo of models and data that a worker found good, by their digests
//!   timings.jsonl          memo of how long stages took, by which the longest chain is started first
//!   history.db             SQLite index (`store`)
//!   log/<run>/             one run
//!     run.jsonl            what happened in it (`run_event`), appended by the dispatcher
//!     invocation.json      what it was asked: recipes, overrides, selection
//!     plan.json            its stages as they were planned, with their keys
//!     recipes/             its recipes as they were
//!     lock                 held while the run lives
//! ```
//!
//! # The protocol, step by step
//!
//! What a crash (`kill -9`, power) leaves after each step, and what then happens. All steps but 2, which changes nothing else,
//! and 6 have points in [`fault_point`], before, after or inside; `tests/cli/faults` kills the worker and the dispatcher at every
//! one, and `resume` ends with the digests of an undisturbed run.
//!
//! | # | who | step | what a crash right after it leaves |
//! |--:|---|---|---|
//! | 1 | dispatcher | shares `gc.lock`, writes `log/<run>/`: invocation, plan, `run_started` | a run that counts as interrupted; before its first event is written: no run |
//! | 2 | dispatcher | looks each key up; reads those whole that a stage of this run starts from | nothing new; a damaged one is in `quarantine/` and runs again |
//! | 3 | dispatcher | makes `work/<key>/`, writes `key.json`, then `assignment.json` | an attempt without or with an assignment, which the next dispatcher writes again |
//! | 4 | dispatcher | starts the worker | a worker that finds its supervisor gone, writes a resume point and ends; a new run waits for its lease |
//! | 5 | worker | locks `lease.lock`, writes `lease.json` | a free lease: the kernel drops the lock; `lease.json` names a dead process and is not believed. A program of a `command` stage keeps the lock until it is ended too |
//! | 6 | worker | appends to `events.jsonl` | perhaps half a line, which the next worker cuts off |
//! | 7 | worker | fills `resume/.step-N.part/`, flushes it, writes its manifest | the resume points of before; the part is removed |
//! | 8 | worker | renames it to `resume/step-N/`, flushes `resume/` | the new resume point |
//! | 9 | worker | fills `out/`, adds events, log and `record.json` | a part of `out/`, which is made again after the last resume point |
//! | 10 | worker | flushes every file of `out/`, writes `manifest.json` last | a whole `out/` that is not visible: removed and made again |
//! | 11 | worker | renames `out/` to `cache/<key>/`, flushes `cache/` | the result; the attempt is a leftover for `gc` |
//! | 12 | worker | renames `work/<key>/` to `work/.<key>-<pid>/`, removes it | the result; what stays of the directory is a leftover |
//! | 13 | dispatcher | looks the key up again, writes `stage_done`, then the database | the result, which the next run finds; the database lacks what the log has |
//!
//! With `run --force`, step 3 also writes `work/<key>/replace`, and step 11 exchanges the two names at once, so that there is
//! always one of the two results, whole. Where a file system cannot exchange names, the old result is renamed to
//! `work/<key>/replaced/` before the new one is renamed into its place; a lookup that finds neither in the cache puts the old
//! one back. `resume` runs forced stages again that the log does not call done.
//!
//! A worker reads its inputs between steps 5 and 7. It compares them with the digests of the plan before and after
//! ([`PlannedInputs`]), and fails where they differ: a result is made from what its key names.
//!
//! A checkpoint is visible only whole. Every lookup compares the sizes of its files with the manifest; `cache verify`, and a run
//! before a stage starts from it, every byte. What differs is moved to `quarantine/`, never served.
//!
//! Of two processes that want one key, the one whose worker has the lease runs it; the other waits, and takes over when the lease
//! falls free without a result. No decision here depends on a clock; ages, for `gc`, count a time in the future as now.

mod assignment;
mod attempt;
mod digests;
mod error;
mod event_log;
mod fault;
mod inputs;
mod inspected;
mod inventory;
mod job;
mod lease;
mod manifest;
mod objects;
mod pins;
mod planned_inputs;
mod removal;
mod retention;
mod verification;
mod write_file;

pub use assignment::{Assignment, DeviceChoice, Runtime};
pub use attempt::{Attempt, EventReader, JUDGE_CACHE, Meters, SUPERVISOR_VARIABLE, is_bookkeeping, supervisor};
pub use digests::FileDigests;
pub use error::{WorkspaceError, io_hint};
pub use event_log::{COMPLETIONS, EventLog};
pub use fault::{
    COMMITTED_FAULTS, DISPATCHER_FAULTS, FAULT_VARIABLE, LEASE_LOOKED_AT, NETWORK_FAULT, REPLACE_FAULT, RUN_ENDED,
    WORKER_FAULTS, fault_point, is_asked_for,
};
pub use inputs::InputRecord;
pub use inspected::{Inspected, inspection_key};
pub use inventory::{Leftover, LeftoverKind, StoredCheckpoint};
pub use job::{Ending, JOB_VARIABLE, Job};
pub use lease::{Lease, LeaseOwner, lease_holders, lease_owner};
pub use manifest::{FileRecord, Manifest};
pub use objects::{Checkpoint, Lookup, Workspace};
pub use pins::Pin;
pub use planned_inputs::PlannedInputs;
pub use removal::CollectionLock;
pub use retention::{Need, Needs, Policy, Removal, RemovalChoice, choose};
pub use write_file::write_file;

use write_file::{sync_dir, write_volatile};
