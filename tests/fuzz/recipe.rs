//! Any text is a recipe or an error whose message can be rendered; its sweep stays within bounds.
#![no_main]

use libfuzzer_sys::fuzz_target;
use orchestrate_core::digest::Digest;
use orchestrate_core::plan::Plan;
use orchestrate_core::recipe::{HubFiles, HubReference, HubRefusal, Inputs, Overrides, load};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

/// A project with the files that the recipes in `tests/recipes` name.
static PROJECT: LazyLock<tempfile::TempDir> = LazyLock::new(|| {
    let project = tempfile::tempdir().unwrap();
    let files = ["config.json", "tokenizer.json", "model.safetensors"];
    let models =
        ["tiny", "other", "encoder"].iter().flat_map(|model| files.map(|file| format!("models/{model}/{file}")));
    for file in models.chain(["data/cpt.txt", "data/more.txt", "data/mcq.jsonl", "data/cpt.csv"].map(str::to_owned)) {
        let path = project.path().join(file);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, "").unwrap();
    }
    project
});

/// Digests of paths, because the content of files does not matter here.
struct Named;

impl Inputs for Named {
    fn directory(&mut self, path: &Path) -> io::Result<Digest> {
        self.file(path)
    }

    fn file(&mut self, path: &Path) -> io::Result<Digest> {
        Ok(Digest::of(path.as_os_str().as_encoded_bytes()))
    }

    fn hub(&mut self, reference: &HubReference) -> Result<HubFiles, HubRefusal> {
        Err(HubRefusal { message: reference.to_string(), help: String::new() })
    }

    /// A pattern could search this whole machine.
    fn glob(&mut self, _directory: &Path, _pattern: &str) -> io::Result<Vec<PathBuf>> {
        Ok(vec![PROJECT.path().join("data/mcq.jsonl")])
    }
}

fuzz_target!(|text: &str| {
    // Reading another file of this machine (`/dev/zero`) is not a bug.
    if text.contains("extends") {
        return;
    }
    std::fs::write(PROJECT.path().join("fuzzed.toml"), text).unwrap();
    match load(PROJECT.path(), &[PathBuf::from("fuzzed.toml")], &Overrides::default(), &mut Named) {
        Ok(recipes) => drop(Plan::build(&recipes)),
        Err(error) => assert!(!error.render(80, false).is_empty()),
    }
});
