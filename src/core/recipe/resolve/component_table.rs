//! A component's table in a recipe, as [`crate::rewards`] reads it.

use crate::digest::Digest;
use crate::program::Argument;
use crate::recipe::resolve::data_sets::check_template;
use crate::recipe::resolve::files::Files;
use crate::recipe::resolve::program::{ProgramKeys, program};
use crate::recipe::text::diagnostic::Problem;
use crate::recipe::text::located::KeyPath;
use crate::rewards::{At, TableContext};
use std::collections::BTreeMap;
use std::path::PathBuf;

/// The component table at `key`. The files that it names are added to `found`.
pub(in crate::recipe) struct ComponentTable<'a, 'f> {
    pub(in crate::recipe) files: &'a mut Files<'f>,
    pub(in crate::recipe) key: &'a KeyPath,
    pub(in crate::recipe) found: &'a mut BTreeMap<Digest, PathBuf>,
}

impl ComponentTable<'_, '_> {
    fn path(&self, at: At<'_>) -> KeyPath {
        match at {
            At::Table => self.key.clone(),
            At::Key(key) => self.key.key(key),
            At::Item(key, index) => self.key.key(key).index(index),
        }
    }
}

impl TableContext for ComponentTable<'_, '_> {
    fn name(&self, at: At<'_>) -> String {
        self.path(at).to_string()
    }

    fn problem(&mut self, at: At<'_>, message: String, label: &str, help: &str) {
        let path = self.path(at);
        let variant = self.files.variant;
        let place = if at == At::Table { variant.key_place(&path) } else { variant.value_place(&path) };
        self.files.problems.push(Problem::at(place, message, label).help(help));
    }

    fn problems(&self) -> usize {
        self.files.problems.len()
    }

    fn directory(&mut self, what: &str, named: &str, key: &str) -> Option<Digest> {
        self.files.directory(what, named, &self.key.key(key), self.found)
    }

    fn config(&mut self, directory: &Digest, key: &str) -> Option<serde_json::Value> {
        let path = self.found.get(directory).expect("the directory was found").join("config.json");
        let read = fs_err::read_to_string(&path).map_err(|error| error.to_string());
        let parsed = read.and_then(|text| {
            serde_json::from_str(&text).map_err(|error| format!("`{}` is not JSON: {error}", path.display()))
        });
        match parsed {
            Ok(config) => Some(config),
            Err(message) => {
                self.problem(At::Key(key), message, "cannot be read", "the model needs its `config.json`");
                None
            }
        }
    }

    fn json(&mut self, what: &str, named: &str, key: &str) -> Option<serde_json::Value> {
        self.files.json(what, named, &self.key.key(key))
    }

    fn program(
        &mut self,
        command: &[String],
        files: &[String],
        env: &[String],
    ) -> Option<(Vec<Argument>, Vec<Digest>)> {
        let keys = ProgramKeys { command, files, env, directory: self.files.project };
        program(self.files, self.key, &keys, self.found)
    }

    fn check_template(&mut self, key: &str, template: &str, variables: &[&str]) {
        check_template(self.files.variant, &self.key.key(key), template, variables, self.files.problems);
    }

    fn served(&self, group: &str) -> Vec<String> {
        let runtime = self.files.variant.value.get("runtime");
        let served = runtime.and_then(|runtime| runtime.get(group)).and_then(toml::Value::as_table);
        served.into_iter().flat_map(toml::Table::keys).cloned().collect()
    }
}
