//! The dispatcher's reaction to workers that commit, fail, crash, hang or are stopped.

use crate::env::{Ended, TestEnv};
use crate::harness::signal_child;
use rustix::process::Signal;
use std::process::Child;

pub(crate) fn interrupt(child: &Child) {
    signal_child(child, Signal::INT);
}

pub(crate) fn ended(child: Child) -> Ended {
    Ended::from(child.wait_with_output().unwrap())
}

/// Returns `stage -> status` of the last lines of `run --json`.
pub(crate) fn statuses(ended: &Ended) -> Vec<(String, String)> {
    let text = |line: &serde_json::Value, name: &str| line[name].as_str().unwrap().to_owned();
    ended.json().iter().map(|line| (text(line, "stage"), text(line, "status"))).collect()
}

pub(crate) fn pair(stage: &str, status: &str) -> (String, String) {
    (stage.into(), status.into())
}

#[test]
fn everything_runs_once_and_is_cached_then() {
    let env = TestEnv::new();
    let first = env.run(&["run", "small.toml", "--json"]).ends_with(0);
    assert_eq!(statuses(&first).iter().filter(|(_, status)| status == "ok").count(), 3, "{first:?}");
    let second = env.run_with(&["run", "small.toml", "--json"], "ORCHESTRATE_WORKER", "/nowhere").ends_with(0);
    assert!(statuses(&second).iter().all(|(_, status)| status == "cached"), "{second:?}");
    let plan = env.run(&["plan", "small.toml", "--json"]).ends_with(0);
    assert!(plan.json().iter().all(|line| line["status"] == "cached"));
}

#[test]
fn a_failure_skips_only_what_needs_it_and_is_reported_with_message_hint_and_log() {
    let env = TestEnv::new();
    env.behave("base", "fail");
    let ended = env.run(&["run", "small.toml", "--json"]).ends_with(4);
    let statuses = statuses(&ended);
    for expected in [pair("base", "failed"), pair("tuned", "skipped"), pair("other", "ok")] {
        assert!(statuses.contains(&expected), "{expected:?} is not in {statuses:?}");
    }
    let ended = env.run(&["run", "small.toml"]).ends_with(4);
    let ended = ended.says(&["stage `base` failed", "row 3 has no `question`", "hint: add it to", "| working on base"]);
    assert!(ended.stderr.contains("1 of 3 stages failed, 1 skipped (`tuned` 1)"), "{ended:?}");
}

#[test]
fn fail_fast_starts_nothing_more() {
    let env = TestEnv::new();
    for stage in ["base", "other"] {
        env.behave(stage, "fail");
    }
    let ended = env.run(&["run", "small.toml", "--fail-fast", "--json"]).ends_with(4);
    let failed = statuses(&ended).iter().filter(|(_, status)| status == "failed").count();
    assert_eq!(failed, 1, "{ended:?}");
}

#[test]
fn a_crash_is_reported_with_the_end_of_the_log() {
    let env = TestEnv::new();
    env.behave("base", "crash");
    let ended = env.run(&["run", "small.toml", "--only", "base", "--set", "runtime.retries.oom=0"]).ends_with(4);
    ended.says(&["crashed with exit code 134", "| terminate called after throwing an instance of std::bad_alloc"]);
}

#[test]
fn a_killed_worker_is_taken_for_exhausted_memory() {
    let env = TestEnv::new();
    env.behave("base", "kill");
    env.run(&["run", "small.toml", "--only", "base"]).ends_with(4).says(&[
        "SIGKILL",
        "memory ran out",
        "micro_batch_size",
    ]);
    assert!(!env.path("runs/cache").exists() || fs_err::read_dir(env.path("runs/cache")).unwrap().count() == 0);
}

#[test]
fn an_interrupted_run_stops_its_worker_ends_with_130_and_resumes() {
    let env = TestEnv::new();
    env.behave("base", "wait");
    let child = env.start(&["run", "small.toml", "--only", "tuned"]);
    env.wait_for("started-base");
    interrupt(&child);
    ended(child).ends_with(130).says(&["stopping", "orchestrate resume"]);

    env.behave("base", "commit");
    // `resume` uses the recipe as it was.
    env.write("small.toml", "this is no recipe any more");
    let resumed = env.run(&["resume", "--json"]).ends_with(0);
    assert_eq!(statuses(&resumed), [pair("base", "ok"), pair("tuned", "ok")]);
    env.run(&["resume"]).ends_with(5);
}

#[test]
fn a_second_interrupt_kills_a_worker_that_does_not_stop() {
    let env = TestEnv::new();
    env.behave("base", "deaf");
    let child = env.start(&["run", "small.toml", "--only", "base"]);
    env.wait_for("started-base");
    interrupt(&child);
    env.wait_for("asked-base"); // the worker ignores the first request
    interrupt(&child);
    ended(child).ends_with(130);
}

#[test]
fn two_jobs_run_at_the_same_time() {
    let env = TestEnv::new();
    env.behave("base", "wait");
    env.behave("other", "wait");
    let child = env.start(&["run", "small.toml", "-j", "2"]);
    env.wait_for("started-base");
    env.wait_for("started-other");
    interrupt(&child);
    ended(child).ends_with(130);
}

#[test]
fn without_a_worker_nothing_begins() {
    let env = TestEnv::new();
    let ended = env.run_with(&["run", "small.toml"], "ORCHESTRATE_WORKER", "/nowhere/worker").ends_with(1);
    ended.says(&["`/nowhere/worker` does not exist", "hint:"]);
    assert!(!env.path("runs/log").exists());
}

#[test]
fn forcing_a_stage_runs_it_again() {
    let env = TestEnv::new();
    env.run(&["run", "small.toml", "--only", "tuned"]).ends_with(0);
    let forced = env.run(&["run", "small.toml", "--only", "tuned", "--force", "--json"]).ends_with(0);
    assert_eq!(statuses(&forced), [pair("base", "cached"), pair("tuned", "ok")]);
}

#[test]
fn a_damaged_attempt_begins_anew_and_ends_nothing_else() {
    let env = TestEnv::new();
    env.behave("base", "kill");
    env.run(&["run", "small.toml", "--only", "base", "--set", "runtime.retries.crash=0"]).ends_with(4);
    let mut attempts = fs_err::read_dir(env.path("runs/work")).unwrap();
    let attempt = attempts.next().expect("it left its attempt").unwrap().path();
    let events = attempt.join("events.jsonl");
    fs_err::write(&events, fs_err::read_to_string(&events).unwrap() + "garbage line\n").unwrap();
    env.behave("base", "commit");
    let ended = env.run(&["run", "small.toml", "--json"]).ends_with(0);
    let ended = ended.says(&[&format!("`{}` is malformed", events.display()), "started again"]);
    assert!(statuses(&ended).iter().all(|(_, status)| status == "ok"), "{ended:?}");
    assert_eq!(fs_err::read_dir(env.path("runs/quarantine")).unwrap().count(), 1);
}

#[test]
fn events_that_are_damaged_while_a_worker_runs_cost_one_try() {
    let env = TestEnv::new();
    env.behave("base", "wait");
    let run = env.start(&["run", "small.toml", "--only", "base", "--set", "runtime.retries.backoff_s=0", "--json"]);
    env.wait_for("started-base");
    env.behave("base", "commit");
    let attempt = fs_err::read_dir(env.path("runs/work")).unwrap().next().unwrap().unwrap().path();
    let events = attempt.join("events.jsonl");
    fs_err::write(&events, fs_err::read_to_string(&events).unwrap() + "garbage line\n").unwrap();
    let ended = ended(run).ends_with(0).says(&["is malformed", "started again"]);
    assert_eq!(statuses(&ended), [pair("base", "ok")]);
}
