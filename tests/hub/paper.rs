//! The recipes of the paper refer to models on the hub. They are checked and planned with small substitutes under
//! those names, whose configurations have the sizes of the real ones.

use crate::World;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::path::Path;
use std::process::{Command, Output};

/// The keys of the `config.json` of Llama 3.1 8B that affect memory; DeepSeek-R1-Distill-Llama-8B has the same values.
fn llama_8b() -> Value {
    json!({
        "model_type": "llama", "max_position_embeddings": 131_072, "hidden_size": 4096, "intermediate_size": 14336, "num_hidden_layers": 32,
        "num_attention_heads": 32, "num_key_value_heads": 8, "vocab_size": 128_256, "tie_word_embeddings": false,
    })
}

/// The arms, each with its number of stages, including the common arena.
const ARMS: [(&str, usize); 9] = [
    ("base", 2),
    ("cpt-adamw", 3),
    ("cpt-muon", 3),
    ("sft", 4),
    ("semantic", 5),
    ("rouge", 5),
    ("judge", 5),
    ("semantic-rouge", 5),
    ("plain", 5),
];

fn run(world: &World, directory: &Path, arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_orchestrate"));
    command.env("HF_ENDPOINT", world.server.url()).env("HF_HUB_CACHE", world.cache()).env("HF_HOME", directory);
    command.env_remove("HF_HUB_OFFLINE").env_remove("HF_TOKEN").env("NO_PROXY", "127.0.0.1");
    // The models of these tests have no weights, so no worker checks them.
    command.env("ORCHESTRATE_WORKER", "/nowhere/worker");
    let output = command.current_dir(directory).args(arguments).output().unwrap();
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    output
}

/// Creates a copy of the recipes, with small files as data.
fn project() -> tempfile::TempDir {
    let directory = tempfile::tempdir().unwrap();
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    for file in
        ["paper/grid.toml", "paper/shared/arms.toml", "paper/shared/chat_template.jinja", "paper-mini/grid.toml"]
    {
        let to = directory.path().join("recipes").join(file);
        fs_err::create_dir_all(to.parent().unwrap()).unwrap();
        fs_err::copy(root.join("recipes").join(file), to).unwrap();
    }
    let data = directory.path().join("data/biomedical");
    fs_err::create_dir_all(&data).unwrap();
    fs_err::write(data.join("cpt.txt"), "The heart pumps blood.\n").unwrap();
    fs_err::write(data.join("mcq.jsonl"), "{}\n").unwrap();
    for model in ["smollm2-135m-instruct", "all-minilm-l6-v2"] {
        let model = directory.path().join("models").join(model);
        fs_err::create_dir_all(&model).unwrap();
        for (name, text) in [("config.json", "{}"), ("tokenizer.json", "{}"), ("model.safetensors", "")] {
            fs_err::write(model.join(name), text).unwrap();
        }
    }
    directory
}

#[test]
fn both_grids_have_all_arms_with_three_seeds_and_share_what_they_can() {
    let world = World::new();
    for repo in ["deepseek-ai/DeepSeek-R1-Distill-Llama-8B", "Qwen/Qwen3-Embedding-0.6B"] {
        let mut behaviour = world.server.set();
        behaviour.files.insert(format!("{repo}/config.json"), llama_8b().to_string().into_bytes());
        behaviour.files.insert(format!("{repo}/tokenizer.json"), b"{}".to_vec());
        behaviour.files.insert(format!("{repo}/model.safetensors"), repo.as_bytes().to_vec());
    }
    let directory = project();
    for recipe in ["recipes/paper/grid.toml", "recipes/paper-mini/grid.toml"] {
        run(&world, directory.path(), &["check", recipe]);
        let plan = run(&world, directory.path(), &["plan", "--json", recipe]);
        let lines: Vec<Value> =
            plan.stdout.split(|&b| b == b'\n').filter_map(|l| serde_json::from_slice(l).ok()).collect();
        let mut stages: BTreeMap<String, usize> = BTreeMap::new();
        for variant in lines.iter().flat_map(|line| line["variant"].as_array().unwrap()) {
            let name = variant.as_str().unwrap().split_once('/').unwrap().1;
            *stages.entry(name.to_owned()).or_default() += 1;
        }
        let wanted =
            ARMS.iter().flat_map(|(arm, count)| (1..=3).map(move |seed| (format!("{arm},seed={seed}"), *count)));
        assert_eq!(stages, wanted.collect(), "{recipe}");
        // For each seed: 2 `cpt` (two optimizers), 1 `sft`, 5 `grpo`, 9 `eval`; and one arena.
        assert_eq!(lines.len(), 3 * 17 + 1, "{recipe}");
        let arena = lines.iter().find(|line| line["stage"] == "arena").unwrap();
        assert_eq!(arena["parents"].as_array().unwrap().len(), 3 * 8, "every model that a seed trains plays: {arena}");
    }
    let plan = run(&world, directory.path(), &["plan", "--json", "recipes/paper/grid.toml"]);
    let text = String::from_utf8(plan.stdout).unwrap();
    for line in text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap()) {
        let bytes = line["memory_bytes"].as_u64().unwrap();
        assert!((16 << 30..141_000_000_000).contains(&bytes), "it fits one H200 and holds the weights: {line}");
    }
}
