//! `diff`: differences between two runs.

use crate::env::TestEnv;
use serde_json::{Value, json};

#[test]
fn two_runs_differ_in_settings_files_environment_and_results() {
    let env = TestEnv::new();
    env.run(&["run", "small.toml", "-q"]).ends_with(0);
    let first = env.run(&["show", "--json"]).json()[0]["run"].as_str().unwrap().to_owned();
    env.run(&["diff", &first]).ends_with(5).says(&["only one run"]);
    env.run(&["diff", &first, &first]).ends_with(2).says(&["A and B are both run"]);
    env.run(&["run", "small.toml", "-q"]).ends_with(0);
    let same = env.run(&["diff", "latest"]).ends_with(0);
    assert!(same.stdout.contains("of the same stages"), "{}", same.stdout);
    env.write("data/rows.jsonl", "{\"q\": \"Longest bone?\", \"a\": \"the femur\"}\n");
    env.run(&["run", "small.toml", "-q", "--set", "stages.base.lr=3e-4"]).ends_with(0);

    let lines = env.run(&["diff", &first, "latest", "--json"]).ends_with(0).json();
    let of = |what: &str, stage: &str| -> &Value {
        lines.iter().find(|line| line["what"] == what && line["stage"] == stage).expect("the line is there")
    };
    assert_eq!(of("stage", "base")["changes"], json!(["lr 0.0001 -> 0.0003"]));
    assert_eq!(of("stage", "tuned")["changes"], json!(["data/rows.jsonl changed: 1 row of 1"]));
    assert!(lines.iter().all(|line| line["stage"] != "other"), "it is one result in both runs");
    let set = lines.iter().find(|line| line["name"] == "--set").expect("the environment differs");
    assert_eq!((&set["a"], &set["b"]), (&json!([]), &json!(["stages.base.lr=3e-4"])));
    let loss = of("result", "tuned");
    assert_eq!(
        (&loss["metric"], &loss["difference"], &loss["apart"]),
        (&json!("train/loss"), &json!(0.0), &Value::Null)
    );

    let text = env.run(&["diff", &first]).ends_with(0).stdout;
    for words in ["lr 0.0001 -> 0.0003", "1 row of 1", "--set", "train/loss"] {
        assert!(text.contains(words), "`{words}` is not in\n{text}");
    }
}

#[test]
fn a_stage_that_only_one_run_has_is_reported() {
    let env = TestEnv::new();
    env.run(&["run", "small.toml", "-q"]).ends_with(0);
    env.run(&["run", "small.toml", "-q", "--only", "base"]).ends_with(0);
    let runs = env.run(&["history", "--json"]).json();
    let first = runs.last().unwrap()["run"].as_str().unwrap();
    let lines = env.run(&["diff", first, "latest", "--json"]).ends_with(0).json();
    let told: Vec<_> =
        lines.iter().map(|line| (line["stage"].as_str().unwrap(), line["change"].as_str().unwrap())).collect();
    assert_eq!(told, [("other", "lost"), ("tuned", "lost")]);
    env.run(&["diff", "nothing"]).ends_with(5);
}
