//! Explains why a stage will run: how its `key.json` differs from the nearest result in the cache.

use crate::digest::Digest;
use crate::history::checkpoints::key_documents;
use crate::history::differences::{Difference, differences, shown};
use crate::plan::Plan;
use crate::workspace::{InputRecord, Workspace, WorkspaceError};
use serde_json::Value;
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// The largest number of differences that a row of the plan lists. With more, the stage counts as another stage.
const MOST: usize = 3;

/// The results in the cache, and the records of the files that they depend on.
#[derive(Debug)]
pub struct CachedResults<'a> {
    workspace: &'a Workspace,
    project: &'a Path,
    /// `key.json` by key.
    documents: BTreeMap<Digest, Value>,
    /// Descriptions of file changes by both digests, so that files are read once.
    files: RefCell<BTreeMap<(String, String), String>>,
}

/// The differences between a stage and a result.
#[derive(Clone, Debug, PartialEq)]
pub struct Explanation {
    /// The result's key.
    pub nearest: Digest,
    /// The differences in the stage itself, as text.
    pub changes: Vec<String>,
    /// The differences in its parents.
    pub parents: Vec<ParentChange>,
}

/// A parent that differs from the compared result's parent.
#[derive(Clone, Debug, PartialEq)]
pub struct ParentChange {
    /// The name of the new parent; absent if the stage has no parent at this position.
    pub stage: Option<String>,
    /// The explanation of the parent's own difference; absent without a result to compare.
    pub because: Option<Explanation>,
}

impl<'a> CachedResults<'a> {
    /// Reads `key.json` of every result. Recipes of the directory `project` are compared with them.
    pub fn load(workspace: &'a Workspace, project: &'a Path) -> Result<Self, WorkspaceError> {
        let documents = key_documents(workspace)?;
        Ok(Self { workspace, project, documents, files: RefCell::default() })
    }

    /// Returns short reasons why a stage of `plan` is a miss.
    pub fn reasons(&self, plan: &Plan, stage: usize) -> Vec<String> {
        let key_json = plan.stages[stage].key_json();
        let Some((_, nearest)) = self.nearest(&key_json) else { return vec!["never run".into()] };
        let own = differences(nearest, &key_json);
        if own.len() > MOST {
            return vec!["never run".into()];
        }
        if own.is_empty() {
            let same = nearest["parents"] == key_json["parents"];
            return vec![if same { "its result is gone" } else { "starts from another result" }.into()];
        }
        own.iter().map(|change| self.words(change, &plan.stages[stage].inputs)).collect()
    }

    /// Explains how a stage of `plan` differs from the nearest result of its kind; absent without such a result.
    pub fn explain(&self, plan: &Plan, stage: usize) -> Option<Explanation> {
        let (key, _) = self.nearest(&plan.stages[stage].key_json())?;
        self.compared(plan, stage, key)
    }

    /// Returns the differences between the stages `before` and `after` as text, except for their parents.
    ///
    /// Both are results or attempts that were begun. Returns `None` if one of them has no `key.json`.
    pub fn changes_between(&self, before: &Digest, after: &Digest) -> Option<Vec<String>> {
        let document = |key: &Digest| match self.documents.get(key) {
            Some(document) => Some(document.clone()),
            None => serde_json::from_slice(&fs_err::read(self.workspace.attempt_dir(key).join("key.json")).ok()?).ok(),
        };
        let changes = differences(&document(before)?, &document(after)?);
        Some(changes.iter().map(|change| self.words(change, &BTreeMap::new())).collect())
    }

    /// Returns the files that the stage with this key read, with the digests of their content. Paths are written as in
    /// recipes. The list is empty for an unknown stage.
    pub fn inputs(&self, key: &Digest) -> Vec<(PathBuf, Digest)> {
        let found = self.documents.get(key).map(|document| digests(&document["spec"])).unwrap_or_default();
        let record = |digest: Digest| Some((InputRecord::load(self.workspace, &digest)?.path, digest));
        found.into_iter().filter_map(record).collect()
    }

    /// Returns the most similar result of the same kind: the one with the fewest different settings, then with equal
    /// parents.
    fn nearest(&self, key_json: &Value) -> Option<(&Digest, &Value)> {
        self.documents
            .iter()
            .filter(|(_, other)| other["kind"] == key_json["kind"])
            .min_by_key(|(_, other)| (differences(other, key_json).len(), other["parents"] != key_json["parents"]))
    }

    fn compared(&self, plan: &Plan, stage: usize, key: &Digest) -> Option<Explanation> {
        let old = self.documents.get(key)?;
        let planned = &plan.stages[stage];
        let inputs = &planned.inputs;
        let words = |change: &Difference| {
            let setting = || format!("{} in stages.{}", setting_words(change), planned.name);
            self.file_words(change, inputs).unwrap_or_else(setting)
        };
        let changes = differences(old, &planned.key_json()).iter().map(words).collect();
        let old_parents: Vec<Digest> =
            old["parents"].as_array().into_iter().flatten().filter_map(|key| Digest::parse(key.as_str()?)).collect();
        let mut parents = Vec::new();
        if planned.spec.work.kind().fans_in() {
            // Parents are sorted by their keys, so their order does not show which parent replaced which.
            let is_new = |parent: &&usize| !old_parents.contains(&plan.stages[**parent].key);
            for &parent in planned.parents.iter().filter(is_new) {
                let (stage, because) = (Some(plan.stages[parent].name.clone()), self.explain(plan, parent));
                // Its other seeds changed for the same reason.
                let changes = |because: &Option<Explanation>| because.as_ref().map(|because| because.changes.clone());
                let is_known =
                    |known: &ParentChange| known.stage == stage && changes(&known.because) == changes(&because);
                if !parents.iter().any(is_known) {
                    parents.push(ParentChange { stage, because });
                }
            }
            return Some(Explanation { nearest: key.clone(), changes, parents });
        }
        for at in 0..planned.parents.len().max(old_parents.len()) {
            let (now, before) = (planned.parents.get(at).copied(), old_parents.get(at));
            if now.map(|parent| &plan.stages[parent].key) != before {
                let because = now.zip(before).and_then(|(now, before)| self.compared(plan, now, before));
                parents.push(ParentChange { stage: now.map(|parent| plan.stages[parent].name.clone()), because });
            }
        }
        Some(Explanation { nearest: key.clone(), changes, parents })
    }

    /// Describes a change: `lr 1e-5 -> 2e-5`, `data/mcq.jsonl changed: 2 rows of 400`.
    fn words(&self, change: &Difference, inputs: &BTreeMap<Digest, PathBuf>) -> String {
        self.file_words(change, inputs).unwrap_or_else(|| setting_words(change))
    }

    /// Describes the change of the files in `change`, if it concerns files.
    fn file_words(&self, change: &Difference, inputs: &BTreeMap<Digest, PathBuf>) -> Option<String> {
        let (old, new) = (digests(&change.old), digests(&change.new));
        let names = |digests: &[Digest]| -> Option<String> {
            let record = |digest| Some(self.record(digest, inputs)?.path.display().to_string());
            Some(digests.iter().map(record).collect::<Option<Vec<_>>>()?.join(", "))
        };
        match (old.as_slice(), new.as_slice()) {
            ([], []) => None,
            ([old], [new]) => {
                let pair = (old.to_string(), new.to_string());
                if let Some(known) = self.files.borrow().get(&pair) {
                    return Some(known.clone());
                }
                let words = file_change(&change.key, self.record(old, inputs), self.record(new, inputs));
                self.files.borrow_mut().insert(pair, words.clone());
                Some(words)
            }
            (lost, []) => Some(format!("{} without {}", change.key, names(lost)?)),
            ([], got) => Some(format!("{} with {}", change.key, names(got)?)),
            (old, new) => Some(format!("{} {} -> {}", change.key, names(old)?, names(new)?)),
        }
    }

    /// Returns the record of the content with this digest, from the workspace or else from the recipe's files.
    fn record(&self, digest: &Digest, inputs: &BTreeMap<Digest, PathBuf>) -> Option<InputRecord> {
        InputRecord::load(self.workspace, digest).or_else(|| {
            let path = inputs.get(digest)?;
            Some(InputRecord::read(digest, path, path.strip_prefix(self.project).unwrap_or(path)))
        })
    }
}

/// Records the paths and rows of the files that the given stages of `plan` read.
pub fn remember_inputs(workspace: &Workspace, project: &Path, plan: &Plan, stages: impl Iterator<Item = usize>) {
    for stage in stages {
        for (digest, path) in &plan.stages[stage].inputs {
            InputRecord::remember(workspace, digest, path, path.strip_prefix(project).unwrap_or(path));
        }
    }
}

/// Describes a changed setting: `lr 1e-5 -> 2e-5`, `rewards.cot added`.
fn setting_words(Difference { key, old, new }: &Difference) -> String {
    match (old, new) {
        (Value::Object(_), Value::Null) => format!("{key} taken out"),
        (Value::Null, Value::Object(_)) => format!("{key} added"),
        (old, new) => format!("{key} {} -> {}", shown(old), shown(new)),
    }
}

/// Returns every digest in `value`.
fn digests(value: &Value) -> Vec<Digest> {
    match value {
        Value::String(text) => Digest::parse(text).into_iter().collect(),
        Value::Array(items) => items.iter().flat_map(digests).collect(),
        Value::Object(fields) => fields.values().flat_map(digests).collect(),
        _ => Vec::new(),
    }
}

/// Describes how a file changed.
fn file_change(key: &str, old: Option<InputRecord>, new: Option<InputRecord>) -> String {
    let (old, new) = match (old, new) {
        (Some(old), Some(new)) => (old, new),
        (old, new) => {
            let name = old.or(new).map(|record| record.path.display().to_string());
            return format!("{} changed", name.unwrap_or_else(|| key.to_owned()));
        }
    };
    let (before, after) = (old.path.display(), new.path.display());
    let name = if old.path == new.path { format!("{after} changed") } else { format!("{key} {before} -> {after}") };
    match old.rows.zip(new.rows) {
        Some((old, new)) => format!("{name}: {}", row_change(&old, &new)),
        None => name,
    }
}

/// Describes how rows changed: `2 of 400 rows`, `3 rows added`, `the order of its 400 rows`.
fn row_change(old: &[String], new: &[String]) -> String {
    let mut balance: BTreeMap<&str, i64> = BTreeMap::new();
    for (rows, sign) in [(old, -1), (new, 1)] {
        for row in rows {
            *balance.entry(row).or_default() += sign;
        }
    }
    let added: i64 = balance.values().filter(|count| **count > 0).sum();
    let removed: i64 = -balance.values().filter(|count| **count < 0).sum::<i64>();
    let rows = |count: i64| if count == 1 { "1 row".to_owned() } else { format!("{count} rows") };
    match (added, removed) {
        (0, 0) if old == new => "blank lines or the end of its last line".to_owned(),
        (0, 0) => format!("the order of its {} rows", new.len()),
        (added, 0) => format!("{} added to {}", rows(added), old.len()),
        (0, removed) => format!("{} of {} taken out", rows(removed), old.len()),
        (added, removed) if added == removed => format!("{} of {}", rows(added), new.len()),
        (added, removed) => format!("{} of {} taken out, {} added", rows(removed), old.len(), rows(added)),
    }
}

#[cfg(test)]
mod tests {
    use super::row_change;

    #[test]
    fn rows_that_came_and_went_are_counted() {
        let rows = |text: &str| text.chars().map(String::from).collect::<Vec<_>>();
        let described = |old: &str, new: &str| row_change(&rows(old), &rows(new));
        assert_eq!(described("abcd", "abxy"), "2 rows of 4");
        assert_eq!(described("abcd", "abcx"), "1 row of 4");
        assert_eq!(described("abc", "abcdd"), "2 rows added to 3");
        assert_eq!(described("aab", "ab"), "1 row of 3 taken out");
        assert_eq!(described("abc", "axyz"), "2 rows of 3 taken out, 3 rows added");
        assert_eq!(described("abc", "cba"), "the order of its 3 rows");
        assert_eq!(described("abc", "abc"), "blank lines or the end of its last line");
    }
}
