//! Resolves a stage's model: path, data type, adapter, and compatibility with the parent stage's result.

use crate::architecture::LINEAR_LAYERS;
use crate::recipe::resolve::resolver::Resolver;
use crate::recipe::spec::{LoraSpec, ModelSpec, ParentAdapter};
use crate::recipe::tables::recipe::{LoraTable, ModelOverride};
use crate::recipe::text::diagnostic::Problem;
use crate::recipe::text::located::KeyPath;
use crate::suggestion::did_you_mean;
use toml::Value;

/// The value of `target_modules` that selects all of [`LINEAR_LAYERS`].
const ALL_LINEAR: &str = "all-linear";

impl Resolver<'_> {
    pub(in crate::recipe) fn model(&mut self, stage: &KeyPath, over: Option<&ModelOverride>) -> Option<ModelSpec> {
        if !self.has_model {
            let message = format!("`{stage}` has no model: the recipe lacks the key `model`");
            let place = self.files.variant.key_place(stage);
            let problem = Problem::at(place, message, "starts from a model");
            self.files.problems.push(problem.help("add `[model]` with the `path` of a Hugging Face directory"));
        }
        let recipe = KeyPath::dotted("model");
        let own = stage.key("model");
        let base = self.model.clone();
        let (path, path_key) = match over.and_then(|over| over.path.clone()) {
            Some(path) => (path, own.key("path")),
            None => (base.as_ref()?.path.clone(), recipe.key("path")),
        };
        let (lora, lora_key) = match over.and_then(|over| over.lora.clone()) {
            Some(lora) => (Some(lora), own.key("lora")),
            None => (base.as_ref().and_then(|base| base.lora.clone()), recipe.key("lora")),
        };
        let dtype = over.and_then(|over| over.dtype).or(base.as_ref().map(|base| base.dtype))?;
        let lora = match lora {
            Some(lora) => Some(self.lora(&lora_key, lora)?),
            None => None,
        };
        let files = self.files.directory("model", &path, &path_key, &mut self.found)?;
        let (chat_template, template_key) = match over.and_then(|over| over.chat_template.clone()) {
            Some(file) => (Some(file), own.key("chat_template")),
            None => (base.as_ref().and_then(|base| base.chat_template.clone()), recipe.key("chat_template")),
        };
        let chat_template = match chat_template {
            Some(file) => Some(self.files.text("chat template", &file, &template_key)?),
            None => None,
        };
        let parent_adapter =
            over.and_then(|over| over.parent_adapter).or(base.as_ref().map(|base| base.parent_adapter))?;
        Some(ModelSpec { files, chat_template, dtype, lora, parent_adapter })
    }

    pub(in crate::recipe) fn lora(&mut self, key: &KeyPath, table: LoraTable) -> Option<LoraSpec> {
        let LoraTable { rank, alpha, dropout, rslora, target_modules } = table;
        let key = key.key("target_modules");
        let named: Vec<(KeyPath, &str)> = match &target_modules {
            Value::String(all) if all == ALL_LINEAR => {
                LINEAR_LAYERS.iter().map(|layer| (key.clone(), layer.name)).collect()
            }
            Value::String(name) => vec![(key, name)],
            other => {
                let names = other.as_array().into_iter().flatten().filter_map(Value::as_str);
                names.enumerate().map(|(index, name)| (key.index(index), name)).collect()
            }
        };
        let mut fits = !named.is_empty();
        for (position, (at, module)) in named.iter().enumerate() {
            if !LINEAR_LAYERS.iter().any(|layer| layer.name == *module) {
                let known: Vec<&str> = LINEAR_LAYERS.iter().map(|layer| layer.name).chain([ALL_LINEAR]).collect();
                let help = did_you_mean(module, "layers", &known);
                self.problem(at, format!("unknown linear layer `{module}`"), "no such layer", help);
                fits = false;
            } else if named[..position].iter().any(|(_, other)| other == module) {
                self.problem(at, format!("the layer `{module}` is listed twice"), "again", "remove one");
                fits = false;
            }
        }
        let mut target_modules: Vec<String> = named.into_iter().map(|(_, name)| name.to_owned()).collect();
        target_modules.sort();
        fits.then_some(LoraSpec { rank, alpha, dropout, rslora, target_modules })
    }

    /// A checkpoint fits the model it was trained from only, and an adapter continues only with its own settings.
    pub(in crate::recipe) fn check_model(&mut self, key: &KeyPath, ours: &ModelSpec, parent: &str, theirs: &ModelSpec) {
        let starts = format!("`{key}` starts from `{parent}`, which");
        if ours.files != theirs.files {
            let help = "a checkpoint fits the model it was trained from";
            self.problem(&key.key("model").key("path"), format!("{starts} has another `model.path`"), "differs", help);
        }
        // Dropout affects how an adapter is trained, not its shape.
        let shape = |lora: &Option<LoraSpec>| lora.clone().map(|lora| LoraSpec { dropout: 0.0, ..lora });
        let goes_on = ours.parent_adapter == ParentAdapter::Continue;
        if theirs.lora.is_some() && goes_on && shape(&ours.lora) != shape(&theirs.lora) {
            let help = "an adapter keeps its settings; with `parent_adapter = \"merge\"` the stage merges it into the \
                        weights first and trains its own";
            self.problem(&key.key("model").key("lora"), format!("{starts} has another `model.lora`"), "differs", help);
        }
    }
}
