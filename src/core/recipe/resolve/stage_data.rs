//! Data that another stage of the recipe writes: `stage:NAME` in `path` and `join` of a data set.

use crate::recipe::resolve::files::{EXTENSIONS, Files, format_of};
use crate::recipe::spec::{DataFile, GenerateSpec};
use crate::recipe::tables::recipe::DataTable;
use crate::recipe::tables::stage::StageTable;
use crate::recipe::text::diagnostic::Problem;
use crate::recipe::text::located::KeyPath;
use crate::recipe::text::stage_reference::StageReference;
use crate::stage::COMPLETIONS;
use std::collections::BTreeMap;
use std::path::Path;

/// The stages of a variant, and those whose results the current stage reads as data.
pub(in crate::recipe) struct Sources<'a> {
    pub(in crate::recipe) stages: &'a BTreeMap<String, Option<StageTable>>,
    /// In the order in which the stage's data sets name them.
    pub(in crate::recipe) named: Vec<String>,
}

/// Returns the names of the data sets that `stage` reads.
pub(in crate::recipe) fn data_sets_of(stage: &StageTable) -> Vec<&str> {
    match stage {
        StageTable::Cpt(table) => mixture(&table.data),
        StageTable::Sft(table) => mixture(&table.data),
        StageTable::Grpo(table) => mixture(&table.data),
        StageTable::Eval(table) => {
            [Some(&table.data), table.text.as_ref()].into_iter().flatten().map(String::as_str).collect()
        }
        StageTable::Generate(table) => vec![&table.data],
        StageTable::Arena(table) => vec![&table.data],
        StageTable::Command(_) => Vec::new(),
    }
}

/// Returns the names in a stage's `data`, which is a name or a table of weights.
fn mixture(data: &toml::Value) -> Vec<&str> {
    match data {
        toml::Value::Table(weights) => weights.keys().map(String::as_str).collect(),
        single => single.as_str().into_iter().collect(),
    }
}

/// Returns the references to stages in the data set `name`, each with its key.
pub(in crate::recipe) fn references(name: &str, table: &DataTable) -> Vec<(StageReference, KeyPath)> {
    let key = KeyPath::dotted("data").key(name);
    let mut texts: Vec<(&str, KeyPath)> = paths(name, table);
    texts.extend(table.join.as_ref().map(|join| (join.from.as_str(), key.key("join").key("from"))));
    texts.into_iter().filter_map(|(text, key)| Some((StageReference::parse(text).ok()?, key))).collect()
}

/// Returns the paths of the data set `name`, each with its key.
pub(in crate::recipe) fn paths<'t>(name: &str, table: &'t DataTable) -> Vec<(&'t str, KeyPath)> {
    let key = KeyPath::dotted("data").key(name).key("path");
    match &table.path {
        toml::Value::Array(items) => {
            items.iter().enumerate().filter_map(|(index, item)| Some((item.as_str()?, key.index(index)))).collect()
        }
        single => single.as_str().map(|path| (path, key.clone())).into_iter().collect(),
    }
}

/// Whether the data set comes from a stage.
pub(in crate::recipe) fn is_generated(table: &DataTable) -> bool {
    let is_meant = |path: &toml::Value| path.as_str().is_some_and(StageReference::is_meant);
    table.path.as_array().map_or_else(|| is_meant(&table.path), |paths| paths.iter().any(is_meant))
}

impl Sources<'_> {
    /// Returns the file that `written`, at `key`, names. Problems are reported.
    pub(in crate::recipe) fn file(&mut self, files: &mut Files<'_>, written: &str, key: &KeyPath) -> Option<DataFile> {
        let mut problem = |message: String, label: &str, help: String| {
            files.problems.push(Problem::at(files.variant.value_place(key), message, label).help(help));
        };
        let reference = match StageReference::parse(written) {
            Ok(reference) => reference,
            Err(reason) => {
                let help = "write `stage:NAME`, or `stage:NAME/FILE` for a file of its result".to_owned();
                problem(format!("`{written}` cannot be read: {reason}"), "not a reference to a stage", help);
                return None;
            }
        };
        let StageReference { stage, step, file } = reference;
        if step.is_some() {
            problem(
                format!("`{written}` names a snapshot, which is a checkpoint and holds no rows"),
                "not data",
                format!("write `stage:{stage}`; a stage starts from a snapshot with `after = \"{stage}@STEP\"`"),
            );
            return None;
        }
        // An unknown stage was reported with the order of the stages.
        let table = self.stages.get(&stage)?.as_ref()?;
        let (own, kind): (&[&str], &str) = match table {
            StageTable::Generate(_) => (&[GenerateSpec::ANSWERS, COMPLETIONS], "generate"),
            StageTable::Grpo(_) => (&[COMPLETIONS], "grpo"),
            StageTable::Eval(_) => (&[COMPLETIONS], "eval"),
            StageTable::Command(_) => (&[], "command"),
            StageTable::Cpt(_) | StageTable::Sft(_) | StageTable::Arena(_) => {
                let message = format!("`{written}` names a stage that writes no rows");
                let help = "rows come from a stage of the kind `generate`, `grpo`, `eval` or `command`".to_owned();
                problem(message, "no data", help);
                return None;
            }
        };
        let file = match (file, table) {
            (Some(file), StageTable::Command(command)) => {
                let is_in = |output: &String| {
                    let output = output.trim_end_matches('/');
                    file == output || file.strip_prefix(output).is_some_and(|rest| rest.starts_with('/'))
                };
                if !command.outputs.iter().any(is_in) {
                    let message = format!("`{file}` is not among the outputs of `{stage}`");
                    problem(message, "not an output", format!("add it to `stages.{stage}.outputs`"));
                    return None;
                }
                file
            }
            (Some(file), _) if own.contains(&file.as_str()) => file,
            (Some(file), _) => {
                let known = own.iter().map(|file| format!("`{file}`")).collect::<Vec<_>>().join(" or ");
                problem(format!("a `{kind}` stage writes no `{file}`"), "no such file", format!("name {known}"));
                return None;
            }
            (None, StageTable::Command(_)) => {
                let help = format!("write `stage:{stage}/FILE`, where FILE is one of its `outputs`");
                problem(format!("`{written}` names no file"), "which file?", help);
                return None;
            }
            (None, _) => own.first().map(|file| (*file).to_owned())?,
        };
        let Some(format) = format_of(Path::new(&file)) else {
            problem(format!("cannot read data from `{file}`"), "unknown format", format!("supported: {EXTENSIONS}"));
            return None;
        };
        let source = self.named.iter().position(|name| *name == stage).unwrap_or_else(|| {
            self.named.push(stage);
            self.named.len() - 1
        });
        Some(DataFile::Result { source, file, format })
    }
}
