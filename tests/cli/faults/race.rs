//! Two processes that want the same key at the same time.

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
