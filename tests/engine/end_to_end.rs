//! Recipes from start to history with the real binaries, on the tiny project.

use crate::project::{Project, RECIPE, json_lines};
use orchestrate_core::metric::Metric;
use parquet::file::reader::{FileReader as _, SerializedFileReader};
use serde_json::{Value, json};
use std::collections::BTreeSet;

#[test]
fn a_recipe_runs_from_start_to_history_and_shares_what_its_variants_have_in_common() {
    let project = Project::new();
    let before = project.plan();
    // cpt and sft once, grpo and eval once for each variant
    assert_eq!(before.len(), 6, "{before:#?}");
    assert!(before.iter().all(|line| line["status"] == "pending"));

    let table = project.succeed(&["run", "recipes/tiny.toml"]);
    for word in ["semantic", "rouge", "accuracy", "perplexity", "["] {
        assert!(table.contains(word), "the table lacks `{word}`:\n{table}");
    }
    assert!(project.plan().iter().all(|line| line["status"] == "cached"));

    let history = json_lines(&project.succeed(&["history", "--json"]));
    assert_eq!(history.len(), 6, "{history:#?}");
    let eval = history.iter().find(|row| row["kind"] == "eval").unwrap();
    for name in ["eval/accuracy", "eval/perplexity", "eval/text_perplexity", "eval/reward/semantic"] {
        assert!(eval["metrics"][name].is_number() || eval["metrics"][name].is_object(), "no {name} in {eval:#}");
    }
    let sft = project.checkpoint("sft");
    for name in ["adapter_model.safetensors", "adapter_config.json", "manifest.json", "key.json", "events.jsonl"] {
        assert!(sft.join(name).exists(), "the checkpoint lacks {name}");
    }

    let show = project.succeed(&["show", "latest"]);
    assert!(show.contains("grpo"), "{show}");
    let metrics = project.succeed(&["metrics", "latest", "grpo"]);
    assert!(metrics.contains("reward/mean"), "{metrics}");
    let samples = project.succeed(&["samples", "latest", "grpo"]);
    assert!(samples.contains("Which organ"), "{samples}");
    every_metric_is_in_the_table(&project);
}

/// Checks that all metrics in the events of all stages are registered, so that no property is guessed from a name.
fn every_metric_is_in_the_table(project: &Project) {
    let mut names = BTreeSet::new();
    for dir in std::fs::read_dir(project.path("runs/cache")).unwrap() {
        let events = std::fs::read_to_string(dir.unwrap().path().join("events.jsonl")).unwrap();
        for event in json_lines(&events) {
            let measured = [&event["kind"]["step"]["metrics"], &event["kind"]["finished"]];
            names.extend(measured.into_iter().filter_map(Value::as_object).flat_map(|map| map.keys().cloned()));
        }
    }
    assert!(names.len() > 40, "{names:?}");
    let unknown: Vec<&String> = names.iter().filter(|name| Metric::of(name).is_none()).collect();
    assert!(unknown.is_empty(), "`orchestrate_core::metric` lacks {unknown:?}");
}

#[test]
fn every_completion_of_a_stage_is_in_its_parquet_file() {
    let project = Project::new();
    let held_out = RECIPE.replace("[stages.grpo.rewards.cot]\n", "[stages.grpo.rewards.cot]\nweight = 0\n");
    project.write("recipes/tiny.toml", held_out.split("[sweep]").next().unwrap());
    project.succeed(&["run", "recipes/tiny.toml", "--only", "grpo"]);
    let file = project.succeed(&["samples", "latest", "grpo", "--parquet"]);
    assert!(project.succeed(&["show", "latest"]).contains(file.trim()), "`show` does not tell of {file}");
    let file = std::fs::File::open(project.path(file.trim())).unwrap();
    let rows = SerializedFileReader::new(file).unwrap();
    let rows: Vec<Value> = rows.get_row_iter(None).unwrap().map(|row| row.unwrap().to_json_value()).collect();
    let samples =
        json_lines(&project.succeed(&["samples", "latest", "grpo", "--step", "..", "--limit", "0", "--json"]));
    assert_eq!(rows.len(), 5 * 2 * 3, "steps, prompts, completions");
    for (row, sample) in rows.iter().zip(&samples) {
        for name in ["step", "row", "index", "prompt", "completion", "reference", "tokens", "reward", "advantage"] {
            assert_eq!(row[name], sample[name], "{name}");
        }
        assert_eq!((&row["reward/cot"], &row["weight/cot"]), (&sample["parts"]["cot"]["value"], &json!(0.0)));
        let parts = ["semantic", "correctness", "format"].map(|name| row[format!("reward/{name}")].as_f64().unwrap());
        assert!(
            (parts.iter().sum::<f64>() - row["reward"].as_f64().unwrap()).abs() < 1e-9,
            "a held-out part counts: {row}"
        );
    }
    assert_eq!(rows.len(), samples.len());

    let metrics = json_lines(&project.succeed(&["metrics", "latest", "grpo", "--json"]));
    let names: std::collections::BTreeSet<&str> = metrics.iter().map(|line| line["name"].as_str().unwrap()).collect();
    for name in ["reward/cot", "reward/cot_std", "reward/semantic_share", "completion/tokens_max", "time/decode_s"] {
        assert!(names.contains(name), "no {name} in {names:?}");
    }
    assert!(!names.contains("reward/cot_share"), "a held-out component has a share");
    let shares = ["semantic", "correctness", "format"].map(|name| {
        let name = format!("reward/{name}_share");
        metrics.iter().find(|line| line["name"] == name.as_str() && line["step"] == 1).unwrap()["value"]
            .as_f64()
            .unwrap()
    });
    assert!((shares.iter().sum::<f64>() - 1.0).abs() < 1e-9, "{shares:?}");
}

#[test]
fn a_stage_warns_of_repeated_completions_and_a_length_penalty_is_a_column() {
    let project = Project::new();
    project.write("recipes/tiny.toml", RECIPE.split("[sweep]").next().unwrap());
    let greedy = ["stages.grpo.top_p=1e-6", "stages.grpo.steps=21", "stages.grpo.overlong_buffer_tokens=8"];
    let settings = greedy.iter().flat_map(|setting| ["--set", setting]);
    let args: Vec<&str> = ["run", "recipes/tiny.toml", "--only", "grpo"].into_iter().chain(settings).collect();
    let output = project.orchestrate(&args);
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success(), "{said}");
    assert_eq!(said.matches("67% of the completions repeat another one of their group").count(), 1, "{said}");
    let file = project.succeed(&["samples", "latest", "grpo", "--parquet"]);
    let rows = SerializedFileReader::new(std::fs::File::open(project.path(file.trim())).unwrap()).unwrap();
    let mut rows = rows.get_row_iter(None).unwrap().map(|row| row.unwrap().to_json_value());
    assert!(rows.all(|row| row["reward/overlong"].is_number()));
}

#[test]
fn a_second_run_finds_everything_cached_and_starts_no_worker() {
    let project = Project::new();
    project.succeed(&["run", "recipes/tiny.toml", "--only", "sft"]);
    let key = project.checkpoint("sft");
    let written = fs_err::metadata(key.join("manifest.json")).unwrap().modified().unwrap();
    let output = project
        .command(&["run", "recipes/tiny.toml", "--only", "sft"])
        .env("ORCHESTRATE_WORKER", "/bin/false")
        .output();
    assert!(output.unwrap().status.success(), "a worker was started for a cached stage");
    assert_eq!(fs_err::metadata(key.join("manifest.json")).unwrap().modified().unwrap(), written);
}

#[test]
fn changing_the_learning_rate_of_sft_keeps_cpt_and_invalidates_the_rest() {
    let project = Project::new();
    project.succeed(&["run", "recipes/tiny.toml", "--only", "sft"]);
    project.edit_recipe(
        "steps = 6\nglobal_batch_size = 4\nmicro_batch_size = 2\nlr = 1e-2",
        "steps = 6\nglobal_batch_size = 4\nmicro_batch_size = 2\nlr = 2e-2",
    );
    let status = |stage: &str| {
        let plan = project.plan();
        plan.iter().find(|line| line["stage"] == stage).unwrap()["status"].as_str().unwrap().to_owned()
    };
    assert_eq!(status("cpt"), "cached");
    assert_eq!(status("sft"), "pending");
    assert_eq!(status("grpo"), "pending");
}

#[test]
fn the_same_recipe_gives_the_same_bytes() {
    let adapters: Vec<Vec<u8>> = (0..2)
        .map(|_| {
            let project = Project::new();
            project.succeed(&["run", "recipes/tiny.toml", "--only", "grpo"]);
            fs_err::read(project.checkpoint("grpo").join("adapter_model.safetensors")).unwrap()
        })
        .collect();
    assert!(adapters[0] == adapters[1], "two runs of one recipe gave different adapters");
}

#[test]
fn a_stage_that_is_run_again_makes_the_same_and_other_threads_are_told_apart() {
    let project = Project::new();
    project.succeed(&["run", "recipes/tiny.toml", "--only", "grpo"]);
    for stage in ["cpt", "grpo"] {
        let found = &json_lines(&project.succeed(&["verify", "latest", stage, "--json"]))[0];
        assert_eq!(found["same"], true, "{found}");
        let files = found["files"].as_array().unwrap();
        assert!(files.iter().any(|file| file["file"] == "adapter_model.safetensors"), "{found}");
    }
    // on two threads the bytes may differ or not, but the rerun reports its number of threads
    let output = project.orchestrate(&["verify", "latest", "cpt", "--threads", "2", "--json"]);
    assert!(matches!(output.status.code(), Some(0 | 7)), "{output:?}");
    let found = &json_lines(&String::from_utf8(output.stdout).unwrap())[0];
    assert_eq!(found["rerun_on"][0]["threads"], 2);
    assert_eq!(found["recorded_on"][0]["threads"], 1);
}
