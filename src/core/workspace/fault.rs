//! Fault points, at which tests kill or hold a process to prove that no result is lost or partly visible. Without the
//! variable `ORCHESTRATE_FAULT` they have no effect.

use rustix::process::{Signal, getpid, kill_process};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// The environment variable that selects a fault. `POINT` kills the process there as `kill -9` does. `hold:POINT:FILE`
/// makes the process write FILE when it first reaches the point, and wait until FILE is removed.
pub const FAULT_VARIABLE: &str = "ORCHESTRATE_FAULT";

/// The points that a worker passes, in this order, each at least once on its way to a commit. [`REPLACE_FAULT`] is
/// not among them.
pub const WORKER_FAULTS: [&str; 13] = [
    "lease-taken",
    "inputs-checked",
    "inputs-read",
    "resume-before-manifest",
    "resume-before-rename",
    "resume-after-rename",
    "commit-before-record",
    "commit-before-manifest",
    "commit-before-rename",
    "commit-before-sync",
    "commit-after-rename",
    "commit-in-cleanup",
    "commit-after-cleanup",
];

/// The points of [`WORKER_FAULTS`] that a worker passes once its checkpoint is in the cache.
pub const COMMITTED_FAULTS: [&str; 4] =
    ["commit-before-sync", "commit-after-rename", "commit-in-cleanup", "commit-after-cleanup"];

/// The point between the two renames that replace a result where the file system cannot exchange two names at once.
/// Selecting it forces the two renames on any file system.
pub const REPLACE_FAULT: &str = "replace-between-renames";

/// A pseudo-point: selecting it treats every file system as a network file system, whose locks other machines may hold
/// unseen.
pub const NETWORK_FAULT: &str = "as-on-a-network";

/// The point after the end of a run is recorded and before its results are shown.
pub const RUN_ENDED: &str = "run-ended";

/// The point that a run passes whenever it has checked the lease of a stage on which another process works.
pub const LEASE_LOOKED_AT: &str = "lease-looked-at";

/// The point after an evaluation has kept the answers of a batch and before it rates them.
pub const ANSWERS_KEPT: &str = "answers-kept";

/// The start of the names of the points within a step. The number of the step, from 1, follows, as in `within-step-2`.
/// A worker passes the point before each token of the step's rollout and before each of its micro-batches.
pub const WITHIN_STEP: &str = "within-step-";

/// The points that the process of `orchestrate run` passes for a stage, in this order.
pub const DISPATCHER_FAULTS: [&str; 8] = [
    "run-before-plan",
    "run-planned",
    "prepare-before-key",
    "prepare-before-assignment",
    "prepare-done",
    "worker-started",
    "stage-before-record",
    "stage-recorded",
];

/// The fault that [`FAULT_VARIABLE`] selects.
enum Fault {
    Kill(String),
    Hold { point: String, file: PathBuf },
}

impl Fault {
    fn asked_for() -> Option<Self> {
        let text = std::env::var(FAULT_VARIABLE).ok()?;
        let Some(hold) = text.strip_prefix("hold:") else { return Some(Self::Kill(text)) };
        let (point, file) = hold.split_once(':')?;
        Some(Self::Hold { point: point.to_owned(), file: file.into() })
    }
}

/// Kills or holds the process if [`FAULT_VARIABLE`] selects this point.
pub fn fault_point(name: &str) {
    static HELD: AtomicBool = AtomicBool::new(false);
    debug_assert!(
        [REPLACE_FAULT, RUN_ENDED, LEASE_LOOKED_AT, ANSWERS_KEPT].contains(&name)
            || WORKER_FAULTS.contains(&name)
            || DISPATCHER_FAULTS.contains(&name)
            || name.starts_with(WITHIN_STEP),
        "`{name}` is not listed"
    );
    match Fault::asked_for() {
        Some(Fault::Kill(point)) if point == name => {
            kill_process(getpid(), Signal::KILL).expect("a process may signal itself");
        }
        Some(Fault::Hold { point, file }) if point == name && !HELD.swap(true, Ordering::Relaxed) => {
            fs_err::write(&file, b"").expect("who asks for a fault names a file that can be written");
            while file.exists() {
                std::thread::sleep(Duration::from_millis(5));
            }
        }
        _ => {}
    }
}

/// Kills or holds the process within `step` if [`FAULT_VARIABLE`] selects that point.
pub fn fault_within_step(step: u64) {
    if std::env::var_os(FAULT_VARIABLE).is_some() {
        fault_point(&format!("{WITHIN_STEP}{step}"));
    }
}

/// Whether [`FAULT_VARIABLE`] selects a kill at this point.
pub fn is_asked_for(name: &str) -> bool {
    matches!(Fault::asked_for(), Some(Fault::Kill(point)) if point == name)
}
