//! Opens the history database, up to date with the files.

use crate::history::index::{self, IndexError, Indexed, Scope};
use crate::store::{BUSY_TIMEOUT, SchemaCheck, Store, StoreError, database_path};
use crate::workspace::Workspace;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

/// How long a query waits for another process that writes into the database.
const QUESTION_WAIT: Duration = Duration::from_secs(2);

/// An up-to-date, read-only history.
#[derive(Debug)]
pub struct OpenHistory {
    /// The database.
    pub store: Store,
    /// The new data that was read from files first.
    pub indexed: Indexed,
    /// Why the database could not be updated, and `store` is a temporary one.
    pub problem: Option<StoreError>,
}

/// The outcome of [`rebuild_history`].
#[derive(Debug)]
pub struct Rebuilt {
    /// The path of the database.
    pub path: PathBuf,
    /// The data that was read.
    pub indexed: Indexed,
    /// The path to which a damaged database was moved.
    pub moved: Option<PathBuf>,
    /// The number of stages whose metrics and completions are lost, because no file holds them any more.
    pub lost: usize,
}

/// Opens the history after updating it from the files. If the database cannot be written, the history is built in a
/// temporary file. So queries always see the current state.
pub async fn open_history(workspace: &Workspace, scope: Scope) -> Result<OpenHistory, IndexError> {
    match database_path(workspace.root()) {
        Ok(path) => match up_to_date(workspace, &path, scope).await {
            Err(IndexError::Store(problem)) => temporary(workspace, problem).await,
            other => other,
        },
        Err(problem) => temporary(workspace, problem).await,
    }
}

async fn up_to_date(workspace: &Workspace, path: &Path, scope: Scope) -> Result<OpenHistory, IndexError> {
    if path.exists() {
        let store = Store::open_read_only(path).await?;
        let is_ready =
            store.schema().await? == SchemaCheck::Current && index::belongs_to(&store, workspace, path).await?;
        if is_ready && index::behind(&store, workspace, scope).await?.is_empty() {
            return Ok(OpenHistory { store, indexed: Indexed::default(), problem: None });
        }
        store.close().await;
    }
    let store = index::open(workspace, path, QUESTION_WAIT).await?;
    let behind = index::behind(&store, workspace, scope).await?;
    let indexed = index::catch_up(&store, workspace, &behind).await?;
    store.forbid_writing().await?;
    Ok(OpenHistory { store, indexed, problem: None })
}

async fn temporary(workspace: &Workspace, problem: StoreError) -> Result<OpenHistory, IndexError> {
    let store = Store::temporary().await?;
    let indexed = index::rebuild(&store, workspace).await?;
    store.forbid_writing().await?;
    Ok(OpenHistory { store, indexed, problem: Some(problem) })
}

/// Rebuilds the history from the files. A file that is not a valid database is moved away first.
pub async fn rebuild_history(workspace: &Workspace) -> Result<Rebuilt, IndexError> {
    let path = database_path(workspace.root())?;
    let (store, moved) = match Store::open(&path, BUSY_TIMEOUT).await {
        Ok(store) if matches!(store.check().await, Ok(SchemaCheck::Current)) => (store, None),
        Err(error) if error.is_busy() => return Err(error.into()),
        _ => {
            let moved = move_away(&path)?;
            (Store::open(&path, BUSY_TIMEOUT).await?, moved)
        }
    };
    let before = store.recorded_keys().await?;
    let indexed = index::rebuild(&store, workspace).await?;
    let after = store.recorded_keys().await?;
    let lost = before.iter().filter(|key| !after.contains(key)).count();
    store.close().await;
    Ok(Rebuilt { path, indexed, moved, lost })
}

/// Renames the database together with the files that SQLite keeps beside it.
fn move_away(path: &Path) -> std::io::Result<Option<PathBuf>> {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_secs());
    let with = |path: &Path, suffix: &str| {
        let mut name = path.as_os_str().to_owned();
        name.push(suffix);
        PathBuf::from(name)
    };
    let away = with(path, &format!(".damaged-{now}"));
    let mut moved = None;
    for suffix in ["", "-wal", "-shm"] {
        let file = with(path, suffix);
        if file.exists() {
            fs_err::rename(&file, with(&away, suffix))?;
            moved = Some(away.clone());
        }
    }
    Ok(moved)
}
