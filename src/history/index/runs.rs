//! Indexes runs and the events of their stages.

use super::files::{Lines, commit_of, first_line, length};
use crate::digest::Digest;
use crate::event::Event;
use crate::history::checkpoints::{checkpoint_dir, events_dir};
use crate::history::past_runs::has_died;
use crate::history::run_log::{LogDamage, LoggedPlan, LoggedStage};
use crate::run_event::{RunEvent, RunEventKind};
use crate::store::{KeyState, Results, StageRecord, Store, StoreError, Update};
use crate::workspace::{Workspace, WorkspaceError};
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};
use ulid::Ulid;

/// An error while files are read into the database.
#[derive(Debug, thiserror::Error)]
pub enum IndexError {
    /// The database failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The workspace failed.
    #[error(transparent)]
    Workspace(#[from] WorkspaceError),
    /// A file could not be read.
    #[error(transparent)]
    Io(#[from] io::Error),
}

impl IndexError {
    /// Returns the damage of a single run's log, if that is the cause.
    fn into_damage(self) -> Result<LogDamage, Self> {
        match &self {
            Self::Io(error) => LogDamage::in_error(error).cloned().ok_or(self),
            Self::Store(_) | Self::Workspace(_) => Err(self),
        }
    }
}

/// The files to check besides runs and the events of their stages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// No others: enough for queries about runs.
    Runs,
    /// Also the checkpoints that are gone from the cache.
    Everything,
}

/// Files that are newer than the database.
#[derive(Debug, Default)]
pub(crate) struct Behind {
    runs: BTreeSet<String>,
    dead: Vec<String>,
    gone: Vec<String>,
    keys: BTreeSet<Digest>,
}

impl Behind {
    /// Whether the database is up to date.
    pub(crate) fn is_empty(&self) -> bool {
        self.runs.is_empty() && self.dead.is_empty() && self.gone.is_empty() && self.keys.is_empty()
    }
}

/// The amount of new data that was read.
#[derive(Clone, Debug, Default)]
pub struct Indexed {
    /// The number of runs that are new or have new events.
    pub runs: usize,
    /// The number of stages with new events.
    pub stages: usize,
    /// The number of lines that are not valid events, after a disk error or written by another program.
    pub unreadable_lines: u64,
    /// Logs of runs that are left out because they cannot be read.
    pub damage: Vec<LogDamage>,
}

/// Opens the database for writing. Waits up to `busy_timeout` for another process that holds it.
///
/// # Errors
/// The database cannot be opened, or it is the index of another project's files.
pub(crate) async fn open(workspace: &Workspace, path: &Path, busy_timeout: Duration) -> Result<Store, StoreError> {
    let store = Store::open(path, busy_timeout).await?;
    if store.source().await?.is_none() {
        let mut update = store.update().await?;
        update.set_source(&workspace.root().to_string_lossy()).await?;
        update.commit().await?;
    }
    belongs_to(&store, workspace, path).await?;
    Ok(store)
}

/// Whether the database records the project that it belongs to.
///
/// # Errors
/// The database belongs to another project.
pub(crate) async fn belongs_to(store: &Store, workspace: &Workspace, path: &Path) -> Result<bool, StoreError> {
    // The database beside the files belongs to them, even after the project was moved.
    let is_beside = || fs_err::canonicalize(path).is_ok_and(|path| path.starts_with(workspace.root()));
    match store.source().await? {
        Some(runs) if Path::new(&runs) != workspace.root() && !is_beside() => {
            Err(StoreError::OtherProject { path: path.to_owned(), runs: runs.into() })
        }
        source => Ok(source.is_some()),
    }
}

/// Compares the database with the files. Reads only their sizes.
pub(crate) async fn behind(store: &Store, workspace: &Workspace, scope: Scope) -> Result<Behind, IndexError> {
    let mut behind = Behind::default();
    let known = store.log_bytes().await?;
    let logged = logged_runs(workspace)?;
    for run in &logged {
        let is_new = match known.get(run) {
            Some(None) => false,
            Some(Some(bytes)) => {
                length(&log_dir(workspace, run).join("run.jsonl")).is_some_and(|length| length > *bytes)
            }
            None => log_dir(workspace, run).join("plan.json").is_file(),
        };
        if is_new {
            behind.runs.insert(run.clone());
        }
    }
    behind.gone = known.into_keys().filter(|run| !logged.contains(run)).collect();
    for run in store.running().await? {
        if !behind.gone.contains(&run) && has_died(workspace.root(), &run) {
            behind.dead.push(run);
        }
    }
    for key in store.unsettled_keys().await? {
        if is_key_behind(store, workspace, &key).await? {
            behind.keys.insert(key);
        }
    }
    if scope == Scope::Everything {
        let present: BTreeSet<Digest> = workspace.keys()?.into_iter().collect();
        let committed: BTreeSet<Digest> = store.committed_keys().await?.into_iter().collect();
        behind.keys.extend(present.symmetric_difference(&committed).cloned());
    }
    Ok(behind)
}

async fn is_key_behind(store: &Store, workspace: &Workspace, key: &Digest) -> Result<bool, IndexError> {
    let known = store.key_state(key).await?;
    let (bytes, committed) = known.map_or((0, false), |known| (known.events_bytes, known.is_committed()));
    let length = length(&events_dir(workspace, key).join("events.jsonl"));
    Ok(length != Some(bytes) || committed != checkpoint_dir(workspace, key).join("manifest.json").is_file())
}

/// Reads the files that are newer than the database, in one transaction.
pub(crate) async fn catch_up(store: &Store, workspace: &Workspace, behind: &Behind) -> Result<Indexed, IndexError> {
    let mut update = store.update().await?;
    let indexed = read(&mut update, workspace, behind).await?;
    update.commit().await?;
    Ok(indexed)
}

/// Removes every row and reads all files, in one transaction. A killed rebuild changes nothing.
pub(crate) async fn rebuild(store: &Store, workspace: &Workspace) -> Result<Indexed, IndexError> {
    let mut update = store.update().await?;
    update.clear().await?;
    update.set_source(&workspace.root().to_string_lossy()).await?;
    let runs =
        logged_runs(workspace)?.into_iter().filter(|run| log_dir(workspace, run).join("plan.json").is_file()).collect();
    let keys = workspace.keys()?.into_iter().chain(workspace.attempted_keys()?).collect();
    let behind = Behind { runs, keys, ..Behind::default() };
    let indexed = read(&mut update, workspace, &behind).await?;
    update.commit().await?;
    Ok(indexed)
}

async fn read(update: &mut Update, workspace: &Workspace, behind: &Behind) -> Result<Indexed, IndexError> {
    let mut indexed = Indexed::default();
    for run in &behind.gone {
        update.remove_run(run).await?;
    }
    let mut keys = behind.keys.clone();
    for run in behind.runs.iter().chain(&behind.dead) {
        let (touched, unreadable) = match read_run(update, workspace, run, None).await {
            Ok(read) => read,
            Err(error) => {
                indexed.damage.push(error.into_damage()?);
                continue;
            }
        };
        indexed.runs += usize::from(!touched.is_empty());
        indexed.unreadable_lines += unreadable;
        keys.extend(touched);
    }
    for run in behind.runs.iter().chain(&behind.dead) {
        if update.is_running(run).await? && has_died(workspace.root(), run) {
            update.end_dead_run(run).await?;
        }
    }
    let (stages, unreadable) = read_keys(update, workspace, &keys).await?;
    indexed.stages += stages;
    indexed.unreadable_lines += unreadable;
    Ok(indexed)
}

/// Reads the log of a run from where the last reading ended. Returns the keys with new events and the number of
/// unreadable lines. Reads the run's plan too, unless `plan` is given.
pub(crate) async fn read_run(
    update: &mut Update,
    workspace: &Workspace,
    run: &str,
    plan: Option<&LoggedPlan>,
) -> Result<(BTreeSet<Digest>, u64), IndexError> {
    let log_dir = log_dir(workspace, run);
    let known = update.log_bytes(run).await?;
    let mut lines = Lines::<RunEvent>::open(&log_dir.join("run.jsonl"), known.unwrap_or(0))?;
    let mut events = Vec::new();
    while let Some(event) = lines.next_event()? {
        events.push(event);
    }
    if known.is_some() {
        update.change_stages(run, &events).await?;
    } else {
        let loaded;
        let plan = if let Some(plan) = plan {
            plan
        } else {
            match LoggedPlan::load(&log_dir) {
                Ok(read) => loaded = read,
                // The run was killed before its first stage.
                Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok((BTreeSet::new(), 0)),
                Err(error) => return Err(error.into()),
            }
            &loaded
        };
        let began = Ulid::from_string(run).map_or(SystemTime::UNIX_EPOCH, |id| id.datetime());
        let stages: Vec<StageRecord> = plan.stages.iter().zip(plan.names()).map(record_of).collect();
        update.add_run(run, began.into(), &stages, &events).await?;
    }
    let mut started: BTreeSet<&Digest> = BTreeSet::new();
    let mut measured: BTreeMap<&Digest, &Results> = BTreeMap::new();
    for RunEvent { at, kind } in &events {
        match kind {
            RunEventKind::RunStarted { process, version } => {
                update.set_owner(run, *at, (&process.host, process.pid, version)).await?;
            }
            RunEventKind::RunEnded { status } => update.end_run(run, *status, *at).await?,
            RunEventKind::StageStarted { key } => {
                started.insert(key);
            }
            RunEventKind::StageDone { key, results, .. } => {
                // Results stay when the checkpoint, and its events with it, is removed.
                measured.insert(key, results);
            }
            _ => {}
        }
    }
    if !started.is_empty() {
        update.unsettle(&started).await?;
    }
    if !measured.is_empty() {
        let ids = update.keys(&measured.keys().copied().collect::<Vec<_>>()).await?;
        let of_id = measured.iter().filter_map(|(key, results)| Some((ids.get(*key)?.id, *results)));
        update.set_results(&of_id.collect()).await?;
    }
    if let Some(newest) = events.last() {
        update.set_log_bytes(run, lines.offset, newest.at).await?;
    }
    let touched = events.iter().filter_map(|event| worked_on(&event.kind).cloned()).collect();
    Ok((touched, lines.unreadable))
}

/// Returns the key of a stage that worked, or whose result was used, so that its own events may be new.
fn worked_on(kind: &RunEventKind) -> Option<&Digest> {
    match kind {
        RunEventKind::StageSkipped { .. } | RunEventKind::StageEnergy { .. } | RunEventKind::StageMemory { .. } => None,
        kind => kind.key(),
    }
}

/// Reads the events of keys. Returns the number of keys with new events and the number of unreadable lines.
pub(crate) async fn read_keys(
    update: &mut Update,
    workspace: &Workspace,
    keys: &BTreeSet<Digest>,
) -> Result<(usize, u64), IndexError> {
    let (mut read, mut unreadable) = (0, 0);
    let mut settled = Vec::new();
    let mut known = update.keys(&keys.iter().collect::<Vec<_>>()).await?;
    for key in keys {
        let state = match known.remove(key) {
            Some(state) => state,
            None => update.key(key).await?,
        };
        let found = read_key(update, workspace, key, &state).await?;
        read += usize::from(found.is_new);
        unreadable += found.unreadable;
        settled.extend(found.is_settled.then_some(state.id));
    }
    update.settle(&settled).await?;
    Ok((read, unreadable))
}

/// The outcome of reading the events of a key.
#[derive(Clone, Copy, Debug, Default)]
struct KeyRead {
    /// Whether there were events that are not in the database.
    is_new: bool,
    /// Whether no more events can come, unless a stage with the key is running.
    is_settled: bool,
    /// The number of unreadable lines.
    unreadable: u64,
}

/// Reads the events of a key from where the last reading ended. Reads them from the beginning if they belong to another
/// attempt.
async fn read_key(
    update: &mut Update,
    workspace: &Workspace,
    key: &Digest,
    known: &KeyState,
) -> Result<KeyRead, IndexError> {
    let path = events_dir(workspace, key).join("events.jsonl");
    let committed = commit_of(&checkpoint_dir(workspace, key))?;
    // A rerun may have been committed since.
    if !known.is_committed_at(committed.map(|(at, _)| at)) {
        update.set_committed(known.id, committed).await?;
    }
    let length = length(&path);
    let is_settled = committed.is_some() || length.is_none();
    let nothing = KeyRead { is_settled, ..KeyRead::default() };
    let Some(length) = length else { return Ok(nothing) };
    let Some(head) = first_line(&path)? else { return Ok(nothing) };
    let head = Digest::of(&head).as_str().to_owned();
    let continues = known.events_head.as_ref() == Some(&head) && length >= known.events_bytes;
    if continues && length == known.events_bytes {
        return Ok(nothing);
    }
    if known.events_head.is_some() && !continues {
        update.take_back(known.id, 0).await?;
    }
    let from = if continues { known.events_bytes } else { 0 };
    let mut lines = Lines::<Event>::open(&path, from)?;
    while let Some(event) = lines.next_event()? {
        update.record(known.id, &event).await?;
    }
    update.set_events_bytes(known.id, &head, lines.offset).await?;
    Ok(KeyRead { is_new: lines.offset > from, is_settled, unreadable: lines.unreadable })
}

/// Returns the database record of a stage of a plan.
fn record_of((stage, (recipe, variant)): (&LoggedStage, (String, String))) -> StageRecord {
    StageRecord { stage: stage.stage.clone(), kind: stage.kind, key: stage.key.clone(), recipe, variant }
}

/// Returns the ids of all runs with a log.
fn logged_runs(workspace: &Workspace) -> io::Result<BTreeSet<String>> {
    let directory = workspace.root().join("log");
    let mut runs = BTreeSet::new();
    if directory.is_dir() {
        for entry in fs_err::read_dir(&directory)? {
            runs.extend(entry?.file_name().into_string().ok());
        }
    }
    Ok(runs)
}

fn log_dir(workspace: &Workspace, run: &str) -> PathBuf {
    workspace.root().join("log").join(run)
}
