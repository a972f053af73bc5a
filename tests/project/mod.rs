//! A project directory with all files that a recipe may name, and the digests of its real files.

use orchestrate::digest::Digest;
use orchestrate::recipe::{HubFiles, HubReference, HubRefusal, Inputs, LoadedRecipe, Overrides, RecipeError, load};
use std::io;
use std::path::{Path, PathBuf};
use tempfile::TempDir;

/// A temporary project: `models/tiny`, `models/other`, `models/encoder`, `models/classifier`,
/// `models/other_classifier`, `data/cpt.txt`, `data/more.txt`,
/// `data/mcq.jsonl`, `data/cpt.csv`, `rewards/units.py`, `rewards/rate.sh`.
pub(crate) struct Project {
    directory: TempDir,
}

impl Project {
    pub(crate) fn new() -> Self {
        let project = Self { directory: tempfile::tempdir().expect("a temporary directory can be made") };
        for model in ["tiny", "other", "encoder"] {
            project.model(&format!("models/{model}"));
        }
        for model in ["classifier", "other_classifier"] {
            project.classifier(&format!("models/{model}"), "BertForSequenceClassification");
        }
        project.write("data/cpt.txt", "The heart pumps blood.\n");
        project.write("data/more.txt", "The liver stores glycogen.\n");
        project.write("rewards/units.py", "print(\"{}\")\n");
        project.write("rewards/rate.sh", "#!/bin/sh\n");
        project.write("data/cpt.csv", "text\n");
        project.write("data/mcq.jsonl", "{\"question\": \"?\", \"answer\": \"A\", \"explanation\": \"so\"}\n");
        project
    }

    pub(crate) fn path(&self) -> &Path {
        self.directory.path()
    }

    pub(crate) fn write(&self, path: &str, text: &str) {
        let path = self.path().join(path);
        fs_err::create_dir_all(path.parent().expect("files lie in directories")).expect("a directory can be made");
        fs_err::write(path, text).expect("a file can be written");
    }

    /// Creates the directory of a model that is never read.
    pub(crate) fn model(&self, directory: &str) {
        self.write(&format!("{directory}/config.json"), &format!("{{\"name\": \"{directory}\"}}"));
        self.write(&format!("{directory}/tokenizer.json"), "{}");
        self.write(&format!("{directory}/model.safetensors"), "");
    }

    /// Creates the directory of a classifier of two labels whose weights are never read.
    pub(crate) fn classifier(&self, directory: &str, architecture: &str) {
        self.model(directory);
        let labels = r#"{"0": "bad", "1": "good"}"#;
        let config = format!(r#"{{"name": "{directory}", "architectures": ["{architecture}"], "id2label": {labels}}}"#);
        self.write(&format!("{directory}/config.json"), &config);
    }

    pub(crate) fn load(&self, recipes: &[&str], overrides: &Overrides) -> Result<Vec<LoadedRecipe>, RecipeError> {
        let paths: Vec<PathBuf> = recipes.iter().map(PathBuf::from).collect();
        load(self.path(), &paths, overrides, &mut RealFiles)
    }
}

/// Digests of real files, without a cache.
struct RealFiles;

impl Inputs for RealFiles {
    fn directory(&mut self, path: &Path) -> io::Result<Digest> {
        let mut files: Vec<PathBuf> =
            fs_err::read_dir(path)?.map(|entry| entry.map(|entry| entry.path())).collect::<io::Result<_>>()?;
        files.sort();
        let mut all = String::new();
        for file in files {
            all.push_str(self.file(&file)?.as_str());
        }
        Ok(Digest::of(all.as_bytes()))
    }

    fn file(&mut self, path: &Path) -> io::Result<Digest> {
        Ok(Digest::of(&fs_err::read(path)?))
    }

    fn hub(&mut self, reference: &HubReference) -> Result<HubFiles, HubRefusal> {
        Err(HubRefusal { message: format!("`{reference}` is asked for"), help: "no hub here".to_owned() })
    }
}
