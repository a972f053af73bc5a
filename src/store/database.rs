//! The connection: opening, migrating, reading and writing.

use super::location::DATABASE_VARIABLE;
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePool, SqlitePoolOptions, SqliteSynchronous};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// How long a writer waits for another one.
pub const BUSY_TIMEOUT: Duration = Duration::from_secs(10);

pub(super) static MIGRATIONS: sqlx::migrate::Migrator = sqlx::migrate!("./migrations");

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
    /// SQLite's locks cannot be trusted there.
    #[error("`{}` lies on a network file system ({kind}), where a SQLite database may be damaged", path.display())]
    Network {
        /// Where the database would be.
        path: PathBuf,
        /// The file system's type.
        kind: String,
    },
    /// The database is an index of another project's files.
    #[error("the history `{}` belongs to `{}`", path.display(), runs.display())]
    OtherProject {
        /// The file.
        path: PathBuf,
        /// Its project's `runs/`.
        runs: PathBuf,
    },
}

impl StoreError {
    /// What to do about it.
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

    /// Whether another process holds the database, so that the same may work later.
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

/// Whether SQLite says that another connection holds the database.
pub(super) fn is_held(error: &sqlx::Error) -> bool {
    const BUSY: u32 = 5;
    const LOCKED: u32 = 6;
    let code = error.as_database_error().and_then(|error| error.code()?.parse::<u32>().ok());
    code.is_some_and(|code| matches!(code & 0xff, BUSY | LOCKED)) // the rest says how it came to that
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
    pub(super) pool: SqlitePool,
}

impl Store {
    /// Opens the history for writing, making or updating it; another process that holds it is waited for this long.
    pub async fn open(path: &Path, busy_timeout: Duration) -> Result<Self, StoreError> {
        let options = SqliteConnectOptions::new()
            .filename(path)
            .create_if_missing(true)
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Normal)
            .foreign_keys(true)
            // a run of thousands of stages touches more pages than the 2 MB that are usual
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

    /// Opens the history for questions only.
    pub async fn open_read_only(path: &Path) -> Result<Self, StoreError> {
        if !path.exists() {
            return Err(StoreError::Missing { path: path.to_owned() });
        }
        let options = SqliteConnectOptions::new().filename(path).read_only(true).busy_timeout(BUSY_TIMEOUT);
        Self::connect(path, options).await
    }

    /// An empty history in a temporary file of SQLite's, for this process alone.
    pub async fn temporary() -> Result<Self, StoreError> {
        let options = SqliteConnectOptions::new().filename("").foreign_keys(true);
        Self::open_once(Path::new("(temporary)"), options).await
    }

    /// Refuses every change from here on.
    pub async fn forbid_writing(&self) -> Result<(), StoreError> {
        sqlx::query("PRAGMA query_only = ON").execute(&self.pool).await?;
        Ok(())
    }

    /// Closes the file, once every answer is read.
    pub async fn close(self) {
        self.pool.close().await;
    }

    /// Whether the file is sound, and its schema.
    pub async fn check(&self) -> Result<SchemaCheck, StoreError> {
        let (verdict,): (String,) = sqlx::query_as("PRAGMA quick_check(1)").fetch_one(&self.pool).await?;
        if verdict == "ok" { self.schema().await } else { Ok(SchemaCheck::Damaged(verdict)) }
    }

    /// How the migrations the file has had compare with those of this program.
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

    /// One process migrates; others wait for it and find nothing left to do.
    async fn migrate(&self) -> Result<(), sqlx::migrate::MigrateError> {
        if matches!(self.schema().await, Ok(SchemaCheck::Current)) {
            return Ok(());
        }
        let mut transaction = self.pool.begin_with("BEGIN IMMEDIATE").await?;
        MIGRATIONS.run(&mut *transaction).await?;
        Ok(transaction.commit().await?)
    }

    pub(super) async fn connect(path: &Path, options: SqliteConnectOptions) -> Result<Self, StoreError> {
        // one connection that is never exchanged: the pragmas and the temporary file are its own
        let pool = SqlitePoolOptions::new().max_connections(1).idle_timeout(None).max_lifetime(None);
        let pool = pool.connect_with(options).await;
        Ok(Self { pool: pool.map_err(|source| StoreError::Open { path: path.to_owned(), source })? })
    }
}
