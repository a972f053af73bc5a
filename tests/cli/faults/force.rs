//! `run --force`: the old result stays until the new one replaces it.

use super::{RUN, each, holds_the_same, outputs, project, run_with_fault, undisturbed, wait_until, workers};
use crate::env::{Ended, TestEnv};
use orchestrate::workspace::{COMMITTED_FAULTS, REPLACE_FAULT, WORKER_FAULTS};

const FORCE: [&str; 5] = ["run", "small.toml", "--only", "tuned", "--force"];

/// Asserts that `plan` finds every result.
#[track_caller]
fn all_cached(env: &TestEnv, after: &str) {
    let plan = env.run(&["plan", "small.toml", "--only", "tuned", "--json"]).ends_with(0).json();
    assert!(plan.len() == 2 && plan.iter().all(|line| line["status"] == "cached"), "after {after}: {plan:?}");
}

/// Returns the commit's record, which differs between commits.
fn record(env: &TestEnv, stage: &str) -> String {
    let plan = env.run(&["plan", "small.toml", "--json"]).json();
    let line = plan.iter().find(|line| line["stage"] == stage).unwrap();
    let dir = env.path("runs/cache").join(line["key"].as_str().unwrap());
    fs_err::read_to_string(dir.join("record.json")).unwrap()
}

#[test]
fn the_old_result_serves_until_the_new_one_takes_its_place() {
    let env = project();
    env.run(&RUN).ends_with(0);
    let old = record(&env, "tuned");
    env.write("hold-tuned", "");
    let forced = env.start(&FORCE);
    wait_until("the forced worker", || workers(&env, "tuned").len() == 2);
    all_cached(&env, "the forced run began");
    assert_eq!((outputs(&env), record(&env, "tuned")), (undisturbed(), old.clone()));
    fs_err::remove_file(env.path("hold-tuned")).unwrap();
    Ended::from(forced.wait_with_output().unwrap()).ends_with(0);
    assert_ne!(record(&env, "tuned"), old, "the old result is still there");
    holds_the_same(&env, "a forced run");
    assert_eq!(fs_err::read_dir(env.path("runs/work")).unwrap().count(), 0, "the old result is left somewhere");
}

#[test]
fn a_forced_stage_that_fails_costs_nothing() {
    let env = project();
    env.run(&RUN).ends_with(0);
    let old = record(&env, "tuned");
    env.write("worker.sh", "#!/bin/sh\nexit 10\n");
    env.run(&FORCE).ends_with(4);
    all_cached(&env, "a failed forced run");
    assert_eq!(record(&env, "tuned"), old);
    holds_the_same(&env, "a failed forced run");
}

#[test]
fn killed_at_any_step_it_leaves_one_of_the_two_and_resume_runs_it_again() {
    let faults: Vec<&str> = WORKER_FAULTS.into_iter().chain([REPLACE_FAULT]).collect();
    each(&faults, |fault| {
        let env = project();
        env.run(&RUN).ends_with(0);
        let old = record(&env, "tuned");
        if COMMITTED_FAULTS.contains(fault) {
            run_with_fault(&env, &FORCE, fault).ends_with(0);
            assert_ne!(record(&env, "tuned"), old, "after `{fault}`");
            holds_the_same(&env, fault);
            env.run(&["resume"]).ends_with(5);
            return;
        }
        run_with_fault(&env, &FORCE, fault).ends_with(4).says(&["SIGKILL"]);
        all_cached(&env, fault);
        holds_the_same(&env, fault);
        let begun = workers(&env, "tuned").len();
        env.run(&["resume"]).ends_with(0);
        assert_eq!(workers(&env, "tuned").len(), begun + 1, "`resume` after `{fault}` did not run it");
        assert_ne!(record(&env, "tuned"), old, "after `{fault}`");
        holds_the_same(&env, fault);
        env.run(&["resume"]).ends_with(5);
    });
}
