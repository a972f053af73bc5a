//! The workers of a killed run.

use crate::dispatch::{ended, pair, statuses};
use crate::env::TestEnv;
use orchestrate::workspace::LEASE_LOOKED_AT;
use rustix::process::{Pid, Signal, kill_process};
use std::process::Child;

/// Starts a run whose `base` has this behaviour and kills it with SIGKILL. Returns the process id of the remaining
/// worker.
fn leave_orphan(env: &TestEnv, behaviour: &str) -> Pid {
    env.behave("base", behaviour);
    let child: Child = env.start(&["run", "small.toml", "--only", "tuned", "--set", "runtime.stop_grace_s=0.5"]);
    env.wait_for("started-base");
    let pid = Pid::from_raw(i32::try_from(child.id()).unwrap()).unwrap();
    kill_process(pid, Signal::KILL).unwrap();
    let orphan: i32 = fs_err::read_to_string(env.path("started-base")).unwrap().trim().parse().unwrap();
    let orphan = Pid::from_raw(orphan).unwrap();
    assert!(ended(child).code.is_none(), "killed by a signal");
    assert!(lives(orphan), "the worker outlives its run");
    env.behave("base", "commit");
    orphan
}

/// Whether the process is running; a zombie is not.
pub(crate) fn lives(pid: Pid) -> bool {
    let status = fs_err::read_to_string(format!("/proc/{}/status", pid.as_raw_nonzero())).unwrap_or_default();
    status.lines().any(|line| line.starts_with("State:") && !line.contains('Z'))
}

#[test]
fn a_worker_of_a_killed_run_is_asked_to_end_before_its_stage_is_resumed() {
    let env = TestEnv::new();
    let orphan = leave_orphan(&env, "wait");
    let history = env.run(&["history", "--json"]).ends_with(0).json();
    assert!(history.iter().any(|row| row["stage"] == "base" && row["status"] == "interrupted"), "{history:?}");
    let resumed = env.run(&["resume", "--json"]).ends_with(0);
    assert_eq!(statuses(&resumed), [pair("base", "ok"), pair("tuned", "ok")]);
    let resumed = resumed.says(&[&format!("waiting for process {}", orphan.as_raw_nonzero()), "whose run has died"]);
    assert!(!resumed.stderr.contains("killing process"), "it ends by itself: {}", resumed.stderr);
    assert!(!lives(orphan), "nothing is left of it");
}

#[test]
fn a_worker_of_a_killed_run_that_hangs_is_killed() {
    let env = TestEnv::new();
    let orphan = leave_orphan(&env, "deaf");
    let resumed = env.run(&["resume", "--json"]).ends_with(0);
    assert_eq!(statuses(&resumed), [pair("base", "ok"), pair("tuned", "ok")]);
    resumed.says(&["which did not end in 0.5 s"]);
    assert!(!lives(orphan), "nothing is left of it");
}

#[test]
fn the_worker_of_a_living_run_is_left_alone() {
    let env = TestEnv::new();
    env.behave("base", "wait");
    let first = env.start(&["run", "small.toml", "--only", "base"]);
    env.wait_for("started-base");
    let worker = fs_err::read_to_string(env.path("started-base")).unwrap();
    let worker = Pid::from_raw(worker.trim().parse().unwrap()).unwrap();
    let second = env.start_held_at(LEASE_LOOKED_AT, &["run", "small.toml", "--only", "base"], |_| {
        assert!(lives(worker), "a look at the lease later it still runs");
    });
    let asked = std::time::Instant::now();
    crate::dispatch::interrupt(&second);
    let second = ended(second).ends_with(130).says(&["waiting for process"]);
    assert!(asked.elapsed() < std::time::Duration::from_secs(1), "{:?}", asked.elapsed());
    crate::dispatch::interrupt(&first);
    assert!(!second.stderr.contains("whose run has died"), "{}", second.stderr);
    ended(first).ends_with(130);
}
