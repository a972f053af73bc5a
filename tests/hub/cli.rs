//! `check` and `plan` of recipes that refer to the hub, through the real binary.

use crate::World;
use crate::server::COMMIT;
use serde_json::Value;
use std::process::{Command, Output};

const RECIPE: &str = r#"
name = "hub"
seed = 1

[model]
path = "MODEL"

[data.rows]
path = "hf://datasets/owner/rows/data/*.jsonl"
prompt = "{{ q }}"
completion = "{{ q }}"

[stages.sft]
kind = "sft"
data = "rows"
steps = 1
"#;

struct Project<'a> {
    world: &'a World,
    directory: tempfile::TempDir,
}

impl<'a> Project<'a> {
    fn new(world: &'a World, model: &str) -> Self {
        let directory = tempfile::tempdir().unwrap();
        fs_err::write(directory.path().join("hub.toml"), RECIPE.replace("MODEL", model)).unwrap();
        Self { world, directory }
    }

    fn run(&self, arguments: &[&str], variables: &[(&str, &str)]) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_orchestrate"));
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("HF_") || name.to_string_lossy().contains("OFFLINE") {
                command.env_remove(name);
            }
        }
        command.env("HF_ENDPOINT", self.world.server.url()).env("HF_HUB_CACHE", self.world.cache());
        command.env("HF_HOME", self.directory.path()).env("NO_PROXY", "127.0.0.1");
        // The models of these tests have no weights, so no worker checks them.
        command.env("ORCHESTRATE_WORKER", "/nowhere/worker");
        command.envs(variables.iter().copied()).current_dir(self.directory.path()).args(arguments).output().unwrap()
    }

    fn key(&self, variables: &[(&str, &str)]) -> String {
        let output = self.run(&["plan", "--json", "hub.toml"], variables);
        assert!(output.status.success(), "{}", stderr(&output));
        let line: Value = serde_json::from_slice(&output.stdout).unwrap();
        line["key"].as_str().unwrap().to_owned()
    }
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn check_downloads_and_says_the_commit() {
    let world = World::new();
    let project = Project::new(&world, "hf://owner/tiny");
    let output = project.run(&["check", "hub.toml"], &[]);
    assert!(output.status.success(), "{}", stderr(&output));
    assert!(stderr(&output).contains(&format!("`hf://owner/tiny@main` is now `hf://owner/tiny@{COMMIT}`")));
    assert!(world.folder().join("snapshots").join(COMMIT).join("model.safetensors").is_file());
    let quiet = project.run(&["check", "-q", "hub.toml"], &[]);
    // The warning about the missing worker remains with `-q`.
    assert!(!stderr(&quiet).contains("is now"), "{}", stderr(&quiet));
}

#[test]
fn a_branch_and_its_commit_have_one_key() {
    let world = World::new();
    let branch = Project::new(&world, "hf://owner/tiny").key(&[]);
    let pinned = Project::new(&world, &format!("hf://owner/tiny@{COMMIT}"));
    assert_eq!(pinned.key(&[]), branch);
    assert_eq!(pinned.key(&[("HF_HUB_OFFLINE", "1")]), branch);
    world.server.set().files.insert("owner/tiny/config.json".to_owned(), b"{\"other\": 1}".to_vec());
    let elsewhere = tempfile::tempdir().unwrap();
    let other = pinned.key(&[("HF_HUB_CACHE", elsewhere.path().to_str().unwrap())]);
    assert_ne!(other, branch);
}

#[test]
fn without_a_network_the_recipe_error_says_what_to_put_where() {
    let world = World::new();
    let output = Project::new(&world, "hf://owner/tiny").run(&["check", "hub.toml"], &[("HF_HUB_OFFLINE", "1")]);
    assert_eq!(output.status.code(), Some(3));
    let words = stderr(&output).split_whitespace().collect::<Vec<_>>().join(" ");
    for word in ["hub.toml:6:8", "HF_HUB_OFFLINE", "HF_HUB_CACHE", "models--owner--tiny", "datasets--owner--rows"] {
        assert!(words.replace("│ ", "").contains(word), "`{word}` is not in: {}", stderr(&output));
    }
}

#[test]
fn a_token_in_the_file_that_hf_auth_login_writes_is_used() {
    let world = World::new();
    world.server.set().token = Some("hf_file".to_owned());
    let project = Project::new(&world, "hf://owner/tiny");
    let output = project.run(&["check", "hub.toml"], &[]);
    assert!(stderr(&output).contains("HF_TOKEN"), "{}", stderr(&output));
    fs_err::write(project.directory.path().join("token"), "hf_file\n").unwrap();
    let output = project.run(&["check", "hub.toml"], &[]);
    assert!(output.status.success(), "{}", stderr(&output));
    assert!(!stderr(&output).contains("hf_file"));
}

#[test]
fn a_path_that_is_not_of_the_hubs_form_is_refused() {
    let world = World::new();
    for model in ["hf://tiny", "hf://datasets/owner/rows/data/a.jsonl", "hf://owner/tiny@a b"] {
        let output = Project::new(&world, model).run(&["check", "hub.toml"], &[]);
        assert_eq!(output.status.code(), Some(3));
        assert!(stderr(&output).contains("write `hf://owner/name`"), "{}", stderr(&output));
    }
}
