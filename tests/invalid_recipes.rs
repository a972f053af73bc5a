//! Every recipe in `tests/recipes/invalid` is refused, with the message in the snapshot beside it.
//!
//! First lines `#! --set KEY=VALUE` or `#! env NAME=VALUE` override the recipe.

mod project;

use orchestrate::recipe::Overrides;
use project::Project;
use std::path::Path;

fn overrides(text: &str) -> Overrides {
    let mut overrides = Overrides::default();
    for line in text.lines() {
        if let Some(argument) = line.strip_prefix("#! --set ") {
            overrides.set.push(argument.to_owned());
        } else if let Some((name, value)) = line.strip_prefix("#! env ").and_then(|pair| pair.split_once('=')) {
            overrides.env.insert(name.to_owned(), value.to_owned());
        }
    }
    overrides
}

#[test]
fn every_invalid_recipe_is_refused_with_its_message() {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/recipes/invalid");
    let mut names: Vec<String> = fs_err::read_dir(directory.clone())
        .expect("the recipes are there")
        .map(|entry| entry.expect("the directory is readable").file_name().into_string().expect("names are UTF-8"))
        .filter(|name| Path::new(name).extension().is_some_and(|extension| extension == "toml"))
        .collect();
    names.sort();
    assert!(names.len() >= 25, "only {} invalid recipes were found", names.len());
    let mut settings = insta::Settings::clone_current();
    settings.set_snapshot_path(directory.join("messages"));
    settings.set_prepend_module_to_snapshot(false);
    settings.set_omit_expression(true);
    let mut accepted = Vec::new();
    settings.bind(|| {
        for name in &names {
            let text = fs_err::read_to_string(directory.join(name)).expect("the recipe is readable");
            let project = Project::new();
            project.write(name, &text);
            match project.load(&[name], &overrides(&text)) {
                Ok(_) => accepted.push(name),
                Err(error) => {
                    let message = error.render(100, false);
                    assert!(!message.contains(&project.path().display().to_string()), "{name}: {message}");
                    insta::assert_snapshot!(name.trim_end_matches(".toml"), message);
                }
            }
        }
    });
    assert!(accepted.is_empty(), "these invalid recipes were accepted: {accepted:?}");
}
