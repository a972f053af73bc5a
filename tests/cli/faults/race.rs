//! Two processes that need the same key at the same time.

use super::{RUN, holds_the_same, outputs, project, signal, wait_until, workers};
use crate::env::{Ended, TestEnv};
use rustix::process::Signal;

fn is_waiting(env: &TestEnv) -> bool {
    let Ok(runs) = fs_err::read_dir(env.path("runs/log")) else { return false };
    runs.flatten().any(|run| {
        fs_err::read_to_string(run.path().join("run.jsonl")).is_ok_and(|text| text.contains("stage_waiting"))
    })
}

#[test]
fn one_runs_and_the_other_waits_and_says_for_whom() {
    let env = project();
    env.write("hold-base", "");
    let both = [env.start(&RUN), env.start(&RUN)];
    wait_until("one of them waits", || is_waiting(&env));
    fs_err::remove_file(env.path("hold-base")).unwrap();
    let ended = both.map(|child| Ended::from(child.wait_with_output().unwrap()).ends_with(0));
    let workers = ["base", "tuned"].map(|stage| workers(&env, stage));
    assert_eq!(workers.each_ref().map(Vec::len), [1, 1], "a stage ran twice: {ended:?}");
    let whom = format!("waiting for process {} on ", workers[0][0]);
    assert!(ended.iter().any(|ended| ended.stderr.contains(&whom)), "no `{whom}` in {ended:?}");
    holds_the_same(&env, "a race");
}

#[test]
fn who_waits_takes_over_from_a_dead_owner() {
    let env = project();
    env.write("hold-base", "");
    let mut first = env.start(&RUN);
    wait_until("the first worker", || workers(&env, "base").len() == 1);
    let second = env.start(&RUN);
    wait_until("the second waits", || is_waiting(&env));
    first.kill().unwrap();
    signal(workers(&env, "base")[0], Signal::KILL);
    first.wait().unwrap();
    fs_err::remove_file(env.path("hold-base")).unwrap();
    Ended::from(second.wait_with_output().unwrap()).ends_with(0).says(&["waiting for process"]);
    assert_eq!(workers(&env, "base").len(), 2);
    holds_the_same(&env, "a takeover");
}

#[test]
fn many_at_once_neither_fail_nor_run_anything_twice() {
    let env = project();
    let all: Vec<_> = (0..4).map(|_| env.start(&RUN)).collect();
    for child in all {
        Ended::from(child.wait_with_output().unwrap()).ends_with(0);
    }
    assert_eq!(outputs(&env).len(), 2);
    assert_eq!(["base", "tuned"].map(|stage| workers(&env, stage).len()), [1, 1]);
    holds_the_same(&env, "four at once");
}

/// Another run commits the stage before the worker of this run starts.
#[test]
fn a_stage_that_another_run_commits_while_a_worker_is_started_is_a_hit() {
    let env = project();
    let held = env.path("held");
    let point = format!("hold:prepare-done:{}", held.display());
    let no_retries = [&RUN[..], &["--set", "runtime.retries.crash=0"]].concat();
    let slow = env.start_with(&no_retries, "ORCHESTRATE_FAULT", &point);
    wait_until("the first run has prepared its attempt", || held.exists());
    env.run(&RUN).ends_with(0);
    fs_err::remove_file(held).unwrap();
    Ended::from(slow.wait_with_output().unwrap()).ends_with(0);
    assert_eq!(["base", "tuned"].map(|stage| workers(&env, stage).len()), [1, 1]);
    assert_eq!(fs_err::read_dir(env.path("runs/work")).unwrap().count(), 0, "nothing is left over");
    holds_the_same(&env, "a late worker");
}

#[test]
fn a_worker_without_an_attempt_says_that_another_was_faster() {
    let env = project();
    let nowhere = env.path("runs/work/gone");
    env.run(&["run-command-stage", nowhere.to_str().unwrap()]).ends_with(11);
    assert!(!nowhere.exists());
}
