//! Snapshots of training stages, and their evaluations.

use crate::project::{Project, RECIPE, json_lines};
use crate::resume::{kill, wait_for_step};
use serde_json::Value;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Stdio;

/// Returns a project whose `sft` and `grpo` have 4 steps each at a constant learning rate, and an evaluation.
fn project(keys_of_sft: &str, keys_of_grpo: &str, keys_of_eval: &str) -> Project {
    let project = Project::new();
    let (before, after) = RECIPE.split_once("[stages.sft]").unwrap();
    let recipe = format!("{before}[stages.sft]\n{keys_of_sft}{after}");
    let recipe = recipe
        .replace("steps = 3", "steps = 1")
        .replace("steps = 6", "steps = 4\nschedule = \"constant\"")
        .replace("steps = 5", &format!("steps = 4\n{keys_of_grpo}"))
        .replace("after = \"grpo\"\n", &format!("after = \"grpo\"\n{keys_of_eval}"));
    project.write("recipes/tiny.toml", recipe.split_once("[sweep]").unwrap().0);
    project
}

/// Replaces `from`, which must occur, in the recipe of `project`.
fn edit(project: &Project, from: &str, to: &str) {
    let recipe = fs_err::read_to_string(project.path("recipes/tiny.toml")).unwrap();
    assert!(recipe.contains(from), "the recipe has no `{from}`");
    project.write("recipes/tiny.toml", &recipe.replace(from, to));
}

fn result(dir: &Path) -> Vec<u8> {
    let mut bytes = fs_err::read(dir.join("adapter_model.safetensors")).unwrap();
    if dir.join("completions.parquet").exists() {
        bytes.extend(fs_err::read(dir.join("completions.parquet")).unwrap());
    }
    bytes
}

fn plan(project: &Project) -> Vec<Value> {
    project.plan()
}

fn dir(project: &Project, stage: &str) -> PathBuf {
    let plan = plan(project);
    let found = plan.iter().find(|line| line["stage"] == stage).unwrap_or_else(|| panic!("no stage {stage}: {plan:?}"));
    project.path("runs/cache").join(found["key"].as_str().unwrap())
}

#[test]
fn a_snapshot_is_the_end_of_a_shorter_run_to_the_bit() {
    let whole = project("snapshots = { every = 2 }\n", "snapshots = [2]\n", "");
    whole.succeed(&["run", "recipes/tiny.toml", "--only", "grpo@2"]);
    whole.succeed(&["run", "recipes/tiny.toml", "--only", "grpo"]);
    let kept = project("snapshots = { every = 2 }\n", "snapshots = [2]\n", "");
    let lines = json_lines(&kept.succeed(&["run", "recipes/tiny.toml", "--json"]));
    let line = |stage: &str| lines.iter().find(|line| line["stage"] == stage).unwrap();
    for stage in ["sft@2", "grpo@2"] {
        assert_eq!(line(stage)["status"], "cached", "the worker of the whole training wrote it: {}", line(stage));
    }
    let short = project("", "", "");
    let shorter = ["--set", "stages.sft.steps=4", "--set", "stages.grpo.steps=2"];
    short.succeed(&[&["run", "recipes/tiny.toml", "--only", "grpo"], &shorter[..]].concat());
    let plan = json_lines(&short.succeed(&[&["plan", "--json", "recipes/tiny.toml"], &shorter[..]].concat()));
    let key = plan.iter().find(|line| line["stage"] == "grpo").unwrap()["key"].as_str().unwrap().to_owned();
    let of_short_run = result(&short.path("runs/cache").join(key));
    assert!(result(&dir(&kept, "grpo@2")) == of_short_run, "the snapshot differs from the end of 2 steps");
    assert!(result(&dir(&whole, "grpo@2")) == of_short_run, "a snapshot that was trained alone differs");
    assert!(result(&dir(&whole, "grpo")) == result(&dir(&kept, "grpo")), "a snapshot changed the training");
    assert!(result(&dir(&kept, "grpo@2")) != result(&dir(&kept, "grpo")));
    // the events of a snapshot end with it, and its metrics are those of its steps
    let events = fs_err::read_to_string(dir(&kept, "grpo@2").join("events.jsonl")).unwrap();
    let steps = json_lines(&events).iter().filter_map(|event| event["kind"]["step"]["step"].as_u64()).max();
    assert_eq!(steps, Some(2));
}

#[test]
fn a_key_does_not_depend_on_the_snapshots_that_are_kept() {
    let keys = |project: &Project, stage: &str| dir(project, stage);
    let (plain, kept) =
        (project("", "", ""), project("snapshots = [1]\n", "snapshots = { every = 1 }\n", "at = [2]\n"));
    for stage in ["sft", "grpo", "eval"] {
        assert_eq!(keys(&plain, stage).file_name(), keys(&kept, stage).file_name(), "{stage}");
    }
    let names: Vec<String> = plan(&kept).iter().map(|line| line["stage"].as_str().unwrap().to_owned()).collect();
    let mut sorted = names.clone();
    sorted.sort();
    assert_eq!(sorted, ["cpt", "eval", "eval@2", "grpo", "grpo@1", "grpo@2", "grpo@3", "sft", "sft@1"]);
}

#[test]
fn a_killed_stage_keeps_the_same_snapshots() {
    let keys = "snapshots = [1, 3]\n";
    let whole = project(keys, "", "");
    whole.succeed(&["run", "recipes/tiny.toml", "--only", "sft", "--only", "sft@1", "--only", "sft@3"]);
    let killed = project(keys, "", "");
    let mut child =
        killed.command(&["run", "recipes/tiny.toml", "--only", "sft", "--only", "sft@1", "--only", "sft@3"]);
    let mut child = child.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    kill(wait_for_step(&killed, &mut child, "sft", 2));
    child.wait().unwrap();
    killed.succeed(&["resume"]);
    for stage in ["sft", "sft@1", "sft@3"] {
        assert!(result(&dir(&whole, stage)) == result(&dir(&killed, stage)), "{stage}");
    }
}

#[test]
fn evaluations_of_snapshots_are_a_curve_of_held_out_metrics() {
    let project = project("", "snapshots = { every = 2 }\n", "at = \"all\"\n");
    project.succeed(&["run", "recipes/tiny.toml"]);
    let metrics = |stage: &str| -> Value {
        serde_json::from_str(&fs_err::read_to_string(dir(&project, stage).join("metrics.json")).unwrap()).unwrap()
    };
    let (at_2, end) = (metrics("eval@2"), metrics("eval"));
    let names: Vec<String> = plan(&project).iter().map(|line| line["stage"].as_str().unwrap().to_owned()).collect();
    assert!(!names.contains(&"eval@4".to_owned()), "the last step is the stage's end: {names:?}");
    assert_ne!(at_2["eval/reward/semantic"]["value"], end["eval/reward/semantic"]["value"]);
    project.succeed(&["report", "latest", "-o", "report.html"]);
    let page = fs_err::read_to_string(project.path("report.html")).unwrap();
    assert!(page.contains("in eval</span></figcaption>"), "the report has no curve of the evaluations");
    // one evaluation alone is no line over steps
    let single = self::project("", "", "");
    single.succeed(&["run", "recipes/tiny.toml"]);
    single.succeed(&["report", "latest", "-o", "report.html"]);
    assert!(!fs_err::read_to_string(single.path("report.html")).unwrap().contains("in eval</span></figcaption>"));
}

#[test]
fn the_best_snapshot_is_chosen_on_rows_that_are_neither_trained_on_nor_reported() {
    let project = |at: &str| {
        let project = project("", "snapshots = { every = 1 }\n", at);
        edit(&project, "eval_fraction = 0.25", "eval_fraction = 0.25\ndev_fraction = 0.25");
        project.succeed(&["run", "recipes/tiny.toml"]);
        project
    };
    let best = project("at = \"best\"\nbest_by = \"semantic\"\n");
    let metrics = |project: &Project, stage: &str| -> Value {
        serde_json::from_str(&fs_err::read_to_string(dir(project, stage).join("metrics.json")).unwrap()).unwrap()
    };
    let value = |metrics: &Value, name: &str| metrics[name]["value"].as_f64().unwrap_or_else(|| panic!("no {name}"));
    let on_development_rows: Vec<f64> =
        (1..=4).map(|step| value(&metrics(&best, &format!("eval.dev@{step}")), "eval/reward/semantic")).collect();
    // of equal values, the first
    let highest = on_development_rows.iter().copied().fold(f64::MIN, f64::max);
    let place = on_development_rows.iter().position(|value| *value >= highest).unwrap();
    let measured = metrics(&best, "eval");
    let chosen = ["chosen_step", "chosen/reward/semantic", "last/reward/semantic"]
        .map(|name| value(&measured, &format!("eval/{name}")));
    let expected = [(place + 1) as f64, highest, on_development_rows[3]];
    assert!(chosen.iter().zip(&expected).all(|(found, expected)| found.total_cmp(expected).is_eq()), "{chosen:?}");
    assert!(on_development_rows[3] < highest, "the last step is not the best here: {on_development_rows:?}");
    // what is reported is what the evaluation of that snapshot alone measures
    let all = project("at = \"all\"\n");
    let alone = metrics(&all, &format!("eval@{}", place + 1));
    let last = metrics(&all, "eval");
    for name in ["eval/reward/semantic", "eval/accuracy", "eval/perplexity"] {
        assert_eq!(alone[name], measured[name], "{name}");
        assert_eq!(last[name], metrics(&best, "eval@4")[name], "{name}");
    }
    // no row is on two sides
    let asked = |stage: &str| -> BTreeSet<String> {
        let lines = json_lines(&best.succeed(&["samples", "latest", stage, "--json", "--limit", "0"]));
        lines.iter().map(|line| line["prompt"].as_str().unwrap().to_owned()).collect()
    };
    let (trained, development, reported) = (asked("grpo"), asked("eval.dev@1"), asked("eval"));
    assert!(!trained.is_empty() && !development.is_empty() && !reported.is_empty());
    for (one, other) in [(&trained, &development), (&trained, &reported), (&development, &reported)] {
        assert!(one.is_disjoint(other), "{one:?} {other:?}");
    }
    // the report says what was gained
    best.succeed(&["report", "latest", "-o", "report.html"]);
    let page = fs_err::read_to_string(best.path("report.html")).unwrap();
    assert!(
        page.contains(&format!("measures the snapshot after step {}, the best by semantic", place + 1)),
        "no choice"
    );
    assert!(page.contains("at the last step (") && page.contains("on development rows, by which it was chosen"));
}
