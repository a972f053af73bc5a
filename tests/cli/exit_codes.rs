//! Every documented exit code.

use crate::env::{Ended, TestEnv};

#[test]
fn all_is_well_0() {
    TestEnv::new().run(&["run", "small.toml", "-q"]).ends_with(0);
}

#[test]
fn an_internal_error_1() {
    let env = TestEnv::new();
    env.write("file", "");
    env.run_with(&["run", "small.toml"], "ORCHESTRATE_RUNS", "file/runs").ends_with(1).says(&["error: "]);
}

#[test]
fn a_wrong_command_line_2() {
    TestEnv::new().run(&["run"]).ends_with(2).says(&["RECIPE"]);
}

#[test]
fn a_wrong_recipe_3() {
    let env = TestEnv::new();
    env.run(&["run", "small.toml", "--set", "stages.base.stepz=1"]).ends_with(3).says(&["did you mean `steps`"]);
}

#[test]
fn a_failed_stage_4() {
    let env = TestEnv::new();
    env.behave("base", "fail");
    env.run(&["run", "small.toml"]).ends_with(4).says(&["add it to `data/rows.jsonl`"]);
}

#[test]
fn nothing_matches_5() {
    TestEnv::new().run(&["show", "latest"]).ends_with(5).says(&["nothing has been run here yet"]);
}

#[test]
fn a_corrupt_cache_6() {
    let env = TestEnv::new();
    env.run(&["run", "small.toml", "-q"]).ends_with(0);
    let key = env.run(&["plan", "small.toml", "--json"]).json()[0]["key"].as_str().unwrap().to_owned();
    env.write(&format!("runs/cache/{key}/result.txt"), "result of bose\n");
    env.run(&["cache", "verify"]).ends_with(6);
}

#[test]
fn a_rerun_that_differs_7() {
    let env = TestEnv::new();
    env.run(&["run", "small.toml", "-q"]).ends_with(0);
    let worker = fs_err::read_to_string(env.path("worker.sh")).unwrap();
    env.write("worker.sh", &worker.replace("result of", "another result of"));
    env.run(&["verify", "latest", "base"]).ends_with(7).says(&["base"]);
}

#[test]
fn an_interrupt_130() {
    let env = TestEnv::new();
    env.behave("base", "wait");
    let run = env.start(&["run", "small.toml", "--only", "base"]);
    env.wait_for("started-base");
    let status = std::process::Command::new("kill").args(["-INT", &run.id().to_string()]).status().unwrap();
    assert!(status.success());
    Ended::from(run.wait_with_output().unwrap()).ends_with(130).says(&["orchestrate resume"]);
}

#[test]
fn help_documents_them_all() {
    let help = TestEnv::new().run(&["--help"]).ends_with(0).stdout.replace('\n', " ");
    for code in [
        "0 ok",
        "1 internal",
        "2 usage",
        "3 recipe",
        "4 a stage failed",
        "5 nothing",
        "6 corrupt",
        "7 a rerun",
        "130 int",
    ] {
        assert!(help.contains(code), "`{code}` is not in\n{help}");
    }
}
