//! Writes the content of files as rows. One [`Update`] is one transaction: rows and reading positions, or neither.

use super::{Store, StoreError};
use crate::digest::Digest;
use crate::event::{Completion, Event, EventKind, Measurement};
use crate::stage::RunStatus;
use chrono::{DateTime, SecondsFormat, Utc};
use serde::Serialize;
use sqlx::{QueryBuilder, Sqlite, Transaction};
use std::collections::{BTreeMap, BTreeSet, HashMap};

/// The number of rows of one statement. Statements with equally many rows share one text, which SQLite parses once.
pub(super) const ROWS_AT_ONCE: usize = 250;

/// The recorded state of a cache key.
#[derive(Clone, Debug, PartialEq, Eq, sqlx::FromRow)]
pub struct KeyState {
    /// The key's id in the tables.
    pub id: i64,
    /// The digest of the first line of its events.
    pub events_head: Option<String>,
    /// Bytes of its events that are recorded.
    #[sqlx(try_from = "i64")]
    pub events_bytes: u64,
    /// When it was committed, if it was, in the form of [`timestamp`].
    committed_at: Option<String>,
}

impl KeyState {
    /// Whether the key is recorded as committed.
    pub fn is_committed(&self) -> bool {
        self.committed_at.is_some()
    }

    /// Whether the recorded time of the commit is `at`.
    pub fn is_committed_at(&self, at: Option<DateTime<Utc>>) -> bool {
        self.committed_at == at.map(timestamp)
    }
}

/// Measurements of a stage, by name.
pub type Results = BTreeMap<String, Measurement>;

/// A change of the history. It has no effect without [`Update::commit`].
#[derive(Debug)]
pub struct Update {
    pub(super) transaction: Transaction<'static, Sqlite>,
}

impl Store {
    /// Begins a change. There is one writer at a time, so this waits for another one.
    pub async fn update(&self) -> Result<Update, StoreError> {
        Ok(Update { transaction: self.pool.begin_with("BEGIN IMMEDIATE").await? })
    }

    /// Returns the recorded state of a key; absent if no run has it.
    pub async fn key_state(&self, key: &Digest) -> Result<Option<KeyState>, StoreError> {
        Ok(sqlx::query_as(KEY_STATE).bind(key.as_str()).fetch_optional(&self.pool).await?)
    }

    /// Returns the number of recorded bytes of each run's log; `None` for a run that has ended.
    pub async fn log_bytes(&self) -> Result<BTreeMap<String, Option<u64>>, StoreError> {
        // The log of a run that has ended is final.
        let sql = "SELECT run, CASE WHEN status = 'running' THEN log_bytes END FROM run_rows";
        let rows: Vec<(String, Option<i64>)> = sqlx::query_as(sql).fetch_all(&self.pool).await?;
        Ok(rows.into_iter().map(|(run, bytes)| (run, bytes.map(size))).collect())
    }

    /// Returns the runs that are recorded as running.
    pub async fn running(&self) -> Result<Vec<String>, StoreError> {
        let sql = "SELECT run FROM run_rows WHERE status = 'running'";
        Ok(sqlx::query_scalar(sql).fetch_all(&self.pool).await?)
    }

    /// Returns the keys that some run has worked on or found in the cache, and that may have new events.
    pub async fn unsettled_keys(&self) -> Result<Vec<Digest>, StoreError> {
        let sql = "SELECT key FROM key_rows WHERE NOT settled AND EXISTS \
                   (SELECT 1 FROM stage_rows WHERE key_id = key_rows.id AND status NOT IN ('pending', 'skipped'))";
        self.keys(sql).await
    }

    /// Returns the keys that are recorded as committed.
    pub async fn committed_keys(&self) -> Result<Vec<Digest>, StoreError> {
        self.keys("SELECT key FROM key_rows WHERE committed_at IS NOT NULL").await
    }

    /// Returns the keys with recorded events.
    pub async fn recorded_keys(&self) -> Result<Vec<Digest>, StoreError> {
        self.keys("SELECT key FROM key_rows WHERE events_bytes > 0").await
    }

    /// Returns the directory `runs/` that the database is an index of; absent while it is empty.
    pub async fn source(&self) -> Result<Option<String>, StoreError> {
        let row: Option<(String,)> = sqlx::query_as("SELECT runs FROM source").fetch_optional(&self.pool).await?;
        Ok(row.map(|(runs,)| runs))
    }

    async fn keys(&self, sql: &'static str) -> Result<Vec<Digest>, StoreError> {
        let rows: Vec<(String,)> = sqlx::query_as(sql).fetch_all(&self.pool).await?;
        Ok(rows.into_iter().filter_map(|(key,)| Digest::parse(&key)).collect())
    }
}

const KEY_STATE: &str = "SELECT id, events_head, events_bytes, committed_at FROM key_rows WHERE key = ?";

/// A row of [`Update::keys`].
#[derive(sqlx::FromRow)]
struct KeyRow {
    key: String,
    #[sqlx(flatten)]
    state: KeyState,
}

impl Update {
    /// Commits the change.
    pub async fn commit(self) -> Result<(), StoreError> {
        Ok(self.transaction.commit().await?)
    }

    /// Removes every row.
    pub async fn clear(&mut self) -> Result<(), StoreError> {
        const TABLES: [&str; 9] = [
            "DELETE FROM reward_rows",
            "DELETE FROM completion_rows",
            "DELETE FROM result_rows",
            "DELETE FROM metric_rows",
            "DELETE FROM step_rows",
            "DELETE FROM stage_rows",
            "DELETE FROM key_rows",
            "DELETE FROM run_rows",
            "DELETE FROM source",
        ];
        for statement in TABLES {
            sqlx::query(statement).execute(&mut *self.transaction).await?;
        }
        Ok(())
    }

    /// Records the directory `runs/` that the database is an index of.
    pub async fn set_source(&mut self, runs: &str) -> Result<(), StoreError> {
        sqlx::query("DELETE FROM source").execute(&mut *self.transaction).await?;
        sqlx::query("INSERT INTO source (runs) VALUES (?)").bind(runs).execute(&mut *self.transaction).await?;
        Ok(())
    }

    /// Returns the number of recorded bytes of the run's log; absent if the run is not recorded.
    pub async fn log_bytes(&mut self, run: &str) -> Result<Option<u64>, StoreError> {
        let sql = "SELECT log_bytes FROM run_rows WHERE run = ?";
        let row: Option<(i64,)> = sqlx::query_as(sql).bind(run).fetch_optional(&mut *self.transaction).await?;
        Ok(row.map(|(bytes,)| size(bytes)))
    }

    /// Whether a run is recorded as running.
    pub async fn is_running(&mut self, run: &str) -> Result<bool, StoreError> {
        let sql = "SELECT EXISTS (SELECT 1 FROM run_rows WHERE run = ? AND status = 'running')";
        Ok(sqlx::query_scalar(sql).bind(run).fetch_one(&mut *self.transaction).await?)
    }

    /// Removes a run whose files are gone.
    pub async fn remove_run(&mut self, run: &str) -> Result<(), StoreError> {
        sqlx::query("DELETE FROM run_rows WHERE run = ?").bind(run).execute(&mut *self.transaction).await?;
        Ok(())
    }

    /// Records the process that runs a run, and when it began.
    pub async fn set_owner(
        &mut self,
        run: &str,
        at: DateTime<Utc>,
        (host, pid, version): (&str, u32, &str),
    ) -> Result<(), StoreError> {
        sqlx::query("UPDATE run_rows SET started_at = ?, host = ?, pid = ?, version = ? WHERE run = ?")
            .bind(timestamp(at))
            .bind(host)
            .bind(pid)
            .bind(version)
            .bind(run)
            .execute(&mut *self.transaction)
            .await?;
        Ok(())
    }

    /// Records how far the run's log was read, and the time of its newest event.
    pub async fn set_log_bytes(&mut self, run: &str, bytes: u64, at: DateTime<Utc>) -> Result<(), StoreError> {
        sqlx::query("UPDATE run_rows SET log_bytes = ?, updated_at = ? WHERE run = ?")
            .bind(integer(bytes))
            .bind(timestamp(at))
            .bind(run)
            .execute(&mut *self.transaction)
            .await?;
        Ok(())
    }

    /// Records the end of the run, e.g. with the status `ok`.
    pub async fn end_run(&mut self, run: &str, status: RunStatus, at: DateTime<Utc>) -> Result<(), StoreError> {
        sqlx::query("UPDATE run_rows SET status = ?, ended_at = ? WHERE run = ?")
            .bind(status.name())
            .bind(timestamp(at))
            .bind(run)
            .execute(&mut *self.transaction)
            .await?;
        // For a run that was marked as dead, only the run's end is logged, not those of its stages.
        sqlx::query("UPDATE stage_rows SET status = 'interrupted' WHERE run = ? AND status = 'running'")
            .bind(run)
            .execute(&mut *self.transaction)
            .await?;
        Ok(())
    }

    /// Marks a run as interrupted, at its last event, because its process is gone.
    pub async fn end_dead_run(&mut self, run: &str) -> Result<(), StoreError> {
        for statement in [
            "UPDATE run_rows SET status = 'interrupted', ended_at = updated_at WHERE run = ? AND status = 'running'",
            "UPDATE stage_rows SET status = 'interrupted' WHERE run = ? AND status = 'running'",
        ] {
            sqlx::query(statement).bind(run).execute(&mut *self.transaction).await?;
        }
        Ok(())
    }

    /// Returns the recorded state of `key`, which is added if no run has it.
    pub async fn key(&mut self, key: &Digest) -> Result<KeyState, StoreError> {
        let found = sqlx::query_as(KEY_STATE).bind(key.as_str()).fetch_optional(&mut *self.transaction).await?;
        if let Some(found) = found {
            return Ok(found);
        }
        let add = "INSERT INTO key_rows (key) VALUES (?)";
        let added = sqlx::query(add).bind(key.as_str()).execute(&mut *self.transaction).await?;
        Ok(KeyState { id: added.last_insert_rowid(), events_head: None, events_bytes: 0, committed_at: None })
    }

    /// Records how far the key's events were read, and the digest of their first line.
    pub async fn set_events_bytes(&mut self, key: i64, head: &str, bytes: u64) -> Result<(), StoreError> {
        sqlx::query("UPDATE key_rows SET events_head = ?, events_bytes = ? WHERE id = ?")
            .bind(head)
            .bind(integer(bytes))
            .bind(key)
            .execute(&mut *self.transaction)
            .await?;
        Ok(())
    }

    /// Returns the recorded states of `keys`, without those that no run has.
    pub async fn keys(&mut self, keys: &[&Digest]) -> Result<HashMap<Digest, KeyState>, StoreError> {
        let sql = "SELECT k.id, k.events_head, k.events_bytes, k.committed_at, k.key \
                   FROM json_each(?) asked CROSS JOIN key_rows k ON k.key = asked.value";
        let rows: Vec<KeyRow> = sqlx::query_as(sql).bind(json(keys)).fetch_all(&mut *self.transaction).await?;
        let known = |row: KeyRow| Some((Digest::parse(&row.key)?, row.state));
        Ok(rows.into_iter().filter_map(known).collect())
    }

    /// Records that no more events of these keys can come, unless a stage with one is running.
    pub async fn settle(&mut self, keys: &[i64]) -> Result<(), StoreError> {
        let sql = "UPDATE key_rows SET settled = TRUE WHERE id IN (SELECT value FROM json_each(?)) AND NOT settled \
                   AND NOT EXISTS (SELECT 1 FROM stage_rows WHERE key_id = key_rows.id AND status = 'running')";
        sqlx::query(sql).bind(json(keys)).execute(&mut *self.transaction).await?;
        Ok(())
    }

    /// Records that workers were started on these keys, whose events will come.
    pub async fn unsettle(&mut self, keys: &BTreeSet<&Digest>) -> Result<(), StoreError> {
        let sql = "UPDATE key_rows SET settled = FALSE WHERE key IN (SELECT value FROM json_each(?)) AND settled";
        sqlx::query(sql).bind(json(keys)).execute(&mut *self.transaction).await?;
        Ok(())
    }

    /// Records when the key's checkpoint was committed, and its size in bytes. `None` means that it is not in the
    /// cache.
    pub async fn set_committed(&mut self, key: i64, committed: Option<(DateTime<Utc>, u64)>) -> Result<(), StoreError> {
        let (at, bytes) = committed.unzip();
        sqlx::query("UPDATE key_rows SET committed_at = ?, bytes = ? WHERE id = ?")
            .bind(at.map(timestamp))
            .bind(bytes.map(integer))
            .bind(key)
            .execute(&mut *self.transaction)
            .await?;
        Ok(())
    }

    /// Records an event of the stage with this key. `started` removes earlier workers' rows beyond the step from
    /// which the worker resumes.
    pub async fn record(&mut self, key: i64, event: &Event) -> Result<(), StoreError> {
        match &event.kind {
            EventKind::Started(started) => self.take_back(key, started.resumed_from_step.unwrap_or(0)).await,
            EventKind::Step(step) => {
                sqlx::query("INSERT OR REPLACE INTO step_rows (key_id, step, at) VALUES (?, ?, ?)")
                    .bind(key)
                    .bind(integer(step.step))
                    .bind(timestamp(event.at))
                    .execute(&mut *self.transaction)
                    .await?;
                if step.metrics.is_empty() {
                    return Ok(());
                }
                let insert = "INSERT OR REPLACE INTO metric_rows (key_id, step, name, value) ";
                let mut query = QueryBuilder::new(insert);
                query.push_values(&step.metrics, |mut row, (name, value)| {
                    row.push_bind(key).push_bind(integer(step.step)).push_bind(name).push_bind(*value);
                });
                query.build().execute(&mut *self.transaction).await?;
                Ok(())
            }
            EventKind::Completion(completion) => self.record_completion(key, completion).await,
            EventKind::Finished(results) => self.set_results(&BTreeMap::from([(key, results)])).await,
            EventKind::Phase(_)
            | EventKind::StepPart(_)
            | EventKind::ResumePoint { .. }
            | EventKind::Warning(_)
            | EventKind::Stopped { .. }
            | EventKind::Failed(_) => Ok(()),
        }
    }

    /// Removes the key's rows beyond `step`, and its results.
    pub async fn take_back(&mut self, key: i64, step: u64) -> Result<(), StoreError> {
        for statement in [
            "DELETE FROM step_rows WHERE key_id = ? AND step > ?",
            "DELETE FROM metric_rows WHERE key_id = ? AND step > ?",
            "DELETE FROM completion_rows WHERE key_id = ? AND step > ?",
        ] {
            sqlx::query(statement).bind(key).bind(integer(step)).execute(&mut *self.transaction).await?;
        }
        sqlx::query("DELETE FROM result_rows WHERE key_id = ?").bind(key).execute(&mut *self.transaction).await?;
        Ok(())
    }

    /// Records the measurements of the stages with these keys, and removes their previous ones.
    pub async fn set_results(&mut self, results: &BTreeMap<i64, &Results>) -> Result<(), StoreError> {
        let old = "DELETE FROM result_rows WHERE key_id IN (SELECT value FROM json_each(?))";
        let keys: Vec<i64> = results.keys().copied().collect();
        sqlx::query(old).bind(json(&keys)).execute(&mut *self.transaction).await?;
        let all = results.iter().flat_map(|(key, results)| results.iter().map(move |(name, one)| (*key, name, one)));
        let all: Vec<(i64, &String, &Measurement)> = all.collect();
        for rows in all.chunks(ROWS_AT_ONCE) {
            let mut query = QueryBuilder::new("INSERT INTO result_rows (key_id, name, value, low, high, count) ");
            query.push_values(rows, |mut row, (key, name, result)| {
                let (low, high) = result.interval.unzip();
                row.push_bind(*key).push_bind(*name).push_bind(result.value).push_bind(low).push_bind(high);
                row.push_bind(result.count.map(integer));
            });
            query.build().execute(&mut *self.transaction).await?;
        }
        Ok(())
    }

    async fn record_completion(&mut self, key: i64, completion: &Completion) -> Result<(), StoreError> {
        let inserted = sqlx::query(
            "INSERT INTO completion_rows (key_id, step, row, idx, prompt, completion, reference, answer, tokens, \
             stop_reason, reward, advantage) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        )
        .bind(key)
        .bind(integer(completion.step))
        .bind(integer(completion.row as u64))
        .bind(integer(completion.index as u64))
        .bind(&completion.prompt)
        .bind(&completion.completion)
        .bind(&completion.reference)
        .bind(&completion.answer)
        .bind(integer(completion.tokens as u64))
        .bind(completion.stop_reason.word())
        .bind(completion.reward)
        .bind(completion.advantage)
        .execute(&mut *self.transaction)
        .await?;
        if completion.parts.is_empty() {
            return Ok(());
        }
        let insert = "INSERT INTO reward_rows (completion_id, component, value, weight, missing) ";
        let mut query = QueryBuilder::new(insert);
        query.push_values(&completion.parts, |mut row, (component, part)| {
            row.push_bind(inserted.last_insert_rowid()).push_bind(component).push_bind(part.value);
            row.push_bind(part.weight).push_bind(&part.missing);
        });
        query.build().execute(&mut *self.transaction).await?;
        Ok(())
    }
}

/// Formats a time for the database: UTC with milliseconds, so that texts sort as times do.
pub(super) fn timestamp(at: DateTime<Utc>) -> String {
    at.to_rfc3339_opts(SecondsFormat::Millis, true)
}

fn json(values: &(impl Serialize + ?Sized)) -> String {
    serde_json::to_string(values).expect("keys and numbers serialize")
}

fn integer(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

fn size(value: i64) -> u64 {
    u64::try_from(value).unwrap_or(0)
}
