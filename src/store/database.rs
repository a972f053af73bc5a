//! The connection: opening, migrating, reading and writing.

use super::location::DATABASE_VARIABLE;
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePool, SqlitePoolOptions, SqliteSynchronous};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// How long a writer waits for another one.
pub const BUSY_TIMEOUT: Duration = Duration::from_secs(10);

pub(super) static MIGRATIONS: sqlx::migrate::Migrator = sqlx::migrate!("./migrations");

/// An error while the history is read or written.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The database cannot be opened.
    #[error("the history `{}` cannot be opened", path.display())]
    Open {
        /// The database's file.
        path: PathBuf,
        /// The cause.
        source: sqlx::Error,
    },
    /// The schema cannot be brought up to date.
    #[error("the schema of the history `{}` cannot be brought up to date", path.display())]
    Migrate {
        /// The database's file.
        path: PathBuf,
        /// The cause.
        source: sqlx::migrate::MigrateError,
    },
    /// A statement failed.
    #[error("the history refused: {0}")]
    Statement(#[from] sqlx::Error),
    /// The history does not exist yet.
    #[error("there is no history at `{}`", path.display())]
    Missing {
        /// The expected file.
        path: PathBuf,
    },
    /// The file is on a network file system, where SQLite's locks are unreliable.
    #[error("`{}` lies on a network file system ({kind}), where a SQLite database may be damaged", path.display())]
    Network {
        /// The path where the database would be.
        path: PathBuf,
        /// The file system's type.
        kind: String,
    },
    /// The database is an index of another project's files.
    #[error("the history `{}` belongs to `{}`", path.display(), runs.display())]
    OtherProject {
        /// The database's file.
        path: PathBuf,
        /// The `runs/` of its project.
        runs: PathBuf,
    },
}

impl StoreError {
    /// Returns a suggestion for how to fix the error.
    pub fn hint(&self) -> String {
        match self {
            Self::Missing { .. } => "`orchestrate run RECIPE` starts one; `-C DIR` chooses another project".to_owned(),
            _ if self.is_busy() => "another process holds the database: end it, or wait".to_owned(),
            Self::Statement(_) => "`orchestrate query --schema` lists the views and their columns".to_owned(),
            Self::Open { .. } | Self::Migrate { .. } => {
                "results are safe in the files; `orchestrate db rebuild` makes the history from them".to_owned()
            }
            Self::Network { .. } => {
                format!("name a file on a local disk, e.g. `{DATABASE_VARIABLE}=$HOME/.cache/orchestrate/PROJECT.db`")
            }
            Self::OtherProject { .. } => format!(
                "give each project its own `{DATABASE_VARIABLE}`; if the project was moved, `orchestrate db rebuild`"
            ),
        }
    }

    /// Whether another process holds the database, so that a later try may succeed.
    pub fn is_busy(&self) -> bool {
        let mut cause: Option<&(dyn std::error::Error + 'static)> = match self {
            Self::Statement(error) | Self::Open { source: error, .. } => Some(error),
            Self::Migrate { source, .. } => Some(source),
            Self::Missing { .. } | Self::Network { .. } | Self::OtherProject { .. } => None,
        };
        while let Some(error) = cause {
            if error.downcast_ref::<sqlx::Error>().is_some_and(is_held) {
                return true;
            }
            cause = error.source();
        }
        false
    }
}

/// Whether SQLite reports that another connection holds the database.
pub(super) fn is_held(error: &sqlx::Error) -> bool {
    const BUSY: u32 = 5;
    const LOCKED: u32 = 6;
    let code = error.as_database_error().and_then(|error| error.code()?.parse::<u32>().ok());
    code.is_some_and(|code| matches!(code & 0xff, BUSY | LOCKED)) // the higher bits refine the reason
}

/// The outcome of [`Store::check`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SchemaCheck {
    /// The schema is the one that this program needs.
    Current,
    /// The next run will bring the schema up to date.
    Older,
    /// A newer version of this program has changed the schema.
    Newer,
    /// The file is damaged, with SQLite's message.
    Damaged(String),
}

/// The open history.
#[derive(Clone, Debug)]
pub struct Store {
    pub(super) pool: SqlitePool,
}

impl Store {
    /// Opens the history for writing; creates or migrates it as needed. Waits up to `busy_timeout` for another process
    /// that holds it.
    pub async fn open(path: &Path, busy_timeout: Duration) -> Result<Self, StoreError> {
        let options = SqliteConnectOptions::new()
            .filename(path)
            .create_if_missing(true)
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Normal)
            .foreign_keys(true)
            // A run of thousands of stages touches more pages than the usual cache of 2 MB holds.
            .pragma("cache_size", "-32000")
            .pragma("temp_store", "MEMORY")
            .busy_timeout(busy_timeout);
        let deadline = Instant::now() + busy_timeout;
        loop {
            match Self::open_once(path, options.clone()).await {
                // SQLite does not wait for its lock where two processes make the same file a write-ahead log.
                Err(error) if error.is_busy() && Instant::now() < deadline => {
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
                opened => return opened,
            }
        }
    }

    async fn open_once(path: &Path, options: SqliteConnectOptions) -> Result<Self, StoreError> {
        let store = Self::connect(path, options).await?;
        store.migrate().await.map_err(|source| StoreError::Migrate { path: path.to_owned(), source })?;
        Ok(store)
    }

    /// Opens the history for reading only.
    pub async fn open_read_only(path: &Path) -> Result<Self, StoreError> {
        if !path.exists() {
            return Err(StoreError::Missing { path: path.to_owned() });
        }
        let options = SqliteConnectOptions::new().filename(path).read_only(true).busy_timeout(BUSY_TIMEOUT);
        Self::connect(path, options).await
    }

    /// Creates an empty history in a temporary file of SQLite's, for this process alone.
    pub async fn temporary() -> Result<Self, StoreError> {
        let options = SqliteConnectOptions::new().filename("").foreign_keys(true);
        Self::open_once(Path::new("(temporary)"), options).await
    }

    /// Forbids every further change.
    pub async fn forbid_writing(&self) -> Result<(), StoreError> {
        sqlx::query("PRAGMA query_only = ON").execute(&self.pool).await?;
        Ok(())
    }

    /// Closes the file once every answer is read.
    pub async fn close(self) {
        self.pool.close().await;
    }

    /// Checks whether the file is intact, and the state of its schema.
    pub async fn check(&self) -> Result<SchemaCheck, StoreError> {
        let (verdict,): (String,) = sqlx::query_as("PRAGMA quick_check(1)").fetch_one(&self.pool).await?;
        if verdict == "ok" { self.schema().await } else { Ok(SchemaCheck::Damaged(verdict)) }
    }

    /// Compares the applied migrations with those of this program.
    pub async fn schema(&self) -> Result<SchemaCheck, StoreError> {
        let migrated = "SELECT COUNT(*) FROM sqlite_master WHERE name = '_sqlx_migrations'";
        let (migrated,): (i64,) = sqlx::query_as(migrated).fetch_one(&self.pool).await?;
        let applied: Vec<(i64,)> = if migrated == 0 {
            Vec::new()
        } else {
            sqlx::query_as("SELECT version FROM _sqlx_migrations WHERE success").fetch_all(&self.pool).await?
        };
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

    /// Migrates the database. One process migrates; others wait for it and then find nothing to do.
    async fn migrate(&self) -> Result<(), sqlx::migrate::MigrateError> {
        if matches!(self.schema().await, Ok(SchemaCheck::Current)) {
            return Ok(());
        }
        let mut transaction = self.pool.begin_with("BEGIN IMMEDIATE").await?;
        MIGRATIONS.run(&mut *transaction).await?;
        Ok(transaction.commit().await?)
    }

    pub(super) async fn connect(path: &Path, options: SqliteConnectOptions) -> Result<Self, StoreError> {
        // One connection that is never replaced, because the pragmas and the temporary file belong to it.
        let pool = SqlitePoolOptions::new().max_connections(1).idle_timeout(None).max_lifetime(None);
        let pool = pool.connect_with(options).await;
        Ok(Self { pool: pool.map_err(|source| StoreError::Open { path: path.to_owned(), source })? })
    }
}
