//! Whether a run is alive, whatever the name, state or id of its process.

use crate::dispatch::ended;
use crate::env::TestEnv;
use crate::orphans::lives;
use orchestrate::workspace::LEASE_LOOKED_AT;
use rustix::process::Pid;
use serde_json::Value;
use std::path::PathBuf;
use std::process::Child;

fn pid(child: &Child) -> Pid {
    Pid::from_raw(i32::try_from(child.id()).unwrap()).unwrap()
}

/// Returns the status of the newest run, as `cancel` and `resume` see it.
fn status(env: &TestEnv) -> String {
    let shown = env.run(&["show", "latest", "--json"]).ends_with(0).json();
    let run = env.run(&["query", "SELECT status FROM runs ORDER BY run DESC LIMIT 1", "--json"]).ends_with(0).json();
    assert!(!shown.is_empty());
    run[0]["status"].as_str().unwrap().to_owned()
}

/// Starts a run whose `base` waits.
fn waiting_run(env: &TestEnv) -> Child {
    env.behave("base", "wait");
    let child = env.start(&["run", "small.toml", "--only", "tuned"]);
    env.wait_for("started-base");
    child
}

/// Starts and kills a run; returns its id.
fn killed_run(env: &TestEnv) -> String {
    let mut child = waiting_run(env);
    child.kill().unwrap();
    child.wait().unwrap();
    env.behave("base", "commit");
    env.newest_run()
}

fn log(env: &TestEnv, run: &str) -> PathBuf {
    env.path("runs/log").join(run)
}

/// Changes the process that the log names for the run.
fn rewrite_process(env: &TestEnv, run: &str, change: impl Fn(&mut Value)) {
    let path = log(env, run).join("run.jsonl");
    let text = fs_err::read_to_string(&path).unwrap();
    let (first, rest) = text.split_once('\n').unwrap();
    let mut first: Value = serde_json::from_str(first).unwrap();
    change(&mut first["kind"]["run_started"]);
    fs_err::write(path, format!("{first}\n{rest}")).unwrap();
}

/// Changes the host that the log names for the run.
fn move_to(env: &TestEnv, run: &str, host: &str) {
    rewrite_process(env, run, |process| {
        process["host"] = host.into();
        process["boot_id"] = "its-own".into();
    });
}

#[test]
fn a_run_under_another_name_is_alive() {
    let env = TestEnv::new();
    env.behave("base", "wait");
    env.run(&["run", "small.toml", "--only", "other"]).ends_with(0);
    let renamed = env.path("orch-0.1");
    fs_err::copy(env!("CARGO_BIN_EXE_orchestrate"), &renamed).unwrap();
    let mut run = env.start_as(&renamed, &["run", "small.toml"]);
    env.wait_for("started-base");
    assert_eq!(status(&env), "running");
    env.run(&["resume"]).ends_with(5).says(&["no run was interrupted or failed"]);
    let resume = env.run(&["resume", &env.newest_run()]).ends_with(2);
    resume.says(&["is still running", "hint: `orchestrate cancel"]);
    env.run(&["cache", "gc", "--older-than", "0s", "--delete"]).ends_with(0);
    assert_eq!(fs_err::read_dir(env.path("runs/cache")).unwrap().count(), 1, "a live run uses it");
    // Another run that needs the same stage leaves the worker alone.
    let other = env.start_held_at(LEASE_LOOKED_AT, &["run", "small.toml", "--only", "base"], |_| {
        assert!(run.try_wait().unwrap().is_none());
    });
    env.run(&["cancel", &crate::liveness::run_of(&env, run.id())]).ends_with(0);
    ended(run).ends_with(130);
    crate::dispatch::interrupt(&other);
    ended(other);
}

/// Returns the id of the run whose log names this process.
pub(crate) fn run_of(env: &TestEnv, process: u32) -> String {
    let logs = fs_err::read_dir(env.path("runs/log")).unwrap();
    let mut runs = logs.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let named = format!("\"pid\":{process},");
    runs.find(|run| fs_err::read_to_string(log(env, run).join("run.jsonl")).unwrap().contains(&named)).unwrap()
}

#[test]
fn a_killed_run_that_its_parent_has_not_waited_for_is_dead() {
    let env = TestEnv::new();
    let mut run = waiting_run(&env);
    run.kill().unwrap(); // it stays a zombie
    env.behave("base", "commit");
    while lives(pid(&run)) {
        std::thread::yield_now();
    }
    assert_eq!(status(&env), "interrupted");
    env.run(&["cancel"]).ends_with(5).says(&["no run is running"]);
    env.run(&["resume"]).ends_with(0);
    run.wait().unwrap();
}

#[test]
fn a_process_that_has_got_the_id_of_a_killed_run_is_not_the_run() {
    let env = TestEnv::new();
    let other_project = TestEnv::new();
    let mut innocent = waiting_run(&other_project);
    let run = killed_run(&env);
    for lock in ["there", "missing, as on a file system without locks"] {
        rewrite_process(&env, &run, |process| process["pid"] = innocent.id().into());
        if lock != "there" {
            fs_err::remove_file(log(&env, &run).join("lock")).unwrap();
        }
        assert_eq!(status(&env), "interrupted", "lock {lock}");
        env.run(&["cancel"]).ends_with(5);
        env.run(&["cancel", &run]).ends_with(5).says(&["is not running: it ended `interrupted`"]);
        assert!(innocent.try_wait().unwrap().is_none(), "lock {lock}: nobody may signal it");
    }
    env.run(&["resume", &run]).ends_with(0);
    other_project.run(&["cancel"]).ends_with(0);
    ended(innocent).ends_with(130);
}

#[test]
fn a_run_is_dead_on_a_host_that_has_got_another_name() {
    let env = TestEnv::new();
    let run = killed_run(&env);
    move_to(&env, &run, "as-it-was");
    assert_eq!(status(&env), "interrupted", "no other machine writes to a local disk");
    env.run(&["resume"]).ends_with(0);
}

#[test]
fn a_run_of_another_machine_is_declared_dead_by_hand() {
    let env = TestEnv::new();
    let run = killed_run(&env);
    move_to(&env, &run, "node7");
    let on_a_network = |args: &[&str]| env.run_with(args, "ORCHESTRATE_FAULT", "as-on-a-network");
    on_a_network(&["resume"]).ends_with(5);
    let refused = on_a_network(&["resume", &run]).ends_with(2);
    refused.says(&["was started on `node7`", "its state is not visible", "--takeover"]);
    let cancel = on_a_network(&["cancel", &run]).ends_with(2);
    cancel.says(&["on the host `node7` cannot be seen from here", "on `node7`: `orchestrate cancel", "--takeover"]);
    on_a_network(&["cache", "gc", "--older-than", "0s", "--delete"]).ends_with(0);
    on_a_network(&["resume", "--takeover"]).ends_with(2);
    on_a_network(&["resume", &run, "--takeover"]).ends_with(0);
    let rows = on_a_network(&["history", "--json"]).ends_with(0).json();
    let first = |stage: &str| rows.iter().find(|row| row["run"] == run.as_str() && row["stage"] == stage).unwrap();
    assert_eq!(first("base")["status"], "interrupted", "{rows:?}");
    on_a_network(&["resume"]).ends_with(5);
}

#[test]
fn a_living_run_is_not_taken_over() {
    let env = TestEnv::new();
    let mut child = waiting_run(&env);
    env.run(&["resume", &env.newest_run(), "--takeover"]).ends_with(2).says(&["is still running"]);
    assert!(child.try_wait().unwrap().is_none());
    env.run(&["cancel"]).ends_with(0);
    ended(child).ends_with(130);
}

#[test]
fn the_results_of_a_run_stay_until_they_are_shown() {
    let env = TestEnv::new();
    let held = env.path("held");
    let run =
        env.start_with(&["run", "small.toml"], "ORCHESTRATE_FAULT", &format!("hold:run-ended:{}", held.display()));
    env.wait_for("held");
    env.run(&["cache", "gc", "--max-size", "1KB", "--delete"]).ends_with(0);
    assert_eq!(fs_err::read_dir(env.path("runs/cache")).unwrap().count(), 3);
    fs_err::remove_file(held).unwrap();
    ended(run).ends_with(0);
    env.run(&["cache", "gc", "--max-size", "1KB", "--delete"]).ends_with(0);
    assert_eq!(fs_err::read_dir(env.path("runs/cache")).unwrap().count(), 0);
}
