//! `cancel`: stops a run of another process.

use crate::dispatch::{ended, interrupt};
use crate::env::TestEnv;
use crate::harness::wait_until;
use serde_json::{Value, json};
use std::time::{Duration, Instant};

#[test]
fn a_cancelled_run_leaves_its_resume_points_and_is_told_as_interrupted() {
    let env = TestEnv::new();
    env.behave("base", "wait");
    let child = env.start(&["run", "small.toml", "--only", "tuned"]);
    env.wait_for("started-base");
    let cancel = env.run(&["cancel", "latest", "--json"]).ends_with(0);
    assert_eq!(cancel.json()[0]["status"], "interrupted");
    ended(child).ends_with(130).says(&["stopping", "resume point after step 3"]);
    let rows = env.run(&["history", "--json"]).ends_with(0).json();
    assert!(rows.iter().any(|row| row["stage"] == "base" && row["status"] == "interrupted"), "{rows:?}");
    assert!(env.run(&["show", "latest"]).ends_with(0).stdout.contains("interrupted"));
    env.run(&["cancel"]).ends_with(5).says(&["no run is running", "hint:"]);
    env.behave("base", "commit");
    env.run(&["resume"]).ends_with(0);
    let run = env.run(&["history", "--json"]).json()[0]["run"].as_str().unwrap().to_owned();
    env.run(&["cancel", &run]).ends_with(5).says(&["is not running: it ended `ok`"]);
}

#[test]
fn cancelling_now_does_not_wait_for_a_worker_that_does_not_stop() {
    let env = TestEnv::new();
    env.behave("base", "deaf");
    let child = env.start(&["run", "small.toml", "--only", "base"]);
    env.wait_for("started-base");
    let cancel = env.run(&["cancel", "--now"]).ends_with(0);
    assert!(cancel.stdout.contains("interrupted"), "{cancel:?}");
    ended(child).ends_with(130);
}

#[test]
fn a_run_that_reads_a_large_result_can_be_stopped() {
    const BYTES: u64 = 1 << 36; // reading this takes at least half a minute
    let env = TestEnv::new();
    env.run(&["run", "small.toml"]).ends_with(0);
    let plan = env.run(&["plan", "small.toml", "--json"]).ends_with(0).json();
    let checkpoint = |stage: &str| {
        let line = plan.iter().find(|line| line["stage"] == stage).unwrap();
        env.path("runs/cache").join(line["key"].as_str().unwrap())
    };
    fs_err::remove_dir_all(checkpoint("tuned")).unwrap();
    let base = checkpoint("base");
    let mut manifest: Value = serde_json::from_slice(&fs_err::read(base.join("manifest.json")).unwrap()).unwrap();
    manifest["files"]["weights"] = json!({"sha256": "0".repeat(64), "bytes": BYTES});
    fs_err::write(base.join("manifest.json"), manifest.to_string()).unwrap();
    fs_err::File::create(base.join("weights")).unwrap().set_len(BYTES).unwrap(); // a sparse file needs no disk space
    let run = env.start(&["run", "small.toml"]);
    wait_until("it reads the checkpoint", || bytes_read(run.id()) > 64 << 20);
    let asked = Instant::now();
    interrupt(&run);
    ended(run).ends_with(130).says(&["stages left"]);
    assert!(asked.elapsed() < Duration::from_secs(10), "{:?}", asked.elapsed());
    assert!(base.exists() && !env.path("runs/quarantine").exists());
}

#[test]
fn of_several_runs_one_has_to_be_named() {
    let env = TestEnv::new();
    for stage in ["base", "other"] {
        env.behave(stage, "wait");
    }
    let one = env.start(&["run", "small.toml", "--only", "base"]);
    let two = env.start(&["run", "small.toml", "--only", "other"]);
    env.wait_for("started-base");
    env.wait_for("started-other");
    env.run(&["cancel"]).ends_with(2).says(&["2 runs are running", "hint: name one of them"]);
    env.run(&["cancel", "latest"]).ends_with(0);
    env.run(&["cancel"]).ends_with(0);
    ended(one).ends_with(130);
    ended(two).ends_with(130);
}

/// Returns the number of bytes that the process has read.
fn bytes_read(process: u32) -> u64 {
    let counters = fs_err::read_to_string(format!("/proc/{process}/io")).unwrap_or_default();
    counters.lines().find_map(|line| line.strip_prefix("rchar: ")?.parse().ok()).unwrap_or(0)
}
