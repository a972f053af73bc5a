//! `[stages.NAME]` of the kind `command`: its program and its inputs.

use crate::recipe::resolve::command_words::{CommandWords, is_template};
use crate::recipe::resolve::data_sets;
use crate::recipe::resolve::program::{ProgramKeys, program};
use crate::recipe::resolve::resolved::ResolvedStage;
use crate::recipe::resolve::resolver::Resolver;
use crate::recipe::spec::{CommandStageSpec, ModelSpec, StageSpec, Work};
use crate::recipe::tables::stage::CommandStageTable;
use crate::recipe::text::located::KeyPath;
use serde_json::Value as Json;
use std::collections::BTreeMap;
use std::path::{Component, Path, PathBuf};

/// Settings of how the program of a `command` stage runs. None of them may change its result, and none is hashed.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ProgramRun {
    /// The working directory, absolute.
    pub directory: PathBuf,
    /// The time limit of an attempt in seconds; absent: no limit.
    pub timeout_s: Option<f64>,
    /// Whether the program resumes from the files of an interrupted attempt.
    pub resume: bool,
}

impl Resolver<'_> {
    /// Resolves the `command` stage of `table`, which follows the stages named `after`. `parent` is the first of them,
    /// and absent if that stage is broken.
    pub(in crate::recipe) fn command_stage(
        &mut self,
        key: &KeyPath,
        table: &CommandStageTable,
        after: &[String],
        parent: Option<&ResolvedStage>,
    ) -> Option<(StageSpec, ProgramRun)> {
        let before = self.files.problems.len();
        let directory = self.files.project.join(&table.working_directory);
        if !self.files.known.is_dir(&directory) {
            let message = format!("the working directory `{}` does not exist", table.working_directory);
            let help = "paths are relative to the project directory";
            self.problem(&key.key("working_directory"), message, "no such directory", help);
        }
        let CommandStageTable { command, files, env, .. } = table;
        let keys = ProgramKeys { command, files, env, directory: &directory };
        let program = program(&mut self.files, key, &keys, &mut self.found);
        self.check_outputs(key, &table.outputs);
        let parameters = json(&table.parameters);
        self.check_words(key, table, &parameters, after);
        let named = CommandWords::named(table.command.iter().map(String::as_str));
        let model = if named.contains("model") { Some(self.model_of_command(key, after, parent)?) } else { None };
        let seed = if named.contains("seed") { table.seed.or(self.seed)? } else { 0 };
        if table.seed.is_some() && !named.contains("seed") {
            let message = format!("`{key}.seed` has no effect: `command` does not name it");
            self.problem(&key.key("seed"), message, "no effect", "pass it as an argument, `\"--seed={{ seed }}\"`");
        }
        let (command, files) = program?;
        let work = CommandStageSpec {
            command,
            files,
            outputs: table.outputs.iter().map(|output| output.trim_end_matches('/').to_owned()).collect(),
            parameters,
            env: env.clone(),
            working_directory: table.working_directory.clone(),
        };
        let run = ProgramRun { directory, timeout_s: table.timeout_s, resume: table.resume };
        let spec = StageSpec { seed, model, until: None, work: Work::Command(work) };
        (self.files.problems.len() == before).then_some((spec, run))
    }

    /// Returns the model of the stage that the program follows or, without such a stage, the recipe's.
    fn model_of_command(
        &mut self,
        key: &KeyPath,
        after: &[String],
        parent: Option<&ResolvedStage>,
    ) -> Option<ModelSpec> {
        if after.is_empty() {
            return self.model(key, None);
        }
        let parent = parent?;
        let Some(model) = &parent.spec.model else {
            let message = format!("`{key}.command` names `model`, which `{}` does not have", parent.name);
            let help = "use `{{ model }}` in that stage too, or run after the stage whose model is meant";
            self.problem(&key.key("command"), message, "whose model?", help);
            return None;
        };
        self.found
            .extend(parent.inputs.get_key_value(&model.files).map(|(digest, path)| (digest.clone(), path.clone())));
        Some(model.clone())
    }

    fn check_outputs(&mut self, key: &KeyPath, outputs: &[String]) {
        for (index, output) in outputs.iter().enumerate() {
            let is_inside = Path::new(output).components().all(|part| matches!(part, Component::Normal(_)));
            if output.is_empty() || !is_inside {
                let at = key.key("outputs").index(index);
                let message = format!("`{output}` is not in the output directory");
                self.problem(&at, message, "not inside", "outputs are relative to `{{ output }}`, `$STAGE_OUTPUT`");
            }
        }
    }

    /// Reports words whose templates cannot be filled in.
    fn check_words(
        &mut self,
        key: &KeyPath,
        table: &CommandStageTable,
        parameters: &BTreeMap<String, Json>,
        after: &[String],
    ) {
        let parents: Vec<String> = after.iter().map(|_| "/parent".to_owned()).collect();
        let words = CommandWords {
            output: "/output",
            parent: parents.first().map(String::as_str),
            parents: &parents,
            parameters,
            parameters_file: "/parameters.json",
            model: Some("/model"),
            seed: 0,
            resume: table.resume.then_some("/resume"),
        };
        for (index, word) in table.command.iter().enumerate().filter(|(_, word)| is_template(word)) {
            let at = key.key("command").index(index);
            let before = self.files.problems.len();
            data_sets::check_template(self.files.variant, &at, word, &CommandWords::NAMES, self.files.problems);
            if self.files.problems.len() > before {
                continue;
            }
            if let Err(reason) = words.fill_in(word) {
                let named = CommandWords::named([word.as_str()]);
                let help = match (after.is_empty(), table.resume) {
                    (true, _) if named.contains("parent") || named.contains("parents") => {
                        "name the stage whose result the program reads in `after`"
                    }
                    (_, false) if named.contains("resume") => {
                        "set `resume = true` if the program can continue from there"
                    }
                    _ => "`{{ parameters.NAME }}` is replaced by a key of the stage's `parameters`",
                };
                self.problem(&at, format!("`{at}` cannot be filled in: {reason}"), "in here", help);
            }
        }
    }
}

/// Converts the parameters to JSON. A recipe contains neither dates nor non-finite numbers.
fn json(table: &toml::Table) -> BTreeMap<String, Json> {
    let value = |value| serde_json::to_value(value).expect("values of a recipe are JSON values");
    table.iter().map(|(name, parameter)| (name.clone(), value(parameter))).collect()
}
