//! Advantages that differ between the tokens of a completion.

use crate::project::{Project, RECIPE as TINY, json_lines};
use crate::resume::{killed_and_resumed, result, uninterrupted_in};
use serde_json::{Value, json};
use std::fmt::Write as _;

const OWEN: &str = "stages.grpo.credit={ kind = \"owen\", of = \"semantic\", segments = \"words:1\", coalitions = \"all\", \
                    max_coalitions = 6 }";
const SOFT_RETURN: &str = "stages.grpo.credit={ kind = \"soft_return\", beta = 0.1 }";
const UNSCALED: &str = "stages.grpo.scale_rewards=\"none\"";

/// Returns a project with one variant, which is rewarded by the cosine similarity of an encoder.
fn project() -> Project {
    let project = Project::new();
    project.write("recipes/tiny.toml", TINY.split_once("[sweep]").unwrap().0);
    project
}

#[test]
fn credit_that_is_dealt_out_alike_changes_no_bit() {
    let plain = uninterrupted_in(&project(), "grpo", &[UNSCALED]);
    let uniform = project();
    assert!(uninterrupted_in(&uniform, "grpo", &[UNSCALED, "stages.grpo.credit={ kind = \"uniform\" }"]) == plain);
    let floor = OWEN.replace("max_coalitions = 6", "max_coalitions = 6, floor = 1.0");
    assert!(uninterrupted_in(&project(), "grpo", &[UNSCALED, &floor]) == plain, "`floor = 1` changed a bit");
    let without = SOFT_RETURN.replace("0.1", "0.0");
    assert!(uninterrupted_in(&project(), "grpo", &[UNSCALED, &without]) == plain, "`beta = 0` changed a bit");
    for credit in [OWEN, SOFT_RETURN] {
        assert!(uninterrupted_in(&project(), "grpo", &[UNSCALED, credit]) != plain, "{credit} changes nothing");
    }
}

#[test]
fn a_killed_stage_with_credits_ends_with_the_same_bits() {
    for credit in [OWEN, SOFT_RETURN] {
        let settings = [UNSCALED, credit, "stages.grpo.steps=4"];
        let whole = project();
        let expected = uninterrupted_in(&whole, "grpo", &settings);
        assert!(killed_and_resumed(&project(), "grpo", &settings, &[1, 2]) == expected, "{credit}");
        assert!(result(&whole, "grpo").is_some());
    }
}

/// SFT teaches sentences of which one in four has a tag, and GRPO rewards the share of sentences with one.
const RECIPE: &str = r#"
name = "credit"
seed = 5

[model]
path = "models/tiny"

[data.habits]
path = "data/habits.jsonl"
prompt = "{{ question }}"
completion = "{{ answer }}"
reference = "t"

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
steps = 40
prompts_per_step = 2
group_size = 12
micro_batch_size = 24
max_prompt_tokens = 64
max_new_tokens = 24
lr = 3e-4
[stages.grpo.rewards.tags]
kind = "command"
command = ["python3", "scripts/tags.py"]
files = ["scripts/tags.py"]
scope = "completion"

[sweep]
base_name = "uniform"
matrix = { "stages.grpo.seed" = [5, 6, 7] }
[[sweep.variants]]
name = "owen"
set = { "stages.grpo.credit" = { kind = "owen", of = "tags", segments = "words:1", coalitions = "all" } }

[runtime]
device = "cpu"
threads = 1
"#;

/// Counts the letter t among three words.
const TAGS: &str = r#"
import json, sys
for line in sys.stdin:
    question = json.loads(line)
    words = question["text"].split()
    print(json.dumps({"id": question["id"], "value": sum(word == "t" for word in words) / 3}), flush=True)
"#;

/// Returns every answer of three words, of which each is `t` in one of four.
fn answers() -> String {
    let mut lines = String::new();
    let words = ["t", "u", "v", "w"];
    for (one, two, three) in (0..64).map(|i| (i % 4, i / 4 % 4, i / 16)) {
        let answer = format!("{} {} {}", words[one], words[two], words[three]);
        writeln!(lines, "{}", json!({ "question": "Which?", "answer": answer })).unwrap();
    }
    lines
}

#[test]
fn credit_by_words_learns_no_slower_than_credit_alike() {
    let project = Project::new();
    project.write("data/habits.jsonl", &answers());
    project.write("scripts/tags.py", TAGS);
    project.write("recipes/tiny.toml", RECIPE);
    project.succeed(&["run", "recipes/tiny.toml"]);
    let mut steps: [Vec<usize>; 2] = [Vec::new(), Vec::new()];
    for line in project.plan().iter().filter(|line| line["stage"] == "grpo") {
        let dir = project.path("runs/cache").join(line["key"].as_str().unwrap());
        let events = json_lines(&fs_err::read_to_string(dir.join("events.jsonl")).unwrap());
        let at = |event: &Value, name: &str| event["kind"]["step"]["metrics"][name].as_f64();
        let rewards: Vec<f64> = events.iter().filter_map(|event| at(event, "reward/mean")).collect();
        assert!(rewards[0] < 0.45, "it knows it already: {rewards:?}");
        let mean = |part: &[f64]| part.iter().sum::<f64>() / part.len() as f64;
        let reached = (3..=rewards.len()).find(|&end| mean(&rewards[end - 3..end]) > 0.9);
        let is_owen = line["variant"].to_string().contains("owen");
        steps[usize::from(is_owen)]
            .push(reached.unwrap_or_else(|| panic!("{} does not learn: {rewards:?}", line["variant"])));
        let coalitions: Vec<f64> = events.iter().filter_map(|event| at(event, "credit/coalitions")).collect();
        assert_eq!(coalitions.iter().any(|count| *count > 0.0), is_owen, "{coalitions:?}");
    }
    let [uniform, owen] = steps.map(|mut steps| {
        steps.sort_unstable();
        steps[steps.len() / 2]
    });
    assert!(owen <= uniform, "{owen} steps by words, {uniform} alike");
}
