//! `cost`: the costs of runs, and the savings by the cache.

use crate::env::{Ended, RECIPE, TestEnv};
use serde_json::{Value, json};

/// Returns the line of `what`, for the stage of this name if one is given.
fn line(ended: &Ended, what: &str, stage: Option<&str>) -> Value {
    let lines = ended.json();
    let found = lines.into_iter().find(|line| line["what"] == what && stage.is_none_or(|name| line["stage"] == name));
    found.expect("the line is there")
}

/// Creates a project in which two variants share `base`, and `tuned` has a judge's costs.
fn project() -> TestEnv {
    let env = TestEnv::new();
    let sweep =
        "[sweep]\nbase_name = \"plain\"\n[[sweep.variants]]\nname = \"fast\"\nset = { \"stages.tuned.lr\" = 3e-4 }\n";
    env.write("small.toml", &format!("{RECIPE}\n{sweep}"));
    for stage in env.run(&["plan", "small.toml", "--json"]).ends_with(0).json() {
        if stage["stage"] == "tuned" {
            let told = |value: f64| json!({"value": value, "interval": null, "count": null});
            let measured = json!({
                "judge/org/model/calls": told(12.0), "judge/org/model/cache_hits": told(3.0),
                "judge/org/model/prompt_tokens": told(500.0), "judge/org/model/completion_tokens": told(60.0),
                "judge/org/model/cost_usd": told(0.25),
            });
            env.write(&format!("measured/{}", stage["key"].as_str().unwrap()), &measured.to_string());
        }
    }
    let tokens = json!({"at": "2026-01-01T00:00:00Z", "kind": {"step": {
        "step": 3, "total_steps": 3, "metrics": {"train/tokens": 4096.0},
    }}, "energy_j": 250.5, "peak_memory": {"resident_bytes": 3_221_225_472_u64}});
    env.write("events/base", &format!("{tokens}\n"));
    env
}

#[test]
fn a_shared_stage_costs_once_and_the_cache_saves_all_of_it_later() {
    let env = project();
    env.run(&["run", "small.toml", "-q"]).ends_with(0);
    let first = env.run(&["cost", "--json"]).ends_with(0);
    let base = line(&first, "stage", Some("base"));
    assert_eq!((&base["variants"], &base["hits"]), (&json!(["small/plain", "small/fast"]), &json!(0)));
    assert_eq!((&base["spent"]["trained_tokens"], &base["spent"]["energy_j"]), (&json!(4096), &json!(250.5)));
    assert_eq!(line(&first, "stage", Some("tuned"))["spent"]["energy_j"], Value::Null, "its device did not tell");
    assert_eq!(base["memory"]["peak"]["resident_bytes"], 3_221_225_472_u64);
    let shown = env.run(&["show"]).ends_with(0).stdout;
    assert!(shown.contains("peak memory") && shown.contains("3.0 GiB"), "{shown}");
    let total = line(&first, "total", None);
    let seconds = |value: &Value| value["seconds"].as_f64().unwrap();
    let stages: f64 =
        first.json().iter().filter(|line| line["what"] == "stage").map(|line| seconds(&line["spent"])).sum();
    assert!(stages > 0.0 && (seconds(&total["spent"]) - stages).abs() < 1e-9, "{total}");
    assert_eq!(total["spent"]["trained_tokens"], 4096, "the shared stage counts once");
    assert_eq!((&total["spent"]["energy_j"], &total["saved_by_sharing"]["energy_j"]), (&json!(250.5), &json!(250.5)));
    assert_eq!(total["saved_by_sharing"]["trained_tokens"], 4096);
    assert_eq!(total["saved_by_cache"]["seconds"], Value::Null, "nothing was cached");
    let judge = &total["spent"]["judges"]["org/model"];
    assert_eq!((&judge["calls"], &judge["prompt_tokens"], &judge["cost_usd"]), (&json!(24), &json!(1000), &json!(0.5)));

    env.run(&["run", "small.toml", "-q"]).ends_with(0);
    let second = env.run(&["cost", "--json"]).ends_with(0);
    let total = line(&second, "total", None);
    assert_eq!((&total["spent"]["seconds"], &total["spent"]["judges"]), (&Value::Null, &json!({})));
    assert!((seconds(&total["saved_by_cache"]) - stages).abs() < 1e-9, "{total}");
    assert_eq!(total["saved_by_cache"]["judges"]["org/model"]["cost_usd"], 0.5);
    assert_eq!((&total["spent"]["energy_j"], &total["saved_by_cache"]["energy_j"]), (&Value::Null, &json!(250.5)));
    let variant = line(&second, "variant", None);
    assert_eq!(
        (&variant["variant"], &variant["stages"], &variant["shared"]),
        (&json!("small/plain"), &json!(3), &json!(2))
    );
    assert!(seconds(&variant["own"]) < seconds(&variant["made"]), "{variant}");

    let text = env.run(&["cost"]).ends_with(0).stdout;
    assert!(text.starts_with("saved by the cache: "), "{text}");
    assert!(text.contains("shared by 2") && text.contains("$0.50") && text.contains("saved "), "{text}");
    assert!(text.lines().all(|line| line.chars().count() <= 100), "within the terminal:\n{text}");
}

#[test]
fn failed_tries_cost_and_made_nothing() {
    let env = project();
    env.behave("tuned", "fail");
    env.run(&["run", "small.toml", "-q"]).ends_with(4);
    let found = env.run(&["cost", "--json"]).ends_with(0);
    let tuned = line(&found, "stage", Some("tuned"));
    assert!(tuned["spent"]["seconds"].as_f64() > Some(0.0), "{tuned}");
    assert_eq!((&tuned["made"]["seconds"], &tuned["spent"]["judges"]), (&Value::Null, &json!({})));
    env.run(&["cost", "nowhere"]).ends_with(5).says(&["no run is called"]);
}
