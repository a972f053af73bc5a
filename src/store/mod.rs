//! The history in SQLite (`runs/history.db`): the only importer of sqlx, and the only writer is the process that runs a plan.
//!
//! The schema is in `migrations/`. Everything here can be rebuilt from the files under `runs/`, so a failure to write
//! never fails a stage.

mod events;
mod query;

pub use query::Answer;

use crate::digest::Digest;
use chrono::{DateTime, SecondsFormat, Utc};
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePool, SqlitePoolOptions, SqliteSynchronous};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// How long a writer waits for another one.
const BUSY_TIMEOUT: Duration = Duration::from_secs(10);

static MIGRATIONS: sqlx::migrate::Migrator = sqlx::migrate!("./migrations");

/// Why the history could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The database cannot be opened.
    #[error("the history `{}` cannot be opened", path.display())]
    Open {
        /// The file.
        path: PathBuf,
        /// Why.
        source: sqlx::Error,
    },
    /// Its schema cannot be brought up to date.
    #[error("the schema of the history `{}` cannot be brought up to date", path.display())]
    Migrate {
        /// The file.
        path: PathBuf,
        /// Why.
        source: sqlx::migrate::MigrateError,
    },
    /// A statement failed.
    #[error("the history refused: {0}")]
    Statement(#[from] sqlx::Error),
    /// There is no history yet.
    #[error("there is no history at `{}`", path.display())]
    Missing {
        /// The file.
        path: PathBuf,
    },
}

impl StoreError {
    /// What to do about it.
    pub fn hint(&self) -> String {
        match self {
            Self::Missing { .. } => "`orchestrate run RECIPE` starts one; `-C DIR` chooses another project".to_owned(),
            Self::Statement(error) | Self::Open { source: error, .. } if error.to_string().contains("locked") => {
                "another process holds the database: end it, or wait".to_owned()
            }
            Self::Statement(_) => "see `migrations/` for the tables and columns".to_owned(),
            Self::Open { path, .. } | Self::Migrate { path, .. } => {
                format!("results are safe in the cache; move `{}` away to start a new history", path.display())
            }
        }
    }
}

/// A stage of a run as it is recorded.
#[derive(Clone, Debug)]
pub struct StageRecord {
    /// Name in its recipe.
    pub name: String,
    /// Kind.
    pub kind: String,
    /// Cache key.
    pub key: Digest,
    /// Labels of the variants that need it.
    pub variants: Vec<String>,
}

/// The state of a recorded stage.
#[derive(Clone, Debug, PartialEq)]
pub enum StageState {
    /// A worker runs it, or this run waits for another's.
    Running,
    /// Its result was in the cache.
    Hit,
    /// It ran to its end.
    Ok {
        /// Seconds it took.
        seconds: f64,
    },
    /// It failed.
    Failed {
        /// Seconds it took.
        seconds: f64,
        /// Why.
        message: String,
    },
    /// It was stopped on request.
    Interrupted {
        /// Seconds it took.
        seconds: f64,
    },
    /// It was not run.
    Skipped {
        /// Why.
        because: String,
    },
}

/// What [`Store::check`] found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SchemaCheck {
    /// Everything is as this program needs it.
    Current,
    /// The next run will bring the schema up to date.
    Older,
    /// A newer version of this program has changed the schema.
    Newer,
    /// The file is damaged; what SQLite says.
    Damaged(String),
}

/// The open history.
#[derive(Clone, Debug)]
pub struct Store {
    pool: SqlitePool,
}

impl Store {
    /// Opens the history for writing, making or updating it.
    pub async fn open(path: &Path) -> Result<Self, StoreError> {
        Self::open_with(path, BUSY_TIMEOUT).await
    }

    async fn open_with(path: &Path, busy_timeout: Duration) -> Result<Self, StoreError> {
        let options = SqliteConnectOptions::new()
            .filename(path)
            .create_if_missing(true)
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Normal)
            .foreign_keys(true)
            .busy_timeout(busy_timeout);
        let store = Self::connect(path, options).await?;
        let migrated = MIGRATIONS.run(&store.pool).await;
        migrated.map_err(|source| StoreError::Migrate { path: path.to_owned(), source })?;
        Ok(store)
    }

    /// Opens the history for questions only.
    pub async fn open_read_only(path: &Path) -> Result<Self, StoreError> {
        if !path.exists() {
            return Err(StoreError::Missing { path: path.to_owned() });
        }
        let options = SqliteConnectOptions::new().filename(path).read_only(true).busy_timeout(BUSY_TIMEOUT);
        Self::connect(path, options).await
    }

    /// Whether the file is sound, and its schema: how many of the migrations of this program it has, and how many more
    /// that this program does not know.
    pub async fn check(&self) -> Result<SchemaCheck, StoreError> {
        let (verdict,): (String,) = sqlx::query_as("PRAGMA quick_check(1)").fetch_one(&self.pool).await?;
        if verdict != "ok" {
            return Ok(SchemaCheck::Damaged(verdict));
        }
        let applied: Vec<(i64,)> =
            sqlx::query_as("SELECT version FROM _sqlx_migrations WHERE success").fetch_all(&self.pool).await?;
        let known: BTreeSet<i64> = MIGRATIONS.iter().map(|migration| migration.version).collect();
        let applied: BTreeSet<i64> = applied.into_iter().map(|(version,)| version).collect();
        Ok(if !applied.is_subset(&known) {
            SchemaCheck::Newer
        } else if applied == known {
            SchemaCheck::Current
        } else {
            SchemaCheck::Older
        })
    }

    async fn connect(path: &Path, options: SqliteConnectOptions) -> Result<Self, StoreError> {
        let pool = SqlitePoolOptions::new().max_connections(1).connect_with(options).await;
        Ok(Self { pool: pool.map_err(|source| StoreError::Open { path: path.to_owned(), source })? })
    }

    /// Records that the run `id` begins, with all its stages pending.
    pub async fn begin_run(&self, id: &str, host: &str, stages: &[StageRecord]) -> Result<(), StoreError> {
        let mut transaction = self.pool.begin().await?;
        sqlx::query("INSERT INTO runs (id, started_at, status, host, pid, version) VALUES (?, ?, 'running', ?, ?, ?)")
            .bind(id)
            .bind(timestamp(Utc::now()))
            .bind(host)
            .bind(i64::from(std::process::id()))
            .bind(env!("CARGO_PKG_VERSION"))
            .execute(&mut *transaction)
            .await?;
        for (position, stage) in (0i64..).zip(stages) {
            sqlx::query(
                "INSERT INTO stages (run, position, name, kind, key, variants, status) VALUES (?, ?, ?, ?, ?, ?, 'pending')",
            )
            .bind(id)
            .bind(position)
            .bind(&stage.name)
            .bind(&stage.kind)
            .bind(stage.key.as_str())
            .bind(serde_json::to_string(&stage.variants).expect("labels serialize"))
            .execute(&mut *transaction)
            .await?;
        }
        Ok(transaction.commit().await?)
    }

    /// Records what became of a stage.
    pub async fn set_stage(&self, run: &str, position: usize, state: &StageState) -> Result<(), StoreError> {
        let (status, seconds, message) = match state {
            StageState::Running => ("running", None, None),
            StageState::Hit => ("hit", None, None),
            StageState::Ok { seconds } => ("ok", Some(*seconds), None),
            StageState::Failed { seconds, message } => ("failed", Some(*seconds), Some(message)),
            StageState::Interrupted { seconds } => ("interrupted", Some(*seconds), None),
            StageState::Skipped { because } => ("skipped", None, Some(because)),
        };
        let started = (*state == StageState::Running).then(|| timestamp(Utc::now()));
        sqlx::query(
            "UPDATE stages SET status = ?, started_at = COALESCE(started_at, ?), seconds = ?, message = ? \
             WHERE run = ? AND position = ?",
        )
        .bind(status)
        .bind(started)
        .bind(seconds)
        .bind(message)
        .bind(run)
        .bind(i64::try_from(position).expect("positions fit i64"))
        .execute(&self.pool)
        .await?;
        Ok(())
    }

    /// Records how the run ended: `ok`, `failed` or `interrupted`.
    pub async fn end_run(&self, id: &str, status: &str) -> Result<(), StoreError> {
        sqlx::query("UPDATE runs SET status = ?, ended_at = ? WHERE id = ?")
            .bind(status)
            .bind(timestamp(Utc::now()))
            .bind(id)
            .execute(&self.pool)
            .await?;
        Ok(())
    }

    /// Marks as interrupted the runs of `host` that are recorded as running although their process is gone.
    pub async fn end_dead_runs(&self, host: &str, is_alive: impl Fn(u32) -> bool) -> Result<(), StoreError> {
        let running: Vec<(String, i64)> =
            sqlx::query_as("SELECT id, pid FROM runs WHERE status = 'running' AND host = ?")
                .bind(host)
                .fetch_all(&self.pool)
                .await?;
        for (id, pid) in running {
            if !u32::try_from(pid).is_ok_and(&is_alive) {
                sqlx::query("UPDATE stages SET status = 'interrupted' WHERE run = ? AND status = 'running'")
                    .bind(&id)
                    .execute(&self.pool)
                    .await?;
                self.end_run(&id, "interrupted").await?;
            }
        }
        Ok(())
    }
}

fn timestamp(at: DateTime<Utc>) -> String {
    at.to_rfc3339_opts(SecondsFormat::Millis, true)
}

#[cfg(test)]
mod tests;
