//! Stages that generate answers, and stages that train on them.

use crate::project::{Project, RECIPE, json_lines};
use crate::resume::{killed_and_resumed, result, uninterrupted_in};
use orchestrate_core::digest::{Digest, canonical_json};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};

/// Rejection sampling: the best of several answers to each question is what the next stage learns.
const STAGES: &str = r#"
[data.best]
path = "stage:generate"
where = "reward is not none"
keep = "best 1 per question"
prompt = "{{ prompt }}"
completion = "{{ completion }}"

[stages.generate]
kind = "generate"
after = "sft"
data = "mcq"
temperature = 1.0
max_prompt_tokens = 200
max_new_tokens = 12
samples_per_question = 2
batch_size = 2
[stages.generate.rewards.rouge]
scope = "completion"
[stages.generate.rewards.length]
scope = "completion"
max_words = 9
tolerance_words = 3
[stages.generate.rewards.entropy]
weight = 0.0
target = 100.0

[stages.again]
kind = "sft"
after = "sft"
data = "best"
seq_len = 256
steps = 2
global_batch_size = 4
micro_batch_size = 2
lr = 1e-2
"#;

fn project() -> Project {
    let project = Project::new();
    let (training, _) = RECIPE.split_once("[stages.grpo]").unwrap();
    let training = training.replace("steps = 6", "steps = 1").replace("steps = 3", "steps = 1");
    let runtime = RECIPE.split_once("[runtime]").unwrap().1.split_once("[sweep]").unwrap().0;
    let eval = "[stages.eval]\nkind = \"eval\"\nafter = \"again\"\ndata = \"mcq\"\nmax_prompt_tokens = 200\n\
                max_new_tokens = 4\n[stages.eval.rewards.rouge]\nscope = \"completion\"\n";
    project.write("recipes/tiny.toml", &format!("{training}{STAGES}{eval}[runtime]{runtime}"));
    project
}

/// Returns the identifiers of the rows of the questions, by content.
fn ids(project: &Project) -> BTreeMap<String, Value> {
    let text = fs_err::read_to_string(project.path("data/mcq.jsonl")).unwrap();
    let id = |row: &Value| Digest::of(canonical_json(row).as_bytes()).as_str()[..16].to_owned();
    json_lines(&text).into_iter().map(|row| (id(&row), row)).collect()
}

fn answers(project: &Project) -> Vec<Value> {
    json_lines(&fs_err::read_to_string(project.checkpoint("generate").join("generations.jsonl")).unwrap())
}

#[test]
fn the_best_answers_to_training_questions_become_training_data() {
    let project = project();
    project.succeed(&["run", "recipes/tiny.toml"]);
    let (questions, answers) = (ids(&project), answers(&project));
    let mut asked: BTreeMap<&str, Vec<&Value>> = BTreeMap::new();
    for answer in &answers {
        let id = answer["question_id"].as_str().unwrap();
        asked.entry(id).or_default().push(answer);
        // all fields of the row are there
        for (field, value) in questions[id].as_object().unwrap() {
            assert_eq!(answer[field], *value, "{field}");
        }
        assert_eq!((&answer["data_set"], &answer["held_out"]), (&"mcq".into(), &false.into()));
        let value = |name: &str| answer["rewards"][name].as_f64().unwrap();
        // no distribution over the vocabulary has so high an entropy, and none has a negative one
        assert!((-100.0..-80.0).contains(&value("entropy")), "{answer}");
        let total = answer["reward"].as_f64().unwrap();
        assert!((total - value("rouge") - value("length")).abs() < 1e-12, "{answer}");
    }
    assert!(asked.len() > 10 && asked.values().all(|answers| answers.len() == 2), "{}", asked.len());
    // each question is on the training side, and what is trained on is its better answer
    let eval_side = |id: &str| u64::from_str_radix(&id[..13], 16).unwrap() as f64 / (1u64 << 52) as f64 <= 0.25;
    assert!(asked.keys().all(|id| !eval_side(id)));
    let report = project.succeed(&["check", "--show-data", "recipes/tiny.toml", "--json"]);
    let of_again = json_lines(&report).into_iter().find(|line| line["stage"] == "again").unwrap();
    assert_eq!(of_again["data"][0]["rows"], asked.len());
    let best: BTreeSet<String> = asked.values().map(|answers| best(answers)).collect();
    let example: String = of_again["data"][0]["example"]["spans"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|span| span["trained"] == true)
        .map(|span| span["text"].as_str().unwrap())
        .collect();
    let trained = example.trim_end_matches("<|im_end|>");
    assert!(best.iter().any(|text| text == trained), "{trained:?} is none of the best answers");
    // a second run finds everything
    let again = json_lines(&project.succeed(&["run", "recipes/tiny.toml", "--json"]));
    assert!(again.iter().all(|line| line["status"] == "cached"), "{again:?}");
}

/// Returns the better of two answers; of equal ones the first.
fn best(answers: &[&Value]) -> String {
    let reward = |answer: &Value| answer["reward"].as_f64().unwrap();
    let better = if reward(answers[1]) > reward(answers[0]) { answers[1] } else { answers[0] };
    better["completion"].as_str().unwrap().to_owned()
}

#[test]
fn a_killed_stage_goes_on_and_writes_the_same_answers() {
    let settings = ["stages.generate.samples_per_question=4"];
    let uninterrupted = uninterrupted_in(&project(), "generate", &settings);
    let project = project();
    assert!(killed_and_resumed(&project, "generate", &settings, &[1, 3]) == uninterrupted);
    assert!(result(&project, "generate").is_some());
}

#[test]
fn answers_to_held_out_questions_are_generated_but_not_trained_on() {
    let project = project();
    let all = ["--set", "stages.generate.split=all"];
    project.succeed(&[&["run", "recipes/tiny.toml"], &all[..]].concat());
    let report = project.succeed(&[&["check", "--show-data", "recipes/tiny.toml", "--json"], &all[..]].concat());
    let of_again = json_lines(&report).into_iter().find(|line| line["stage"] == "again").unwrap();
    let plan = json_lines(&project.succeed(&[&["plan", "--json", "recipes/tiny.toml"], &all[..]].concat()));
    let key = plan.iter().find(|line| line["stage"] == "generate").unwrap()["key"].as_str().unwrap().to_owned();
    let text = fs_err::read_to_string(project.path("runs/cache").join(key).join("generations.jsonl")).unwrap();
    let answers = json_lines(&text);
    let held_out = answers.iter().filter(|answer| answer["held_out"] == true).count();
    assert!(held_out > 0 && answers.len() == 48, "{held_out} of {}", answers.len());
    let data = &of_again["data"][0];
    assert_eq!(data["left_out"], held_out);
    assert_eq!(data["rows"], (answers.len() - held_out) / 2);
    let key = plan.iter().find(|line| line["stage"] == "again").unwrap()["key"].as_str().unwrap();
    let events = fs_err::read_to_string(project.path("runs/cache").join(key).join("events.jsonl")).unwrap();
    assert!(events.contains("rows answer questions that the recipe measures"), "{events}");
}
