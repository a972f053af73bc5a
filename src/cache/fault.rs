//! Points at which tests make a process die or stand still, to prove that nothing is lost or half-visible whenever that
//! happens. Without the variable `ORCHESTRATE_FAULT` they do nothing.

use rustix::process::{Signal, getpid, kill_process};

/// `POINT` kills the process there as `kill -9` does; `stop:POINT` stops it there until it gets SIGCONT.
pub const FAULT_VARIABLE: &str = "ORCHESTRATE_FAULT";

/// The points that a worker passes, in this order, each at least once on its way to a commit; but [`REPLACE_FAULT`].
pub const WORKER_FAULTS: [&str; 11] = [
    "lease-taken",
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

/// Between the two renames by which a result is replaced where the file system cannot exchange two names at once. Asking for
/// it takes that way on any file system.
pub const REPLACE_FAULT: &str = "replace-between-renames";

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

/// Dies or stands still here when [`FAULT_VARIABLE`] says so.
pub fn fault_point(name: &str) {
    debug_assert!(
        name == REPLACE_FAULT || WORKER_FAULTS.contains(&name) || DISPATCHER_FAULTS.contains(&name),
        "`{name}` is not listed"
    );
    let Some(fault) = std::env::var_os(FAULT_VARIABLE) else { return };
    let signal = match fault.to_str().map(|fault| (fault.strip_prefix("stop:"), fault)) {
        Some((Some(point), _)) if point == name => Signal::STOP,
        Some((None, point)) if point == name => Signal::KILL,
        _ => return,
    };
    kill_process(getpid(), signal).expect("a process may signal itself");
}

/// Whether [`FAULT_VARIABLE`] names this point.
pub(super) fn is_asked_for(name: &str) -> bool {
    std::env::var(FAULT_VARIABLE).is_ok_and(|fault| fault.strip_prefix("stop:").unwrap_or(&fault) == name)
}
