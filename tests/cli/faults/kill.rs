//! kill -9 of the worker and of the orchestrator at every step of the protocol.

use super::{RUN, each, holds_the_same, outputs, project, run_with_fault, undisturbed, wait_until, workers};
use crate::env::{Ended, TestEnv};
use orchestrate::workspace::{COMMITTED_FAULTS, DISPATCHER_FAULTS, FAULT_VARIABLE, WORKER_FAULTS};

#[test]
fn a_worker_that_is_killed_at_any_step_loses_nothing() {
    each(&WORKER_FAULTS, |fault| {
        let env = project();
        if COMMITTED_FAULTS.contains(fault) {
            // The checkpoint is evidence of a finished worker.
            run_with_fault(&env, &RUN, fault).ends_with(0);
            return holds_the_same(&env, fault);
        }
        let ended = run_with_fault(&env, &RUN, fault).ends_with(4).says(&["SIGKILL"]);
        assert!(workers(&env, "tuned").is_empty(), "`{fault}` did not kill the first worker: {ended:?}");
        let visible = outputs(&env); // panics unless the outputs are whole
        assert!(visible.iter().all(|(file, digest)| undisturbed().get(file) == Some(digest)), "after `{fault}`");
        env.run(&["resume"]).ends_with(0);
        holds_the_same(&env, fault);
    });
}

#[test]
fn an_orchestrator_that_is_killed_at_any_step_loses_nothing() {
    each(&DISPATCHER_FAULTS, |fault| {
        let env = project();
        assert_eq!(run_with_fault(&env, &RUN, fault).code, None, "`{fault}` did not kill it");
        if *fault == "run-before-plan" {
            env.run(&["resume"]).ends_with(5); // no run exists yet
            env.run(&RUN).ends_with(0);
        } else {
            env.run(&["resume"]).ends_with(0);
        }
        holds_the_same(&env, fault);
    });
}

fn log_holds(env: &TestEnv, word: &str) -> bool {
    let Ok(entries) = fs_err::read_dir(env.path("runs/log")) else { return false };
    entries
        .flatten()
        .any(|run| fs_err::read_to_string(run.path().join("run.jsonl")).is_ok_and(|text| text.contains(word)))
}

#[test]
fn an_orchestrator_that_is_killed_while_its_worker_is_at_any_step_loses_nothing() {
    each(&WORKER_FAULTS, |fault| {
        let env = project();
        let held = env.path("held");
        let hold = format!("hold:{fault}:{}", held.display());
        let mut first = env.start_with(&RUN, FAULT_VARIABLE, &hold);
        env.wait_for("held");
        first.kill().unwrap();
        first.wait().unwrap();
        let resumed = env.start(&["resume"]);
        let committed = WORKER_FAULTS.iter().position(|other| other == fault)
            >= WORKER_FAULTS.iter().position(|other| *other == "commit-before-sync");
        if !committed {
            wait_until("`resume` waits for the orphan", || log_holds(&env, "stage_waiting"));
        }
        fs_err::remove_file(held).unwrap();
        let ended = Ended::from(resumed.wait_with_output().unwrap()).ends_with(0);
        if !committed {
            ended.says(&["waiting for process ", "which works on the same stage"]);
        }
        holds_the_same(&env, fault);
    });
}
