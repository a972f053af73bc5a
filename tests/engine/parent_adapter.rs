//! The use of the adapter that a stage's parent trained.

use crate::golden::largest_difference;
use crate::project::{Project, json_lines};
use orchestrate_engine::weights::load_tensors;
use std::path::{Path, PathBuf};
use tch::Tensor;

/// Returns the log-probabilities of a text under the tiny model with these adapters, merged one after the other.
fn logprobs(project: &Project, model: &Path, adapters: &[PathBuf]) -> Tensor {
    let mut model = model.to_owned();
    for (index, adapter) in adapters.iter().enumerate() {
        let output = project.path(&format!("merged-{}-{index}", ulid(adapter)));
        let [from, to, with] = [&model, &output, adapter].map(|path| path.to_str().unwrap().to_owned());
        project.succeed(&["model", "merge", "--model", &from, "--adapter", &with, "--output", &to]);
        model = output;
    }
    let text = "The heart pumps blood through vessel 3.";
    let lines = project.succeed(&["model", "logprobs", "--model", model.to_str().unwrap(), "--text", text]);
    let values: Vec<f64> = serde_json::from_value(json_lines(&lines)[0]["token_logprobs"].clone()).unwrap();
    Tensor::from_slice(&values)
}

/// Returns a name that distinguishes the outputs of different adapters.
fn ulid(adapter: &Path) -> String {
    adapter.to_str().unwrap().chars().filter(char::is_ascii_alphanumeric).collect()
}

const MERGE: &str = "\n[stages.sft.model]\nparent_adapter = \"merge\"\nlora = { rank = 2, alpha = 8, target_modules = \"all-linear\" }\n\n[stages.grpo]\n";
const GRPO: &str = "\n[stages.grpo.model.lora]\nrank = 2\nalpha = 8\n\n[stages.grpo.rewards.semantic]\n";

#[test]
fn a_merged_adapter_lives_on_in_the_weights_of_all_later_stages() {
    let project = Project::new();
    let recipe = crate::project::RECIPE
        .replacen("\n[stages.grpo]\n", MERGE, 1)
        .replacen("\n[stages.grpo.rewards.semantic]\n", GRPO, 1)
        .replace("dropout = 0.1", "dropout = 0.0");
    project.write("recipes/tiny.toml", &recipe);
    // the learning rate is effectively 0, so the final weights of `sft` and `grpo` are the initial ones
    let still = ["--set", "stages.sft.lr=1e-30", "--set", "stages.grpo.lr=1e-30"];
    project.succeed(&[&["run", "recipes/tiny.toml"][..], &still].concat());
    let plan = json_lines(&project.succeed(&[&["plan", "--json", "recipes/tiny.toml"][..], &still].concat()));
    let checkpoint = |stage: &str| {
        let line = plan.iter().find(|line| line["stage"] == stage).unwrap();
        project.path("runs/cache").join(line["key"].as_str().unwrap())
    };
    let (cpt, sft, grpo) = (checkpoint("cpt"), checkpoint("sft"), checkpoint("grpo"));
    for stage in [&sft, &grpo] {
        let inherited = load_tensors(&stage.join("merged/000/adapter_model.safetensors")).unwrap();
        let trained = load_tensors(&cpt.join("adapter_model.safetensors")).unwrap();
        assert!(trained.iter().all(|(name, tensor)| largest_difference(tensor, &inherited[name]) == 0.0));
    }
    let rank = load_tensors(&grpo.join("adapter_model.safetensors")).unwrap();
    assert!(rank.iter().filter(|(name, _)| name.contains("lora_A")).all(|(_, a)| a.size()[0] == 2));

    let model = project.path("models/tiny");
    let base = logprobs(&project, &model, &[]);
    let after_cpt = logprobs(&project, &model, std::slice::from_ref(&cpt));
    assert!(largest_difference(&base, &after_cpt) > 1e-2, "cpt taught something");
    let after_grpo = logprobs(&project, &model, &[grpo.join("merged/000"), grpo.clone()]);
    assert!(largest_difference(&after_cpt, &after_grpo) < 1e-4, "the whole is base + merged + adapter");
}

#[test]
fn grpos_reference_is_its_input_and_whole_weights_can_get_an_adapter() {
    let project = Project::new();
    let recipe = crate::project::RECIPE
        .replace("lora = { rank = 4, alpha = 8, dropout = 0.1 }\n", "")
        .replacen("\n[stages.grpo.rewards.semantic]\n", GRPO, 1)
        .replace("kl_coef = 0.01", "kl_coef = 0.5");
    project.write("recipes/tiny.toml", &recipe);
    project.succeed(&["run", "recipes/tiny.toml", "--only", "grpo"]);
    let metrics = json_lines(&project.succeed(&["metrics", "latest", "grpo", "--json"]));
    let kl = |step: u64| {
        let line = metrics.iter().find(|line| line["name"] == "grpo/kl" && line["step"] == step);
        line.unwrap_or_else(|| panic!("no grpo/kl in {metrics:?}"))["value"].as_f64().unwrap()
    };
    // sft moved all weights far from the base, so with the base as reference the first step would differ
    assert!(kl(1).abs() < 1e-6, "the first step's divergence is {}", kl(1));
    assert!(kl(5) > 1e-6, "the last step's divergence is {}", kl(5));
    let adapter = load_tensors(&project.checkpoint("grpo").join("adapter_model.safetensors")).unwrap();
    assert!(!adapter.is_empty());
    assert!(project.checkpoint("sft").join("model.safetensors").exists());
}

#[test]
fn an_adapter_of_another_shape_does_not_go_on_silently() {
    let project = Project::new();
    let recipe = crate::project::RECIPE.replacen("\n[stages.grpo.rewards.semantic]\n", GRPO, 1);
    project.write("recipes/tiny.toml", &recipe);
    let error = project.fail(&["check", "recipes/tiny.toml"], 3);
    assert!(error.contains("starts from `sft`, which has another `model.lora`"), "{error}");
    assert!(error.contains("parent_adapter = \"merge\""), "{error}");
}
