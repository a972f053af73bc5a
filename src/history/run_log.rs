//! `runs/log/<run>/`: the invocation and the events of a run, in files. The database is an index of them.
//!
//! ```text
//! runs/log/<run>/
//!   invocation.json   the recipes' paths, `--set`, `ORCHESTRATE_*`, the resumed run ([`Invocation`])
//!   recipes/...       copies of the recipe files, bases included, in their original relative layout
//!   plan.json         variants and stages with their keys
//!   run.jsonl         one object for each event ([`RunEvent`])
//!   lock              locked while the run lives
//! ```

use crate::digest::Digest;
use crate::evidence::SeedSearch;
use crate::history::run_process::lock_run;
use crate::host::FileLock;
use crate::plan::Plan;
use crate::recipe::{CompareSettings, Overrides};
use crate::run_event::{RunEvent, RunEventKind};
use crate::stage::{RunStatus, StageKind};
use crate::workspace::write_file;
use chrono::{DateTime, Utc};
use fs_err as fs;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Write as _};
use std::path::{Component, Path, PathBuf};

/// A file of a run's log that cannot be read.
#[derive(Clone, Debug, thiserror::Error)]
#[error("`{}` is damaged: {reason}", path.display())]
pub struct LogDamage {
    /// The file.
    pub path: PathBuf,
    /// The reason why it cannot be read.
    pub reason: String,
}

impl LogDamage {
    /// Returns the id of the run.
    pub fn run(&self) -> Option<&str> {
        self.path.parent()?.file_name()?.to_str()
    }

    /// Returns a suggestion for how to repair the damage.
    pub fn hint(&self) -> String {
        let run = self.run().unwrap_or_default();
        format!("restore the file, or forget the run: `orchestrate runs rm {run}`")
    }

    /// Returns the damage inside an error.
    pub fn in_error(error: &io::Error) -> Option<&Self> {
        error.get_ref().and_then(|inner| inner.downcast_ref())
    }

    /// Converts every error of reading `path` to damage.
    pub(super) fn of<T>(path: &Path, read: io::Result<T>) -> Result<T, Self> {
        read.map_err(|error| match Self::in_error(&error) {
            Some(damage) => damage.clone(),
            None => Self { path: path.to_owned(), reason: error.kind().to_string() },
        })
    }
}

/// Reads a JSON file of a log.
///
/// # Errors
/// The file cannot be read. The error contains [`LogDamage`] if the content is invalid.
fn load<T: DeserializeOwned>(path: &Path) -> io::Result<T> {
    serde_json::from_slice(&fs::read(path)?).map_err(|error| {
        io::Error::new(io::ErrorKind::InvalidData, LogDamage { path: path.to_owned(), reason: error.to_string() })
    })
}

/// Reads the events of the log in `log_dir`, in order, and counts the invalid lines. An incomplete last line, left by a
/// process that died, does not count.
pub(super) fn read_events(log_dir: &Path) -> io::Result<(Vec<RunEvent>, usize)> {
    let bytes = fs::read(log_dir.join("run.jsonl"))?;
    let lines = bytes.split_inclusive(|&byte| byte == b'\n').filter(|line| line.ends_with(b"\n"));
    let mut unreadable = 0;
    let events = lines.filter_map(|line| serde_json::from_slice(line).inspect_err(|_| unreadable += 1).ok()).collect();
    Ok((events, unreadable))
}

/// Records the end of a run whose process can no longer do so.
pub(super) fn append_end(log_dir: &Path, status: RunStatus) -> io::Result<()> {
    let path = log_dir.join("run.jsonl");
    let is_cut = fs::read(&path)?.last().is_some_and(|&byte| byte != b'\n');
    let mut log = RunLog { events: fs::OpenOptions::new().append(true).open(path)?, lock: None };
    if is_cut {
        log.events.write_all(b"\n")?;
    }
    log.append(Utc::now(), vec![RunEventKind::RunEnded { status }])
}

/// The invocation of a run: recipes, overrides and limits.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Invocation {
    /// The recipes of the command line, as stored below `recipes/`.
    pub recipes: Vec<PathBuf>,
    /// The original path of each file below `recipes/`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub sources: BTreeMap<PathBuf, PathBuf>,
    /// Arguments of `--set`.
    pub set: Vec<String>,
    /// Overrides from environment variables.
    pub env: BTreeMap<String, String>,
    /// Patterns that limit the variants.
    #[serde(default)]
    pub variants: Vec<String>,
    /// Names of the stages that the run was limited to, besides their ancestors.
    pub only: Vec<String>,
    /// The commit of the project directory, with `+` where files differ from it; absent outside a Git repository.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub commit: Option<String>,
    /// The number of stages that run at the same time, if the command line set it.
    pub jobs: Option<u16>,
    /// The run that this one resumes.
    pub resumes: Option<String>,
    /// Keys of cached stages to run again (`--force`).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub forced: Vec<Digest>,
    /// The search for seeds of which the run is a round (`--until-separable`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seed_search: Option<SearchRound>,
}

/// A round of a search for seeds.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SearchRound {
    /// The search, with the seeds of this round.
    pub search: SeedSearch,
    /// The number of the round, from 1 on.
    pub round: usize,
    /// The values of `sweep.matrix.seed` without the search.
    pub axis: Vec<u64>,
    /// Arguments of `--set` without the search.
    pub set: Vec<String>,
}

impl Invocation {
    /// Reads the invocation of a past run.
    pub fn load(log_dir: &Path) -> io::Result<Self> {
        load(&log_dir.join("invocation.json"))
    }

    /// Returns the original paths of the recipe files by the paths of their copies in `log_dir`.
    pub fn sources_by_copy(&self, log_dir: &Path) -> BTreeMap<PathBuf, PathBuf> {
        let copy = |path: &PathBuf| log_dir.join("recipes").join(path);
        self.sources.iter().map(|(stored, source)| (copy(stored), source.clone())).collect()
    }

    /// Returns the recipe files whose content has changed since the run with the log `log_dir` began. Files that no
    /// longer exist are left out.
    pub fn changed_sources(&self, log_dir: &Path) -> Vec<PathBuf> {
        let is_changed = |(copy, source): &(PathBuf, PathBuf)| match (fs::read(copy), fs::read(source)) {
            (Ok(then), Ok(now)) => then != now,
            _ => false,
        };
        self.sources_by_copy(log_dir).into_iter().filter(is_changed).map(|(_, source)| source).collect()
    }

    /// Returns the overrides of the run.
    pub fn overrides(&self) -> Overrides {
        Overrides { set: self.set.clone(), env: self.env.clone() }
    }
}

/// `plan.json`: the stages and variants of a run.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LoggedPlan {
    /// The stages, parents first.
    pub stages: Vec<LoggedStage>,
    /// The variants.
    pub variants: Vec<LoggedVariant>,
    /// The `compare` settings by recipe name, for recipes that have them.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub compare: BTreeMap<String, CompareSettings>,
}

/// A stage of a run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LoggedStage {
    /// The stage's name in the first recipe that mentions it.
    pub stage: String,
    /// The stage's kind.
    pub kind: StageKind,
    /// The stage's cache key.
    pub key: Digest,
    /// The keys of its parents.
    pub parents: Vec<Digest>,
    /// Labels of the variants that need it.
    pub variants: Vec<String>,
}

/// A variant of a run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LoggedVariant {
    /// The recipe's name.
    pub recipe: String,
    /// The variant's name.
    pub name: String,
    /// `recipe/name`.
    pub label: String,
    /// The keys of the variant's stages, by their names in this recipe.
    pub stages: BTreeMap<String, Digest>,
}

impl LoggedPlan {
    /// Returns the logged form of `plan`.
    pub(crate) fn of(plan: &Plan) -> Self {
        let key = |stage: usize| plan.stages[stage].key.clone();
        let stages = plan.stages.iter().map(|stage| LoggedStage {
            stage: stage.name.clone(),
            kind: stage.spec.work.kind(),
            key: stage.key.clone(),
            parents: stage.parents.iter().map(|&parent| key(parent)).collect(),
            variants: stage.variants.clone(),
        });
        let variants = plan.variants.iter().map(|variant| LoggedVariant {
            recipe: variant.recipe.clone(),
            name: variant.name.clone(),
            label: variant.label.clone(),
            stages: variant.stages.iter().map(|(name, stage)| (name.clone(), key(*stage))).collect(),
        });
        Self { stages: stages.collect(), variants: variants.collect(), compare: plan.compare.clone() }
    }

    /// Reads the plan of a past run.
    pub fn load(log_dir: &Path) -> io::Result<Self> {
        load(&log_dir.join("plan.json"))
    }

    /// Returns, for each stage, the recipes and the names of the variants that need it, each joined by spaces.
    pub fn names(&self) -> Vec<(String, String)> {
        let of_label: BTreeMap<&str, usize> =
            self.variants.iter().enumerate().map(|(position, variant)| (variant.label.as_str(), position)).collect();
        let names_of = |stage: &LoggedStage| {
            let found = stage.variants.iter().filter_map(|label| of_label.get(label.as_str()).copied());
            let found: BTreeSet<usize> = found.collect();
            let variants = || found.iter().map(|&position| &self.variants[position]);
            let mut recipes: Vec<&str> = variants().map(|variant| variant.recipe.as_str()).collect();
            recipes.dedup();
            let names: Vec<&str> = variants().map(|variant| variant.name.as_str()).collect();
            (recipes.join(" "), names.join(" "))
        };
        self.stages.iter().map(names_of).collect()
    }

    /// Returns the stages that some recipe calls `name`.
    pub fn stages_named(&self, name: &str) -> Vec<&LoggedStage> {
        let called = |key: &Digest| self.variants.iter().any(|variant| variant.stages.get(name) == Some(key));
        self.stages.iter().filter(|stage| stage.stage == name || called(&stage.key)).collect()
    }
}

/// The open log of a run.
#[derive(Debug)]
pub(crate) struct RunLog {
    events: fs::File,
    /// Held while the run lives; absent on a file system without locks.
    lock: Option<FileLock>,
}

impl RunLog {
    /// Creates the directory and writes the invocation, the recipe files and the plan. `files` are the recipe files
    /// that were read, those of the command line first. `invocation.recipes` is rewritten to the paths of the copies.
    pub(crate) fn create(
        log_dir: &Path,
        mut invocation: Invocation,
        files: &[(PathBuf, String)],
        plan: &LoggedPlan,
    ) -> io::Result<Self> {
        fs::create_dir_all(log_dir)?;
        let lock = lock_run(log_dir)?; // first, so that any visible part of the log implies a lock
        let stored = store_layout(files.iter().map(|(path, _)| path.as_path()));
        for ((_, text), place) in files.iter().zip(&stored) {
            let copy = log_dir.join("recipes").join(place);
            fs::create_dir_all(copy.parent().expect("a file below the log directory has a parent"))?;
            write_file(&copy, text.as_bytes())?;
        }
        let source = |path: &PathBuf| invocation.sources.get(path).cloned().unwrap_or_else(|| absolute(path));
        invocation.sources = stored.iter().cloned().zip(files.iter().map(|(path, _)| source(path))).collect();
        for recipe in &mut invocation.recipes {
            if let Some(position) = files.iter().position(|(path, _)| path == recipe) {
                recipe.clone_from(&stored[position]);
            }
        }
        write_file(&log_dir.join("invocation.json"), &pretty(&invocation)?)?;
        write_file(&log_dir.join("plan.json"), &pretty(plan)?)?;
        let events = fs::OpenOptions::new().create_new(true).append(true).open(log_dir.join("run.jsonl"))?;
        Ok(Self { events, lock })
    }

    /// Closes the log and returns the lock that shows that the run's process lives.
    pub(crate) fn into_lock(self) -> Option<FileLock> {
        self.lock
    }

    /// Appends simultaneous events in one write and flushes it.
    pub(crate) fn append(&mut self, at: DateTime<Utc>, kinds: Vec<RunEventKind>) -> io::Result<()> {
        let mut lines = Vec::new();
        for kind in kinds {
            serde_json::to_writer(&mut lines, &RunEvent { at, kind }).map_err(io::Error::from)?;
            lines.push(b'\n');
        }
        self.events.write_all(&lines)?;
        self.events.sync_data()
    }
}

fn pretty(value: &impl Serialize) -> io::Result<Vec<u8>> {
    serde_json::to_vec_pretty(value).map_err(io::Error::from)
}

/// Returns the paths of copies of `paths` that keep their relative layout: each path below their deepest common
/// directory.
fn store_layout<'a>(paths: impl Iterator<Item = &'a Path>) -> Vec<PathBuf> {
    let plain: Vec<PathBuf> = paths.map(absolute).collect();
    let mut shared: Option<PathBuf> = None;
    for path in &plain {
        let directory = path.parent().unwrap_or(Path::new("/"));
        shared = Some(match shared {
            None => directory.to_owned(),
            Some(so_far) => so_far.ancestors().find(|a| directory.starts_with(a)).unwrap_or(Path::new("/")).to_owned(),
        });
    }
    let shared = shared.unwrap_or_default();
    plain.iter().map(|path| path.strip_prefix(&shared).unwrap_or(path).to_owned()).collect()
}

/// Returns the absolute form of `path` without `.` and `..`, by its text alone.
fn absolute(path: &Path) -> PathBuf {
    let full = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    let mut plain = PathBuf::new();
    for part in full.components() {
        match part {
            Component::ParentDir => {
                plain.pop();
            }
            Component::CurDir => {}
            _ => plain.push(part),
        }
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn copies_of_recipes_lie_to_each_other_as_the_originals_do() {
        let layout = store_layout(["/p/recipes/a/demo.toml", "/p/recipes/a/../base.toml"].map(Path::new).into_iter());
        assert_eq!(layout, ["a/demo.toml", "base.toml"].map(PathBuf::from));
        assert_eq!(store_layout(["/p/x.toml"].map(Path::new).into_iter()), [PathBuf::from("x.toml")]);
    }
}
