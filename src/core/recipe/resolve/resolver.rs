//! The state that the parts of resolving share: the recipe's files, its data sets and the reported problems.

use super::data_sets::{self, TemplateNeed};
use super::files::Files;
use super::leakage::Met;
use super::resolved::OverlapLimit;
use super::stage_data::Sources;
use crate::digest::Digest;
use crate::recipe::spec::{DataSpec, Split};
use crate::recipe::tables::recipe::{DataTable, ModelTable};
use crate::recipe::text::diagnostic::Problem;
use crate::recipe::text::located::KeyPath;
use std::collections::BTreeMap;
use std::path::PathBuf;

/// Resolves the stages of one variant.
pub(in crate::recipe) struct Resolver<'a> {
    pub(in crate::recipe) files: Files<'a>,
    pub(in crate::recipe) model: Option<ModelTable>,
    /// Whether the recipe has a `model` key, valid or not.
    pub(in crate::recipe) has_model: bool,
    pub(in crate::recipe) seed: Option<u64>,
    pub(in crate::recipe) data: &'a BTreeMap<String, Option<DataTable>>,
    /// The stages of the variant, and those whose results the current stage reads as data.
    pub(in crate::recipe) sources: Sources<'a>,
    /// The files of the current stage.
    pub(in crate::recipe) found: BTreeMap<Digest, PathBuf>,
    /// The data sets that the current stage named.
    pub(in crate::recipe) met: Vec<Met>,
}

impl Resolver<'_> {
    pub(in crate::recipe) fn no_effect(&mut self, key: &KeyPath, without: &str) {
        let message = format!("`{key}` has no effect without `{without}`");
        self.problem(key, message, "no effect", format!("remove it, or set `{without}`"));
    }

    pub(in crate::recipe) fn problem(&mut self, key: &KeyPath, message: String, label: &str, help: impl Into<String>) {
        self.files.problems.push(Problem::at(self.files.variant.value_place(key), message, label).help(help));
    }

    pub(in crate::recipe) fn data(
        &mut self,
        key: &KeyPath,
        name: &str,
        needs: &[TemplateNeed],
        split: Split,
    ) -> Option<DataSpec> {
        let table = data_sets::named(self.files.variant, name, key, self.data, self.files.problems)?;
        data_sets::check_needs(self.files.variant, name, table, needs, self.files.problems);
        if split == Split::Train {
            data_sets::check_is_in_domain(self.files.variant, name, table, key, self.files.problems);
        }
        let resolved = data_sets::resolve(&mut self.files, name, table, split, &mut self.found, &mut self.sources)?;
        let max_overlap = table.max_overlap.filter(|_| split == Split::Train).map(|fraction| OverlapLimit {
            fraction,
            place: self.files.variant.value_place(&KeyPath::dotted("data").key(name).key("max_overlap")),
        });
        self.met.push((name.to_owned(), resolved.clone(), max_overlap));
        Some(resolved)
    }

    /// Returns the table of the data set `name`, if it exists and is valid.
    pub(in crate::recipe) fn data_table(&self, name: &str) -> Option<&DataTable> {
        self.data.get(name)?.as_ref()
    }

    /// Returns the split that an evaluation's key `(key, data set)` reads, from its `(split key, value)`.
    pub(in crate::recipe) fn held_out(
        &mut self,
        stage: &KeyPath,
        data: (&str, &str),
        split: (&str, Option<Split>),
    ) -> Split {
        let key = stage.key(data.0);
        let split_key = stage.key(split.0);
        let Some(Some(table)) = self.data.get(data.1) else { return split.1.unwrap_or(Split::Eval) };
        data_sets::held_out(self.files.variant, table, (data.1, &key), (split.1, &split_key), self.files.problems)
    }
}

pub(in crate::recipe) fn stage_need(key: &KeyPath, template: &'static str) -> TemplateNeed {
    TemplateNeed { template, by: format!("`{key}`"), at: key.key("data") }
}
