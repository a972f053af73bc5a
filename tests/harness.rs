//! Helpers for tests with real processes: waiting for a condition, signals, and a seed that can be set.

use rustix::process::{Pid, Signal, kill_process};
use std::path::Path;
use std::process::Child;
use std::time::{Duration, Instant};

/// The longest wait for a condition.
const PATIENCE: Duration = Duration::from_mins(2);
/// The variable that sets the seed, to replay a failed test.
const SEED: &str = "ORCHESTRATE_TEST_SEED";

/// Waits until `is_so` returns true.
#[track_caller]
pub(crate) fn wait_until(what: &str, mut is_so: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !is_so() {
        assert!(Instant::now() < deadline, "never: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Waits until the file exists.
#[track_caller]
pub(crate) fn wait_for_file(path: &Path) {
    wait_until(&path.display().to_string(), || path.exists());
}

/// Sends a signal to a process.
pub(crate) fn signal(process: i32, signal: Signal) {
    kill_process(Pid::from_raw(process).unwrap(), signal).unwrap();
}

/// Sends a signal to a child.
pub(crate) fn signal_child(child: &Child, what: Signal) {
    signal(i32::try_from(child.id()).unwrap(), what);
}

/// Returns the number of processes whose parent is `parent`.
pub(crate) fn children(parent: u32) -> usize {
    let processes = fs_err::read_dir("/proc").unwrap().flatten();
    let ids = processes.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    ids.filter(|&process| orchestrate_core::host::parent(process) == Some(parent)).count()
}

/// Returns a seed for the draws of a test and prints it, so that a failure can be replayed with
/// `ORCHESTRATE_TEST_SEED`.
#[expect(clippy::print_stderr, reason = "a test that fails shows what it printed")]
pub(crate) fn seed() -> u64 {
    let given = std::env::var(SEED).ok().map(|text| text.parse().expect("the seed is a number"));
    let drawn = || {
        let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
        u64::from(since.subsec_nanos())
    };
    let seed = given.unwrap_or_else(drawn);
    eprintln!("{SEED}={seed}");
    seed
}
