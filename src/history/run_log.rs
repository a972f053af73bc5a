//! `runs/log/<run>/`: what a run was asked and what it did, in files. The database is an index of them.
//!
//! ```text
//! runs/log/<run>/
//!   invocation.json   the recipes' paths, `--set`, `ORCHESTRATE_*`, what it resumes ([`Invocation`])
//!   recipes/...       the recipe files as they were, bases included, laid out as they lay to each other
//!   plan.json         variants and stages with their keys
//!   run.jsonl         one object for each thing that happened ([`RunEvent`])
//!   lock              locked while the run lives
//! ```

use crate::digest::Digest;
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

/// A file of a run's log cannot be read.
#[derive(Clone, Debug, thiserror::Error)]
#[error("`{}` is damaged: {reason}", path.display())]
pub struct LogDamage {
    /// The file.
    pub path: PathBuf,
    /// What is wrong with it.
    pub reason: String,
}

impl LogDamage {
    /// The id of the run.
    pub fn run(&self) -> Option<&str> {
        self.path.parent()?.file_name()?.to_str()
    }

    /// What to do about it.
    pub fn hint(&self) -> String {
        let run = self.run().unwrap_or_default();
        format!("restore the file, or forget the run: `orchestrate runs rm {run}`")
    }

    /// The damage in an error.
    pub fn in_error(error: &io::Error) -> Option<&Self> {
        error.get_ref().and_then(|inner| inner.downcast_ref())
    }

    /// Every error of reading `path` is damage.
    pub(super) fn of<T>(path: &Path, read: io::Result<T>) -> Result<T, Self> {
        read.map_err(|error| match Self::in_error(&error) {
            Some(damage) => damage.clone(),
            None => Self { path: path.to_owned(), reason: error.kind().to_string() },
        })
    }
}

/// Reads a file of a log.
///
/// # Errors
/// [`LogDamage`] inside when it is not what this program writes.
fn load<T: DeserializeOwned>(path: &Path) -> io::Result<T> {
    serde_json::from_slice(&fs::read(path)?).map_err(|error| {
        io::Error::new(io::ErrorKind::InvalidData, LogDamage { path: path.to_owned(), reason: error.to_string() })
    })
}

/// The events of the log in `log_dir`, in order, and how many lines are none. A line that was being written when its
/// process died does not count.
pub(super) fn read_events(log_dir: &Path) -> io::Result<(Vec<RunEvent>, usize)> {
    let bytes = fs::read(log_dir.join("run.jsonl"))?;
    let lines = bytes.split_inclusive(|&byte| byte == b'\n').filter(|line| line.ends_with(b"\n"));
    let mut unreadable = 0;
    let events = lines.filter_map(|line| serde_json::from_slice(line).inspect_err(|_| unreadable += 1).ok()).collect();
    Ok((events, unreadable))
}

/// Writes down the end of a run whose process no longer can.
pub(super) fn append_end(log_dir: &Path, status: RunStatus) -> io::Result<()> {
    let path = log_dir.join("run.jsonl");
    let is_cut = fs::read(&path)?.last().is_some_and(|&byte| byte != b'\n');
    let mut log = RunLog { events: fs::OpenOptions::new().append(true).open(path)?, lock: None };
    if is_cut {
        log.events.write_all(b"\n")?;
    }
    log.append(Utc::now(), vec![RunEventKind::RunEnded { status }])
}

/// What a run was asked.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Invocation {
    /// The recipes of the command line, as stored below `recipes/`.
    pub recipes: Vec<PathBuf>,
    /// Where each file below `recipes/` was read from.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub sources: BTreeMap<PathBuf, PathBuf>,
    /// Arguments of `--set`.
    pub set: Vec<String>,
    /// The environment's overrides.
    pub env: BTreeMap<String, String>,
    /// Patterns of the variants it was limited to.
    #[serde(default)]
    pub variants: Vec<String>,
    /// Names of the stages it was limited to, with what they need.
    pub only: Vec<String>,
    /// The commit of the project directory, with `+` where files differ from it; absent outside a Git repository.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub commit: Option<String>,
    /// Stages that run at the same time, if the command line said.
    pub jobs: Option<u16>,
    /// The run that this one goes on with.
    pub resumes: Option<String>,
    /// Keys of stages that it was to run although they are cached (`--force`).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub forced: Vec<Digest>,
}

impl Invocation {
    /// Reads the invocation of a past run.
    pub fn load(log_dir: &Path) -> io::Result<Self> {
        load(&log_dir.join("invocation.json"))
    }

    /// The files that were read for this run, of which `log_dir` is the log, by the paths of their copies there.
    pub fn sources_by_copy(&self, log_dir: &Path) -> BTreeMap<PathBuf, PathBuf> {
        let copy = |path: &PathBuf| log_dir.join("recipes").join(path);
        self.sources.iter().map(|(stored, source)| (copy(stored), source.clone())).collect()
    }

    /// The recipe files that have other content now than when the run, of which `log_dir` is the log, began; a file that is gone
    /// is none of them.
    pub fn changed_sources(&self, log_dir: &Path) -> Vec<PathBuf> {
        let is_changed = |(copy, source): &(PathBuf, PathBuf)| match (fs::read(copy), fs::read(source)) {
            (Ok(then), Ok(now)) => then != now,
            _ => false,
        };
        self.sources_by_copy(log_dir).into_iter().filter(is_changed).map(|(_, source)| source).collect()
    }

    /// The same changes again.
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
    /// What the arms of each recipe are compared by, where it says so, by the recipe's name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub compare: BTreeMap<String, CompareSettings>,
}

/// A stage of a run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LoggedStage {
    /// Its name in the recipe that mentions it first.
    pub stage: String,
    /// Its kind.
    pub kind: StageKind,
    /// Its cache key.
    pub key: Digest,
    /// The keys of the stages it starts from.
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
    /// The cell's name.
    pub name: String,
    /// `recipe/name`.
    pub label: String,
    /// The keys of its stages, by their names in this recipe.
    pub stages: BTreeMap<String, Digest>,
}

impl LoggedPlan {
    /// What is logged of `plan`.
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

    /// For each stage, the recipes and the names of the variants that need it, each with spaces between.
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

    /// The stages that some recipe calls `name`.
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
    /// Creates the directory and writes what is known before anything runs. `files` are the recipe files that were
    /// read, the ones of the command line first among equals: `invocation.recipes` are rewritten to their copies.
    pub(crate) fn create(
        log_dir: &Path,
        mut invocation: Invocation,
        files: &[(PathBuf, String)],
        plan: &LoggedPlan,
    ) -> io::Result<Self> {
        fs::create_dir_all(log_dir)?;
        let lock = lock_run(log_dir)?; // first: who finds any of the log finds its run alive
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

    /// What shows that the run's process lives; no more is written down.
    pub(crate) fn into_lock(self) -> Option<FileLock> {
        self.lock
    }

    /// Appends events that happened at once, as one write, and flushes it.
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

/// Where copies of `paths` go so that they lie to each other as the originals do: their paths below the deepest
/// directory that holds them all.
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

/// `path` from the root, without `.` and `..`, by its text alone.
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
