//! Points at which tests make a process die or wait, to prove that nothing is lost or half-visible whenever that
//! happens. Without the variable `ORCHESTRATE_FAULT` they do nothing.

use rustix::process::{Signal, getpid, kill_process};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// `POINT` kills the process there as `kill -9` does; `hold:POINT:FILE` makes it write FILE when it first comes there, and wait
/// until somebody removes it.
pub const FAULT_VARIABLE: &str = "ORCHESTRATE_FAULT";

/// The points that a worker passes, in this order, each at least once on its way to a commit; but [`REPLACE_FAULT`].
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

/// Those of [`WORKER_FAULTS`] that a worker passes once its checkpoint is in the cache.
pub const COMMITTED_FAULTS: [&str; 4] =
    ["commit-before-sync", "commit-after-rename", "commit-in-cleanup", "commit-after-cleanup"];

/// Between the two renames by which a result is replaced where the file system cannot exchange two names at once. Asking for
/// it takes that way on any file system.
pub const REPLACE_FAULT: &str = "replace-between-renames";

/// No point: asking for it takes every file system for one whose locks other machines may hold unseen.
pub const NETWORK_FAULT: &str = "as-on-a-network";

/// The point after the end of a run is written down, before its results are shown.
pub const RUN_ENDED: &str = "run-ended";

/// The point that a run passes whenever it has looked at the lease of a stage that another process works on.
pub const LEASE_LOOKED_AT: &str = "lease-looked-at";

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

/// What [`FAULT_VARIABLE`] asks for.
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

/// Dies or waits here when [`FAULT_VARIABLE`] says so.
pub fn fault_point(name: &str) {
    static HELD: AtomicBool = AtomicBool::new(false);
    debug_assert!(
        [REPLACE_FAULT, RUN_ENDED, LEASE_LOOKED_AT].contains(&name)
            || WORKER_FAULTS.contains(&name)
            || DISPATCHER_FAULTS.contains(&name),
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

/// Whether [`FAULT_VARIABLE`] kills at this point.
pub fn is_asked_for(name: &str) -> bool {
    matches!(Fault::asked_for(), Some(Fault::Kill(point)) if point == name)
}
