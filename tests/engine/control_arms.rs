//! Control arms and reward arithmetic in real runs of a tiny model.

use crate::project::{Project, json_lines};
use serde_json::{Value, json};

/// SFT teaches an answer with a tag as one of twelve. One arm is rewarded for the tag, the other at random.
const RECIPE: &str = r#"
name = "controls"

[model]
path = "models/tiny"

[data.habits]
path = "data/habits.jsonl"
prompt = "{{ question }}"
completion = "{{ answer }}"

[stages.sft]
kind = "sft"
data = "habits"
seed = 5
seq_len = 64
steps = 60
global_batch_size = 12
micro_batch_size = 12
lr = 3e-3

[stages.grpo]
kind = "grpo"
after = "sft"
data = "habits"
steps = 30
prompts_per_step = 2
group_size = 12
micro_batch_size = 24
updates_per_rollout = 2
max_prompt_tokens = 64
max_new_tokens = 10
lr = 3e-4
[stages.grpo.rewards.format]
tags = ["a"]

[stages.eval]
kind = "eval"
after = "grpo"
data = "habits"
split = "all"
max_prompt_tokens = 64
max_new_tokens = 10
temperature = 1.0
samples_per_question = 4
rewards = "all"

[compare]
baseline = "sft"
metric = "format"

[sweep]
base_name = "tag"
matrix = { seed = [1, 2] }
[[sweep.variants]]
name = "coin"
set = { "stages.grpo.rewards" = { random = { distribution = "bernoulli", probability = 0.25 } } }
[[sweep.variants]]
name = "sft"
set = { "stages.eval.after" = "sft" }
unset = ["stages.grpo"]

[runtime]
device = "cpu"
threads = 1
"#;

#[test]
fn a_reward_exceeds_the_control_and_the_control_does_not_move() {
    let project = Project::new();
    project.write("data/habits.jsonl", &crate::learning::habits());
    project.write("recipes/controls.toml", RECIPE);
    project.succeed(&["run", "recipes/controls.toml"]);
    let lines = json_lines(&project.succeed(&["compare", "--json"]));
    let controls: Vec<&Value> = lines.iter().filter(|line| line["what"] == "control").collect();
    let [control] = controls[..] else { panic!("one control arm: {lines:?}") };
    assert_eq!((&control["control"], &control["components"]), (&json!("coin"), &json!(["random"])));
    assert_eq!(control["moved"]["verdict"], "not_separable", "{control}");
    let treatments = control["treatments"].as_array().unwrap();
    assert_eq!(treatments.iter().map(|row| &row["arm"]).collect::<Vec<_>>(), ["tag"]);
    assert!(treatments[0]["difference"].as_f64().unwrap() > 0.5, "{control}");
    let shown = project.succeed(&["compare"]);
    assert!(shown.contains("control coin (random): format moved "), "{shown}");
    project.succeed(&["report"]);
    let page = fs_err::read_to_string(project.path("report.html")).unwrap();
    assert!(page.contains("control coin (random): format moved "), "the report has the line");
}

/// Gates, exponent, floor and leave-one-out, recomputed from the values that the stage recorded.
#[test]
#[allow(clippy::float_cmp, reason = "0 and 1 are exact")]
fn rewards_and_advantages_of_a_run_follow_the_arithmetic_of_its_recipe() {
    let project = Project::new();
    let (recipe, _) = crate::project::RECIPE.split_once("[sweep]").unwrap();
    let (grpo, semantic) = ("[stages.grpo]\n", "[stages.grpo.rewards.semantic]\n");
    assert!(recipe.contains(grpo) && recipe.contains(semantic));
    let stage = format!(
        "{grpo}total = \"floor_mean\"\nfloor = [\"random\"]\nadvantage_baseline = \"leave_one_out\"\nscale_rewards = \"none\"\n"
    );
    let rewards = format!(
        "[stages.grpo.rewards.random]\ndistribution = \"bernoulli\"\nprobability = 0.5\n{semantic}requires = [\"random\"]\nexponent = 2.0\nweight = 3.0\n"
    );
    project.write("recipes/tiny.toml", &recipe.replace(grpo, &stage).replace(semantic, &rewards));
    project.succeed(&["run", "recipes/tiny.toml", "--only", "grpo"]);
    let events = fs_err::read_to_string(project.checkpoint("grpo").join("events.jsonl")).unwrap();
    let completions: Vec<Value> = json_lines(&events)
        .into_iter()
        .filter_map(|mut event| Some(event["kind"].get_mut("completion")?.take()))
        .collect();
    assert_eq!(completions.len(), 5 * 2 * 3, "steps, prompts, completions");
    let (mut open, mut closed) = (0, 0);
    for group in completions.chunks(3) {
        let rewards: Vec<f64> = group.iter().map(|completion| completion["reward"].as_f64().unwrap()).collect();
        for (place, completion) in group.iter().enumerate() {
            let parts = completion["parts"].as_object().unwrap();
            let value = |name: &str| parts[name]["value"].as_f64().unwrap();
            let contributions =
                parts.values().map(|part| part["weight"].as_f64().unwrap() * part["value"].as_f64().unwrap());
            let mean = contributions.sum::<f64>() / parts.len() as f64;
            assert!((rewards[place] - mean.min(value("random"))).abs() < 1e-12, "{completion}");
            if value("random") == 0.0 {
                assert_eq!(value("semantic"), 0.0, "behind a closed gate");
                closed += 1;
            } else {
                assert_ne!(value("semantic"), 0.0, "behind an open gate");
                open += 1;
            }
            let others = (rewards.iter().sum::<f64>() - rewards[place]) / 2.0;
            assert!((completion["advantage"].as_f64().unwrap() - (rewards[place] - others)).abs() < 1e-12);
        }
    }
    assert!(open > 3 && closed > 3, "{open} open, {closed} closed");
}
