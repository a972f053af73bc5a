//! Queries after a run.

use crate::env::{LEASE, TestEnv};
use crate::harness::children;
use orchestrate::workspace::LEASE_LOOKED_AT;

#[test]
fn history_has_the_documented_shape() {
    let env = TestEnv::new();
    env.run(&["run", "small.toml", "--only", "tuned"]).ends_with(0);
    let rows = env.run(&["history", "--json"]).ends_with(0).json();
    assert_eq!(rows.len(), 2);
    let tuned = rows.iter().find(|row| row["stage"] == "tuned").unwrap();
    for (name, value) in [("recipe", "small"), ("variant", "small"), ("kind", "sft"), ("status", "ok")] {
        assert_eq!(tuned[name], value, "{tuned}");
    }
    assert!(tuned["started_at"].is_string() && tuned["seconds"].is_number(), "{tuned}");
    assert_eq!(tuned["metrics"]["train/loss"]["value"], 1.5);
    assert_eq!(tuned["run"].as_str().unwrap().len(), 26);
}

#[test]
fn a_second_run_is_all_hits_with_the_results_of_the_first() {
    let env = TestEnv::new();
    for _ in 0..2 {
        env.run(&["run", "small.toml", "--only", "base"]).ends_with(0);
    }
    let rows = env.run(&["show", "latest", "--json"]).ends_with(0).json();
    assert_eq!(rows[0]["status"], "cached");
    assert_eq!(rows[0]["metrics"]["train/loss"]["value"], 1.5);
}

#[test]
fn metrics_are_curves_over_steps() {
    let env = TestEnv::new();
    env.run(&["run", "small.toml", "--only", "base"]).ends_with(0);
    let values: Vec<f64> =
        env.run(&["metrics", "latest", "base", "--json"]).json().iter().map(|l| l["value"].as_f64().unwrap()).collect();
    assert_eq!(values, [3.5, 2.5, 1.5]);
    let table = env.run(&["metrics", "latest"]).ends_with(0).stdout;
    assert!(table.contains("train/loss") && table.contains('█'), "{table}");
    env.run(&["metrics", "latest", "--name", "reward/mean"]).ends_with(5);
    env.run(&["metrics", "latest", "nowhere"]).ends_with(5).says(&["`base`"]);
    env.run(&["samples", "latest"]).ends_with(5).says(&["grpo"]);
}

#[test]
fn runs_are_found_by_either_end_of_their_id() {
    let env = TestEnv::new();
    env.run(&["run", "small.toml", "--only", "base"]).ends_with(0);
    let rows = env.run(&["history", "--json"]).json();
    let run = rows[0]["run"].as_str().unwrap();
    for wanted in [&run[20..], &run[..12], run, "latest"] {
        assert!(env.run(&["show", wanted]).ends_with(0).stdout.contains(run));
    }
    env.run(&["show", "nothing"]).ends_with(5);
}

#[test]
fn a_failed_stage_keeps_its_log_and_its_message() {
    let env = TestEnv::new();
    env.behave("base", "fail");
    env.run(&["run", "small.toml", "--only", "base"]).ends_with(4);
    assert!(env.run(&["logs", "latest", "base"]).ends_with(0).stdout.contains("working on base"));
    let rows = env.run(&["history", "--json"]).json();
    assert_eq!(rows[0]["status"], "failed");
    assert_eq!(rows[0]["message"], "row 3 has no `question`");
}

#[test]
fn a_dispatcher_that_was_killed_leaves_an_interrupted_run() {
    let env = TestEnv::new();
    env.behave("base", "wait");
    let mut child = env.start(&["run", "small.toml", "--only", "base"]);
    env.wait_for("started-base");
    child.kill().unwrap();
    child.wait().unwrap();
    let rows = env.run(&["history", "--json"]).ends_with(0).json();
    assert_eq!(rows[0]["status"], "interrupted");
    let worker = fs_err::read_to_string(env.path("started-base")).unwrap();
    let group = rustix::process::Pid::from_raw(worker.trim().parse().unwrap()).unwrap();
    rustix::process::kill_process_group(group, rustix::process::Signal::KILL).unwrap();
}

#[test]
fn a_damaged_checkpoint_is_found_quarantined_and_made_again() {
    let env = TestEnv::new();
    env.run(&["run", "small.toml", "--only", "base"]).ends_with(0);
    let listed = env.run(&["cache", "ls", "--json"]).ends_with(0).json();
    let key = listed[0]["key"].as_str().unwrap().to_owned();
    env.run(&["cache", "verify"]).ends_with(0);
    env.write(&format!("runs/cache/{key}/result.txt"), "result of bas!\n");
    env.run(&["cache", "verify", &key[..6]]).ends_with(6).says(&["1 checkpoint damaged", "runs/quarantine"]);
    let again = env.run(&["run", "small.toml", "--only", "base", "--json"]).ends_with(0).json();
    assert_eq!(again[0]["status"], "ok");
    env.run(&["cache", "verify", "zzzz"]).ends_with(5);
}

#[test]
fn a_stage_that_another_process_works_on_is_waited_for() {
    let env = TestEnv::new();
    let key =
        env.run(&["plan", "small.toml", "--only", "base", "--json"]).json()[0]["key"].as_str().unwrap().to_owned();
    env.write(&format!("runs/work/{key}/lease.json"), LEASE);
    let lock = fs_err::File::create(env.path(&format!("runs/work/{key}/lease.lock"))).unwrap();
    rustix::fs::flock(&lock, rustix::fs::FlockOperation::NonBlockingLockExclusive).unwrap();
    let child = env.start_held_at(LEASE_LOOKED_AT, &["run", "small.toml", "--only", "base", "--json"], |run| {
        assert_eq!(children(run.id()), 0, "a worker was started on a leased key");
    });
    drop(lock);
    let ended = crate::env::Ended::from(child.wait_with_output().unwrap()).ends_with(0);
    assert_eq!(ended.json()[0]["status"], "ok");
    ended.says(&["waiting for process 4242 on elsewhere"]);
}
