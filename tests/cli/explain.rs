//! `explain`: its output, and the agreement of `plan` and `run`.

use crate::env::{RECIPE, TestEnv};
use serde_json::Value;

fn explained(env: &TestEnv, args: &[&str]) -> Value {
    env.run(&[&["explain", "--json"], args].concat()).ends_with(0).json().remove(0)
}

#[test]
fn a_changed_setting_is_reported_with_both_values_and_the_stage_it_is_in() {
    let env = TestEnv::new();
    let before = env.run(&["explain", "small.toml", "tuned"]).ends_with(0);
    assert!(
        before.stdout.contains("never run") && before.stdout.contains("no sft stage is in the cache"),
        "{before:?}"
    );
    env.run(&["run", "small.toml", "-q"]).ends_with(0);
    assert!(env.run(&["explain", "small.toml", "tuned"]).ends_with(0).stdout.contains("tuned: cached as"));
    let after = env.run(&["explain", "small.toml", "tuned", "--set", "stages.tuned.lr=3e-4"]).ends_with(0);
    assert!(after.stdout.contains("lr 0.0001 -> 0.0003 in stages.tuned"), "{}", after.stdout);
    env.run(&["explain", "small.toml", "tune"]).ends_with(5).says(&["`base`, `other`, `tuned`"]);
}

#[test]
fn parents_are_explained_in_turn() {
    let env = TestEnv::new();
    env.run(&["run", "small.toml", "-q"]).ends_with(0);
    let set = ["small.toml", "tuned", "--set", "stages.base.steps=5", "--set", "stages.tuned.seed=9"];
    let compared = &explained(&env, &set)["compared"];
    assert_eq!(compared["changes"], serde_json::json!(["seed 1 -> 9 in stages.tuned"]));
    assert_eq!(compared["parents"][0]["stage"], "base");
    assert_eq!(compared["parents"][0]["compared"]["changes"], serde_json::json!(["steps 3 -> 5 in stages.base"]));
    let text = env.run(&[&["explain"], &set[..]].concat()).ends_with(0).stdout;
    assert!(text.contains("because `base` changed:\n    steps 3 -> 5 in stages.base"), "{text}");
}

#[test]
fn a_changed_file_is_named_with_the_rows_that_changed() {
    let env = TestEnv::new();
    env.write(
        "data/rows.jsonl",
        "{\"q\": \"1\", \"a\": \"x\"}\n{\"q\": \"2\", \"a\": \"y\"}\n{\"q\": \"3\", \"a\": \"z\"}\n",
    );
    env.run(&["run", "small.toml", "-q"]).ends_with(0);
    env.write(
        "data/rows.jsonl",
        "{\"q\": \"1\", \"a\": \"x\"}\n{\"q\": \"2\", \"a\": \"Y\"}\n{\"q\": \"3\", \"a\": \"Z\"}\n",
    );
    let changed = "data/rows.jsonl changed: 2 rows of 3";
    assert_eq!(explained(&env, &["small.toml", "tuned"])["compared"]["changes"], serde_json::json!([changed]));
    let planned = env.run(&["plan", "small.toml", "--json"]).ends_with(0).json();
    let tuned = planned.iter().find(|stage| stage["stage"] == "tuned").unwrap();
    assert_eq!(tuned["reasons"], serde_json::json!([changed]), "the same words as in `plan`");
    env.write("models/tiny/model.safetensors", "other weights");
    let both = explained(&env, &["small.toml", "tuned"])["compared"]["changes"].to_string();
    assert!(both.contains("models/tiny changed") && both.contains(changed), "{both}");
}

/// A generator of edits: small, and the same on every machine.
struct Dice(u64);

impl Dice {
    fn below(&mut self, limit: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(self.0 >> 33).unwrap() % limit
    }
}

#[test]
fn what_plan_calls_a_hit_is_not_run_and_what_it_calls_a_miss_is() {
    let env = TestEnv::new();
    let mut dice = Dice(7);
    for round in 0..24 {
        let mut recipe = RECIPE.to_owned();
        for (line, values) in [
            ("seed = 1", ["seed = 1", "seed = 2", "seed = 1 # one"]),
            ("steps = 3", ["steps = 3", "steps = 5", "steps = 3\nlr = 1e-4"]),
            ("steps = 4", ["steps = 4", "steps = 3", "steps = 4\nafter = \"base\""]),
        ] {
            recipe = recipe.replace(line, values[dice.below(3)]);
        }
        recipe.push_str(["", "[sweep]\nmatrix = { \"stages.tuned.seed\" = [1, 2] }\n"][dice.below(2)]);
        recipe.push_str(["", "[runtime]\nthreads = 1\n"][dice.below(2)]);
        env.write("small.toml", &recipe);
        env.write(
            "data/rows.jsonl",
            ["{\"q\": \"1\", \"a\": \"x\"}\n", "{\"q\": \"2\", \"a\": \"y\"}\n"][dice.below(2)],
        );
        let only: &[&str] = [&["--only", "tuned"][..], &[]][dice.below(2)];
        if dice.below(4) == 0 {
            let cached = fs_err::read_dir(env.path("runs/cache")).map(|found| found.flatten().next());
            if let Ok(Some(entry)) = cached {
                fs_err::remove_dir_all(entry.path()).unwrap();
            }
        }
        let keys = |stages: &[Value], wanted: &str| -> Vec<String> {
            let stages = stages.iter().filter(|stage| stage["status"] == wanted);
            let mut keys: Vec<String> = stages.map(|stage| stage["key"].as_str().unwrap().to_owned()).collect();
            keys.sort();
            keys
        };
        let planned = env.run(&[&["plan", "small.toml", "--json"], only].concat()).ends_with(0).json();
        env.run(&[&["run", "small.toml", "-q"], only].concat()).ends_with(0);
        let ran = env.run(&["show", "latest", "--json"]).ends_with(0).json();
        assert_eq!(keys(&planned, "cached"), keys(&ran, "cached"), "round {round}: {recipe}");
        assert_eq!(keys(&planned, "pending"), keys(&ran, "ok"), "round {round}: {recipe}");
        let again = env.run(&[&["plan", "small.toml", "--json"], only].concat()).ends_with(0).json();
        assert!(keys(&again, "pending").is_empty(), "round {round}: nothing is left to run");
    }
}
