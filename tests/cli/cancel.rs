//! `cancel`: a run of another process is stopped.

use crate::dispatch::ended;
use crate::env::TestEnv;

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
