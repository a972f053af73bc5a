//! `runs ls`, `runs rm`, and the run directory.

use crate::env::TestEnv;

fn logs(env: &TestEnv) -> usize {
    fs_err::read_dir(env.path("runs/log")).unwrap().count()
}

#[test]
fn a_run_is_forgotten_and_its_results_stay() {
    let env = TestEnv::new();
    env.run(&["run", "small.toml", "--only", "base"]).ends_with(0);
    let first = env.newest_run();
    env.run(&["run", "small.toml"]).ends_with(0);
    let listed = env.run(&["runs", "ls", "--json"]).ends_with(0).json();
    assert_eq!(listed.len(), 2);
    assert_eq!(listed[0]["run"], first.as_str());
    assert_eq!((&listed[0]["stages"], &listed[1]["stages"]), (&1.into(), &3.into()));
    assert_eq!(listed[1]["status"], "ok");

    let dry = env.run(&["runs", "rm", "latest", "--dry-run"]).ends_with(0);
    assert!(dry.stdout.ends_with("would be removed\n"), "{}", dry.stdout);
    dry.says(&["2 results", "would be named by no run"]);
    assert_eq!(logs(&env), 2);

    let removed = env.run(&["runs", "rm", "latest"]).ends_with(0);
    removed.says(&["2 results", "are named by no run", "cache gc --unreferenced --delete"]);
    assert_eq!(logs(&env), 1);
    assert_eq!(fs_err::read_dir(env.path("runs/cache")).unwrap().count(), 3);
    assert!(!env.path("runs/trash").exists());
    let rows = env.run(&["history", "--json"]).ends_with(0).json();
    assert!(rows.iter().all(|row| row["run"] == first.as_str()) && !rows.is_empty());

    env.run(&["cache", "gc", "--unreferenced", "--delete"]).ends_with(0);
    assert_eq!(fs_err::read_dir(env.path("runs/cache")).unwrap().count(), 1);
    env.run(&["runs", "rm", "nothing"]).ends_with(5).says(&["no run is called"]);
}

#[test]
fn runs_are_forgotten_by_their_age() {
    let env = TestEnv::new();
    env.run(&["run", "small.toml", "--only", "base"]).ends_with(0);
    assert_eq!(env.run(&["runs", "rm", "--older-than", "1h"]).ends_with(0).stdout, "");
    assert_eq!(logs(&env), 1);
    assert_eq!(env.run(&["runs", "rm", "--older-than", "0s", "--json"]).ends_with(0).json().len(), 1);
    assert_eq!(logs(&env), 0);
}

#[test]
fn a_run_that_is_alive_is_never_removed() {
    let env = TestEnv::new();
    env.behave("base", "wait");
    let mut child = env.start(&["run", "small.toml", "--only", "base"]);
    env.wait_for("started-base");
    env.run(&["runs", "rm", "latest"]).ends_with(2).says(&["is still running", "orchestrate cancel"]);
    assert_eq!(env.run(&["runs", "rm", "--older-than", "0s"]).ends_with(0).stdout, "");
    assert_eq!(logs(&env), 1);
    env.run(&["cancel"]).ends_with(0);
    child.wait().unwrap();
    env.run(&["runs", "rm", "latest"]).ends_with(0);
    assert_eq!(logs(&env), 0);
}

#[test]
fn a_run_whose_log_is_damaged_can_be_forgotten() {
    let env = TestEnv::new();
    env.run(&["run", "small.toml", "--only", "base"]).ends_with(0);
    let run = env.newest_run();
    env.write(&format!("runs/log/{run}/invocation.json"), "{");
    env.run(&["cache", "gc"]).ends_with(6).says(&[&format!("orchestrate runs rm {run}")]);
    env.run(&["runs", "rm", &run]).ends_with(0);
    env.run(&["cache", "gc"]).ends_with(0);
}

#[test]
fn a_project_says_where_its_runs_are_kept() {
    let env = TestEnv::new();
    env.write("orchestrate.toml", "runs_dir = \"elsewhere/of project\"\n");
    env.run(&["run", "small.toml", "--only", "base"]).ends_with(0);
    assert!(env.path("elsewhere/of project/log").is_dir());
    assert!(!env.path("runs").exists());
    assert_eq!(env.run(&["history", "--json"]).ends_with(0).json().len(), 1);
    // An argument overrides the variable, and both override the file.
    env.run_with(&["run", "small.toml", "--only", "base"], "ORCHESTRATE_RUNS", "by-variable").ends_with(0);
    assert!(env.path("by-variable/log").is_dir());
    let typed = ["run", "small.toml", "--only", "base", "--runs-dir", "typed"];
    env.run_with(&typed, "ORCHESTRATE_RUNS", "by-variable-too").ends_with(0);
    assert!(env.path("typed/log").is_dir() && !env.path("by-variable-too").exists());

    env.write("orchestrate.toml", "run_dir = \"typo\"\n");
    env.run(&["history"]).ends_with(2).says(&["orchestrate.toml", "run_dir", "runs_dir"]);
}
