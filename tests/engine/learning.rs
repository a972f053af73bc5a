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
pub(crate) fn habits() -> String {
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

/// Recipe in which SFT teaches two habits, the same letter again and again and random digits, and GRPO rewards only an
/// entropy: that of the first habit or that of the second.
const ENTROPY: &str = r#"
name = "entropy"
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
steps = 80
global_batch_size = 16
micro_batch_size = 16
lr = 3e-3

[stages.grpo]
kind = "grpo"
after = "sft"
data = "habits"
steps = 30
prompts_per_step = 1
group_size = 16
micro_batch_size = 16
max_prompt_tokens = 64
max_new_tokens = 10
lr = 3e-4

[stages.grpo.rewards.entropy]
target = 1.0

[sweep]
matrix = { "stages.grpo.rewards.entropy.target" = [0.0, 1.8] }

[runtime]
device = "cpu"
threads = 1
"#;

/// Returns answers of one letter, and as many of random digits, to the same question.
fn letters_and_digits() -> String {
    let mut lines = String::new();
    let mut digits = 1_u64;
    for _ in 0..48 {
        digits = digits.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        for answer in ["aaaaaaaa".to_owned(), format!("{:08}", (digits >> 20) % 100_000_000)] {
            writeln!(lines, "{}", json!({ "question": "Which?", "answer": answer })).unwrap();
        }
    }
    lines
}

#[test]
fn the_entropy_of_the_policy_moves_to_the_target() {
    let project = Project::new();
    project.write("data/habits.jsonl", &letters_and_digits());
    project.write("recipes/learning.toml", ENTROPY);
    project.succeed(&["run", "recipes/learning.toml"]);
    let mut moved = Vec::new();
    for entry in fs_err::read_dir(project.path("runs/cache")).unwrap() {
        let dir = entry.unwrap().path();
        let key: Value = serde_json::from_str(&fs_err::read_to_string(dir.join("key.json")).unwrap()).unwrap();
        let rewards = &key["spec"]["work"]["grpo"]["rewards"];
        let Some(target) = rewards["entropy"]["component"]["entropy"]["target"].as_f64() else { continue };
        let events = json_lines(&fs_err::read_to_string(dir.join("events.jsonl")).unwrap());
        let nats = events.iter().filter_map(|event| event["kind"]["step"]["metrics"]["reward/entropy_nats"].as_f64());
        let nats: Vec<f64> = nats.collect();
        let mean = |part: &[f64]| part.iter().sum::<f64>() / part.len() as f64;
        let (first, last) = (mean(&nats[..3]), mean(&nats[nats.len() - 10..]));
        assert!((first - target).abs() > 0.5, "{target} is where it starts: {nats:?}");
        assert!((last - target).abs() < 0.25, "{target}: {nats:?}");
        moved.push(target);
    }
    moved.sort_by(f64::total_cmp);
    assert_eq!(moved, [0.0, 1.8]);
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
