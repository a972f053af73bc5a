//! The run directory: attempts at stages, their commit as content-addressed checkpoints, leases, digests of files, and
//! the removal of what is unused.
//!
//! ```text
//! runs/
//!   work/<key>/            one attempt directory per key that is, or was until an interruption, worked on
//!     assignment.json      the worker's instructions ([`Assignment`]), written by the dispatcher
//!     key.json             the document whose digest is the key
//!     lease.lock, .json    the lock of the process that works here, and its name: host, boot id, process id
//!     events.jsonl         the events (`event`), appended by the worker
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
//!   arena-answers/         answers of an arena's players, by everything they depend on
//!   eval-answers/<digest>/ of a model's evaluations: answers, likelihoods and values of components ([`Kept`]), and of.json
//!   quarantine/            checkpoints that failed verification, attempts whose events cannot be read
//!   inputs/<digest>.json   names of files and digests of their rows, to explain changes ([`InputRecord`])
//!   pins/<key>.json        a checkpoint that `cache gc` keeps, and the reason
//!   trash/                 directories that `cache gc` is about to remove
//!   gc.lock                prevents runs from starting while `cache gc` chooses
//!   digests.json           memo of file digests by (device, inode, size, mtime, ctime)
//!   inspected.json         memo of models and data that a worker inspected successfully, by their digests
//!   overlaps.json          memo of comparisons of training data with evaluation sets, by their digests
//!   timings.jsonl          memo of the durations of stages, by which the longest chain is started first
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
//! The table lists what a crash (`kill -9`, power) leaves after each step, and what happens then. All steps except 2,
//! which only reads, and 6 have points in [`fault_point`], before, after or inside. `tests/cli/faults` kills the worker
//! and the dispatcher at every point, and `resume` ends with the digests of an undisturbed run.
//!
//! | # | process | step | what a crash directly after it leaves |
//! |--:|---|---|---|
//! | 1 | dispatcher | shares `gc.lock`, writes `log/<run>/`: invocation, plan, `run_started` | an interrupted run; no run before its first event is written |
//! | 2 | dispatcher | looks each key up; reads all bytes of those from which a stage of this run starts | nothing new; a damaged one is in `quarantine/` and runs again |
//! | 3 | dispatcher | makes `work/<key>/`, writes `key.json`, then `assignment.json` | an attempt with or without an assignment, which the next dispatcher writes again |
//! | 4 | dispatcher | starts the worker | a worker that detects the end of its supervisor, writes a resume point and ends; a new run waits for its lease |
//! | 5 | worker | locks `lease.lock`, writes `lease.json` | a free lease: the kernel releases the lock, and `lease.json`, which names a dead process, is ignored. A program of a `command` stage keeps the lock until it ends too |
//! | 6 | worker | appends to `events.jsonl` | possibly an incomplete line, which the next worker removes |
//! | 7 | worker | fills `resume/.step-N.part/`, flushes it, writes its manifest | the earlier resume points; the part is removed |
//! | 8 | worker | renames it to `resume/step-N/`, flushes `resume/` | the new resume point |
//! | 9 | worker | fills `out/`, adds events, log and `record.json` | a part of `out/`, which is made again after the last resume point |
//! | 10 | worker | flushes every file of `out/`, writes `manifest.json` last | a complete `out/` that is not visible; it is removed and made again |
//! | 11 | worker | renames `out/` to `cache/<key>/`, flushes `cache/` | the result; the attempt is a leftover for `gc` |
//! | 12 | worker | renames `work/<key>/` to `work/.<key>-<pid>/`, removes it | the result; the rest of the directory is a leftover |
//! | 13 | dispatcher | looks the key up again, writes `stage_done`, then the database | the result, which the next run finds; the database lacks entries of the log |
//!
//! With `run --force`, step 3 also writes `work/<key>/replace`, and step 11 exchanges the two names at once. There is
//! always one of the two results, and it is complete. Where a file system cannot exchange names, the old result is
//! renamed to `work/<key>/replaced/` before the new one is renamed into its place. A lookup that finds neither in the
//! cache puts the old one back. `resume` again runs forced stages that are not done according to the log.
//!
//! A worker reads its inputs between steps 5 and 7. It compares them with the digests of the plan before and after
//! ([`PlannedInputs`]), and fails where they differ. So a result is made from the inputs that its key names.
//!
//! A checkpoint is visible only when complete. Every lookup compares the sizes of its files with the manifest.
//! `cache verify`, and a run before a stage starts from the checkpoint, compare every byte. A damaged checkpoint is
//! moved to `quarantine/`, never served.
//!
//! Of two processes that need one key, the one whose worker has the lease runs it. The other waits, and takes over when
//! the lease is released without a result. No decision here depends on a clock. For `gc`, a time in the future has age
//! zero.

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
mod kept;
mod lease;
mod manifest;
mod objects;
mod overlaps;
mod pins;
mod planned_inputs;
mod removal;
mod retention;
mod verification;
mod write_file;

pub use assignment::{Assignment, DeviceChoice, Runtime, SnapshotAssignment};
pub use attempt::{Attempt, EventReader, JUDGE_CACHE, Meters, SUPERVISOR_VARIABLE, is_bookkeeping, supervisor};
pub use digests::FileDigests;
pub use error::{WorkspaceError, io_hint};
pub use event_log::{COMPLETIONS, EventLog};
pub use fault::{
    ANSWERS_KEPT, COMMITTED_FAULTS, DISPATCHER_FAULTS, FAULT_VARIABLE, LEASE_LOOKED_AT, NETWORK_FAULT, REPLACE_FAULT,
    RUN_ENDED, WITHIN_STEP, WORKER_FAULTS, fault_point, fault_within_step, is_asked_for,
};
pub use inputs::InputRecord;
pub use inspected::{Inspected, inspection_key};
pub use inventory::{Leftover, LeftoverKind, StoredCheckpoint};
pub use job::{Ending, JOB_VARIABLE, Job};
pub use kept::{KEPT_OF, Kept, NO_MODEL, loaded_no_model};
pub use lease::{Lease, LeaseOwner, lease_holders, lease_owner};
pub use manifest::{FileRecord, Manifest};
pub use objects::{Checkpoint, Lookup, Workspace};
pub use overlaps::Overlaps;
pub use pins::Pin;
pub use planned_inputs::PlannedInputs;
pub use removal::CollectionLock;
pub use retention::{Need, Needs, Policy, Removal, RemovalChoice, choose};
pub use write_file::write_file;

use write_file::{sync_dir, write_volatile};
