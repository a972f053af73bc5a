//! The stages of a run: their rows, written in few statements.

use super::StoreError;
use super::update::{ROWS_AT_ONCE, Update, timestamp};
use crate::digest::Digest;
use crate::run_event::{RunEvent, StageProgress};
use crate::stage::{StageKind, StageStatus};
use chrono::{DateTime, Utc};
use sqlx::QueryBuilder;
use std::collections::BTreeMap;

/// A stage of a run as it is recorded.
#[derive(Clone, Debug)]
pub struct StageRecord {
    /// The stage's name in its recipe.
    pub stage: String,
    /// The stage's kind.
    pub kind: StageKind,
    /// The stage's cache key.
    pub key: Digest,
    /// The recipes that need it, joined by spaces.
    pub recipe: String,
    /// Names of the variants that need it, joined by spaces.
    pub variant: String,
}

/// The columns of a stage that its events determine.
#[derive(Clone, Debug, Default, sqlx::FromRow)]
struct StageColumns {
    #[sqlx(try_from = "String")]
    status: StageStatus,
    started_at: Option<String>,
    seconds: Option<f64>,
    message: Option<String>,
    tries: u32,
}

impl StageColumns {
    fn of(progress: StageProgress) -> Self {
        let StageProgress { status, started_at, seconds, message, tries, memory: _, results: _ } = progress;
        Self { status, started_at: started_at.map(timestamp), seconds, message, tries }
    }

    /// Returns the columns after `events`.
    fn after(self, events: &[&RunEvent]) -> Self {
        // A recorded start time stays unchanged.
        let mut progress = StageProgress {
            status: self.status,
            seconds: self.seconds,
            message: self.message,
            tries: self.tries,
            ..StageProgress::default()
        };
        for event in events {
            progress.apply(event);
        }
        let changed = Self::of(progress);
        Self { started_at: self.started_at.or(changed.started_at.clone()), ..changed }
    }
}

/// Groups events by stage, in order.
fn by_stage(events: &[RunEvent]) -> BTreeMap<&Digest, Vec<&RunEvent>> {
    let mut of_stage: BTreeMap<&Digest, Vec<&RunEvent>> = BTreeMap::new();
    for event in events {
        if let Some(key) = event.kind.key() {
            of_stage.entry(key).or_default().push(event);
        }
    }
    of_stage
}

impl Update {
    /// Records a run with its stages and their events so far. The first event names the process that runs it.
    pub async fn add_run(
        &mut self,
        run: &str,
        at: DateTime<Utc>,
        stages: &[StageRecord],
        events: &[RunEvent],
    ) -> Result<(), StoreError> {
        sqlx::query(
            "INSERT INTO run_rows (run, started_at, updated_at, status, host, pid, version, log_bytes) \
             VALUES (?1, ?2, ?2, 'running', '', 0, '', 0)",
        )
        .bind(run)
        .bind(timestamp(at))
        .execute(&mut *self.transaction)
        .await?;
        let events = by_stage(events);
        for records in stages.chunks(ROWS_AT_ONCE) {
            let mut keys = QueryBuilder::new("INSERT OR IGNORE INTO key_rows (key) ");
            keys.push_values(records, |mut row, record| {
                row.push_bind(record.key.as_str());
            });
            keys.build().execute(&mut *self.transaction).await?;
        }
        let numbered: Vec<(usize, &StageRecord)> = stages.iter().enumerate().collect();
        for records in numbered.chunks(ROWS_AT_ONCE) {
            let mut rows = QueryBuilder::new(
                "INSERT INTO stage_rows (run, position, key_id, stage, kind, recipe, variant, status, started_at, seconds, \
                 message, tries) ",
            );
            rows.push_values(records, |mut row, (position, record)| {
                let columns = StageColumns::default().after(events.get(&record.key).map_or(&[], Vec::as_slice));
                row.push_bind(run).push_bind(i64::try_from(*position).unwrap_or(i64::MAX));
                row.push("(SELECT id FROM key_rows WHERE key = ").push_bind_unseparated(record.key.as_str());
                row.push_unseparated(")");
                row.push_bind(&record.stage)
                    .push_bind(record.kind.name())
                    .push_bind(&record.recipe)
                    .push_bind(&record.variant);
                row.push_bind(columns.status.name()).push_bind(columns.started_at).push_bind(columns.seconds);
                row.push_bind(columns.message).push_bind(columns.tries);
            });
            rows.build().execute(&mut *self.transaction).await?;
        }
        Ok(())
    }

    /// Records events of the stages of a recorded run.
    pub async fn change_stages(&mut self, run: &str, events: &[RunEvent]) -> Result<(), StoreError> {
        let known = "SELECT status, started_at, seconds, message, tries FROM stage_rows \
                     WHERE run = ? AND key_id = (SELECT id FROM key_rows WHERE key = ?)";
        let change = "UPDATE stage_rows SET status = ?, started_at = ?, seconds = ?, message = ?, tries = ? \
                      WHERE run = ? AND key_id = (SELECT id FROM key_rows WHERE key = ?)";
        for (key, events) in by_stage(events) {
            let known = sqlx::query_as(known).bind(run).bind(key.as_str());
            let Some(columns): Option<StageColumns> = known.fetch_optional(&mut *self.transaction).await? else {
                continue; // the plan has no such stage
            };
            let columns = columns.after(&events);
            sqlx::query(change)
                .bind(columns.status.name())
                .bind(columns.started_at)
                .bind(columns.seconds)
                .bind(columns.message)
                .bind(columns.tries)
                .bind(run)
                .bind(key.as_str())
                .execute(&mut *self.transaction)
                .await?;
        }
        Ok(())
    }
}
