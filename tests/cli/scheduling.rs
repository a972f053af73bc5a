//! Slots of the machine, retries and time limits.

use crate::dispatch::{ended, interrupt, pair, statuses};
use crate::env::TestEnv;
use crate::harness::{children, wait_until};

/// Whether the second of two endless stages starts beside the first.
pub(crate) fn both_start(env: &TestEnv, set: &[&str]) -> bool {
    env.behave("base", "wait");
    env.behave("other", "wait");
    let mut args = vec!["run", "small.toml"];
    args.extend(set);
    let mut both = false;
    // Stages that fit are submitted at once.
    let child = env.start_held_at("worker-started", &args, |run| both = children(run.id()) == 2);
    wait_until("a worker begins", || {
        ["base", "other"].iter().any(|stage| env.path(&format!("started-{stage}")).exists())
    });
    if both {
        env.wait_for("started-base");
        env.wait_for("started-other");
    }
    interrupt(&child);
    ended(child).ends_with(130);
    both
}

fn gpu(env: &TestEnv, stage: &str) -> String {
    fs_err::read_to_string(env.path(&format!("gpu-{stage}"))).unwrap().trim().to_owned()
}

#[test]
fn each_stage_has_a_gpu_of_its_own() {
    let env = TestEnv::new();
    // Without -j, one stage runs on each GPU.
    assert!(both_start(&env, &["--set", "runtime.gpus=[4, 7]"]));
    assert_eq!((gpu(&env, "base"), gpu(&env, "other")), ("4".to_owned(), "7".to_owned()));
}

#[test]
fn one_gpu_runs_one_stage_at_a_time_unless_it_is_listed_twice() {
    assert!(!both_start(&TestEnv::new(), &["-j", "2", "--set", "runtime.gpus=[4]"]));
    let env = TestEnv::new();
    assert!(both_start(&env, &["--set", "runtime.gpus=[4, 4]"]));
    assert_eq!((gpu(&env, "base"), gpu(&env, "other")), ("4".to_owned(), "4".to_owned()));
}

#[test]
fn stages_that_want_more_threads_than_there_are_run_one_after_the_other() {
    let cpu = ["-j", "2", "--set", "runtime.device=cpu"];
    assert!(!both_start(&TestEnv::new(), &[&cpu[..], &["--set", "runtime.threads=100000"]].concat()));
    let env = TestEnv::new();
    assert!(both_start(&env, &cpu));
    assert_eq!(gpu(&env, "base"), "none");
}

#[test]
fn a_crash_is_tried_again_and_every_try_is_recorded() {
    let env = TestEnv::new();
    env.behave("base", "crash_once");
    let args = ["run", "small.toml", "--only", "base", "--json", "--set", "runtime.retries.backoff_s=0.1"];
    let run = env.run(&args).ends_with(0).says(&["crashed with exit code 134", "tried again in 0.1 s"]);
    assert_eq!(statuses(&run), [pair("base", "ok")]);
    let row = env.run(&["history", "--json"]).ends_with(0).json().remove(0);
    assert_eq!((&row["tries"], &row["status"]), (&2.into(), &"ok".into()));
    let show = env.run(&["show", "latest"]).ends_with(0);
    assert!(show.stdout.contains("base  try 1 failed after"), "{}", show.stdout);
}

#[test]
fn a_stage_that_goes_on_crashing_has_failed() {
    let env = TestEnv::new();
    env.behave("base", "abort");
    let retries = "runtime.retries={ crash = 2, backoff_s = 0.1 }";
    let run = env.run(&["run", "small.toml", "--only", "base", "--set", retries]).ends_with(4);
    run.says(&["tried again in 0.1 s", "tried again in 0.2 s", "stage `base` failed 3 times"]);
}

#[test]
fn what_is_wrong_with_the_input_is_not_tried_again() {
    let env = TestEnv::new();
    env.behave("base", "fail");
    let run = env.run(&["run", "small.toml", "--only", "base"]).ends_with(4);
    assert!(!run.stderr.contains("tried again"), "{}", run.stderr);
}

#[test]
fn exhausted_memory_is_tried_again_with_gradient_checkpointing() {
    let env = TestEnv::new();
    env.behave("base", "kill_without_checkpointing");
    let run = env.run(&["run", "small.toml", "--only", "base"]).ends_with(0);
    run.says(&["memory ran out", "tried again with gradient checkpointing"]);
}

#[test]
fn memory_that_ran_out_is_known_by_the_log_of_the_crash() {
    let env = TestEnv::new();
    env.behave("base", "crash"); // with std::bad_alloc
    let run = env.run(&["run", "small.toml", "--only", "base"]).ends_with(4);
    run.says(&["memory ran out; tried again with gradient checkpointing", "stage `base` failed 2 times"]);
}

#[test]
fn a_recipe_that_forbids_checkpointing_is_obeyed() {
    let env = TestEnv::new();
    env.behave("base", "kill_without_checkpointing");
    let never = "runtime.gradient_checkpointing=off";
    let run = env.run(&["run", "small.toml", "--only", "base", "--set", never]).ends_with(4);
    assert!(!run.stderr.contains("tried again"), "{}", run.stderr);
}

#[test]
fn a_stage_that_runs_too_long_is_stopped_and_can_be_resumed() {
    let env = TestEnv::new();
    env.behave("base", "wait");
    // The time limit of a kind; `other` is of the same kind, and quick.
    let run = env.run(&["run", "small.toml", "--set", "runtime.timeout_s.cpt=1.5", "--json"]).ends_with(4);
    assert!(statuses(&run).contains(&pair("base", "failed")) && statuses(&run).contains(&pair("other", "ok")));
    run.says(&[
        "its time limit is reached",
        "longer than its limit of 1.5 s after step 3",
        "hint: raise `runtime.timeout_s`",
    ]);
    env.behave("base", "commit");
    let resumed = env.run(&["resume", "--json"]).ends_with(0);
    assert!(statuses(&resumed).contains(&pair("base", "ok")), "{resumed:?}");
}

#[test]
fn a_worker_that_does_not_stop_when_its_time_is_over_is_killed() {
    let env = TestEnv::new();
    env.behave("base", "deaf");
    let set = ["--set", "runtime.timeout_s.base=0.3", "--set", "runtime.stop_grace_s=0.3"];
    let run = env.run(&[&["run", "small.toml", "--only", "base"], &set[..]].concat()).ends_with(4);
    run.says(&["longer than its limit of 0.3 s"]);
}

#[test]
fn a_retry_that_waits_ends_with_the_run() {
    let env = TestEnv::new();
    env.behave("base", "abort");
    let child = env.start(&["run", "small.toml", "--only", "base", "--set", "runtime.retries.backoff_s=1000"]);
    env.wait_for("started-base");
    let log = env.path("runs/log").join(env.newest_run()).join("run.jsonl");
    wait_until("it failed once", || fs_err::read_to_string(&log).is_ok_and(|log| log.contains("stage_retried")));
    interrupt(&child);
    ended(child).ends_with(130);
    let row = env.run(&["history", "--json"]).ends_with(0).json().remove(0);
    assert_eq!(row["status"], "interrupted");
}

/// Returns the number of threads that `base` and `other` are assigned.
fn threads(more: &[&str]) -> [String; 2] {
    let env = TestEnv::new();
    env.run(&[&["run", "small.toml", "--only", "base", "--only", "other"], more].concat()).ends_with(0);
    ["base", "other"]
        .map(|stage| fs_err::read_to_string(env.path(&format!("threads-{stage}"))).unwrap().trim().to_owned())
}

#[test]
fn stages_at_the_same_time_share_the_cores() {
    let cores = std::thread::available_parallelism().unwrap().get();
    assert_eq!(threads(&[]), ["null", "null"], "a stage alone has all cores");
    let half = (cores / 2).max(1).to_string();
    assert_eq!(threads(&["-j", "2"]), [half.clone(), half]);
    assert_eq!(threads(&["-j", "2", "--set", "runtime.threads=1"]), ["1", "1"], "the recipe has the last word");
    assert_eq!(threads(&["-j", &(2 * cores).to_string()]), ["1", "1"], "a stage has a thread at least");
}
