//! The cache keys of these recipes are those of earlier versions, because a user's cache holds weeks of work under its
//! keys.
//!
//! A key may change only together with its stage's version or the key format
//! (`orchestrate_core::plan::PlannedWork::version`, `KEY_FORMAT`). CHANGELOG.md then lists the change under
//! *Breaking*. A new recipe key whose default keeps the previous behaviour changes no cache key: its neutral value is
//! not written into the spec (`skip_serializing_if`). If a change is intended, run this test with
//! `INSTA_UPDATE=always` and commit the list.

use crate::project::Project;
use orchestrate::digest::Digest;
use orchestrate::plan::Plan;
use orchestrate::recipe::{HubFiles, HubReference, HubRefusal, Inputs, Overrides, load};
use std::fmt::Write as _;
use std::io;
use std::path::{Path, PathBuf};

const RECIPES: [(&str, &str); 4] = [
    ("recipes/demo.toml", include_str!("../recipes/demo.toml")),
    ("recipes/paper/grid.toml", include_str!("../recipes/paper/grid.toml")),
    ("recipes/paper-mini/grid.toml", include_str!("../recipes/paper-mini/grid.toml")),
    ("full.toml", include_str!("recipes/full.toml")),
];
const SHARED: [(&str, &str); 2] = [
    ("recipes/paper/shared/arms.toml", include_str!("../recipes/paper/shared/arms.toml")),
    ("recipes/paper/shared/chat_template.jinja", include_str!("../recipes/paper/shared/chat_template.jinja")),
];

/// Files whose digest depends only on their path.
struct Named<'p>(&'p Project);

impl Named<'_> {
    fn digest(&self, path: &Path) -> Digest {
        Digest::of(path.strip_prefix(self.0.path()).unwrap_or(path).to_string_lossy().as_bytes())
    }
}

impl Inputs for Named<'_> {
    fn directory(&mut self, path: &Path) -> io::Result<Digest> {
        Ok(self.digest(path))
    }

    fn file(&mut self, path: &Path) -> io::Result<Digest> {
        Ok(self.digest(path))
    }

    fn hub(&mut self, reference: &HubReference) -> Result<HubFiles, HubRefusal> {
        let directory = format!("hub/{}", reference.to_string().replace("hf://", ""));
        self.0.model(&directory);
        Ok(HubFiles { directory: self.0.path().join(directory), files: Vec::new() })
    }
}

#[test]
fn keys_are_those_of_earlier_versions() {
    let project = Project::new();
    for (path, text) in RECIPES.iter().chain(&SHARED) {
        project.write(path, text);
    }
    for model in ["smollm2-135m-instruct", "all-minilm-l6-v2"] {
        project.model(&format!("models/{model}"));
    }
    project.write("data/biomedical/cpt.txt", "text");
    project.write("data/biomedical/mcq.jsonl", "{}");
    let mut list = String::new();
    for (recipe, _) in RECIPES {
        let loaded = load(project.path(), &[PathBuf::from(recipe)], &Overrides::default(), &mut Named(&project));
        let loaded = loaded.unwrap_or_else(|error| panic!("{}", error.render(120, false)));
        let plan = Plan::build(&loaded);
        for variant in &plan.variants {
            for (name, stage) in &variant.stages {
                writeln!(list, "{}  {recipe}  {}  {name}", plan.stages[*stage].key, variant.name).unwrap();
            }
        }
    }
    assert!(list.lines().count() > 100, "{list}");
    insta::assert_snapshot!(list);
}
