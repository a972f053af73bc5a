//! Learning with every loss type: a tiny model that sometimes writes a tag learns to always write it.

use crate::project::{Project, json_lines};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::fmt::Write as _;

/// Recipe in which SFT teaches an answer with the tag as one of twelve, and GRPO rewards only the tag. Two updates for
/// each rollout move ratios away from 1, so clipping takes effect.
const RECIPE: &str = r#"
name = "learning"
seed = 5

[model]
path = "models/tiny"

[data.habits]
path = "data/habits.jsonl"
prompt = "{{ question }}"
completion = "{{ answer }}"

[stages.sft]
kind = "sft"
data = "habits"
seq_len = 64
steps = 60
global_batch_size = 12
micro_batch_size = 12
lr = 3e-3

[stages.grpo]
kind = "grpo"
after = "sft"
data = "habits"
steps = 60
prompts_per_step = 2
group_size = 12
micro_batch_size = 24
updates_per_rollout = 2
max_prompt_tokens = 64
max_new_tokens = 10
lr = 3e-4

[stages.grpo.rewards.format]
tags = ["a"]

[sweep]
matrix = { "stages.grpo.loss_type" = ["grpo", "dapo", "dr_grpo", "gspo", "cispo"] }

[runtime]
device = "cpu"
threads = 1
"#;

/// Returns eleven plain answers and one with the tag, all to the same question.
fn habits() -> String {
    let mut lines = String::new();
    for i in 0..12 {
        let answer = if i == 0 { "<a>b</a>".to_owned() } else { format!("no {i}") };
        writeln!(lines, "{}", json!({ "question": "Which?", "answer": answer })).unwrap();
    }
    lines
}

/// Returns the mean reward of each step, by loss type.
fn curves(project: &Project) -> BTreeMap<String, Vec<f64>> {
    let mut curves = BTreeMap::new();
    for entry in fs_err::read_dir(project.path("runs/cache")).unwrap() {
        let dir = entry.unwrap().path();
        let key: Value = serde_json::from_str(&fs_err::read_to_string(dir.join("key.json")).unwrap()).unwrap();
        let Some(loss_type) = key["spec"]["work"]["grpo"]["loss"]["loss_type"].as_str() else { continue };
        let events = json_lines(&fs_err::read_to_string(dir.join("events.jsonl")).unwrap());
        let rewards = events.iter().filter_map(|event| event["kind"]["step"]["metrics"]["reward/mean"].as_f64());
        curves.insert(loss_type.to_owned(), rewards.collect());
    }
    curves
}

#[test]
fn every_loss_type_learns_to_write_a_tag() {
    let project = Project::new();
    project.write("data/habits.jsonl", &habits());
    project.write("recipes/learning.toml", RECIPE);
    project.succeed(&["run", "recipes/learning.toml"]);
    let curves = curves(&project);
    assert_eq!(curves.keys().collect::<Vec<_>>(), ["cispo", "dapo", "dr_grpo", "grpo", "gspo"]);
    for (loss_type, rewards) in curves {
        let last = &rewards[rewards.len() - 10..];
        let last = last.iter().sum::<f64>() / last.len() as f64;
        assert!(rewards[0] < 0.2, "{loss_type} knows it already: {}", rewards[0]);
        assert!(last > 0.9, "{loss_type} ends at {last}: {rewards:?}");
    }
}
