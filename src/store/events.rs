//! What workers report, as rows.

use super::{Store, StoreError};
use crate::digest::Digest;
use crate::event::{Completion, Event, EventKind};
use sqlx::{Sqlite, Transaction};

impl Store {
    /// Records events of the stage with this key, all or none of them. A `started` event takes back what a worker had
    /// reported beyond the step it goes on from, so replaying a whole file gives the same rows.
    pub async fn record_events(&self, key: &Digest, events: &[Event]) -> Result<(), StoreError> {
        let mut transaction = self.pool.begin().await?;
        for event in events {
            record(&mut transaction, key.as_str(), &event.kind).await?;
        }
        Ok(transaction.commit().await?)
    }
}

async fn record(transaction: &mut Transaction<'_, Sqlite>, key: &str, event: &EventKind) -> Result<(), StoreError> {
    match event {
        EventKind::Started(started) => {
            let step = integer(started.resumed_from_step.unwrap_or(0));
            for statement in
                ["DELETE FROM metrics WHERE key = ? AND step > ?", "DELETE FROM completions WHERE key = ? AND step > ?"]
            {
                sqlx::query(statement).bind(key).bind(step).execute(&mut **transaction).await?;
            }
        }
        EventKind::Step(step) => {
            for (name, value) in &step.metrics {
                sqlx::query("INSERT OR REPLACE INTO metrics (key, step, name, value) VALUES (?, ?, ?, ?)")
                    .bind(key)
                    .bind(integer(step.step))
                    .bind(name)
                    .bind(value)
                    .execute(&mut **transaction)
                    .await?;
            }
        }
        EventKind::Completion(completion) => record_completion(transaction, key, completion).await?,
        EventKind::Finished(results) => {
            for (name, result) in results {
                let (low, high) = result.interval.unzip();
                sqlx::query(
                    "INSERT OR REPLACE INTO results (key, name, value, low, high, count) VALUES (?, ?, ?, ?, ?, ?)",
                )
                .bind(key)
                .bind(name)
                .bind(result.value)
                .bind(low)
                .bind(high)
                .bind(result.count.map(integer))
                .execute(&mut **transaction)
                .await?;
            }
        }
        EventKind::Phase(_)
        | EventKind::ResumePoint { .. }
        | EventKind::Warning(_)
        | EventKind::Stopped { .. }
        | EventKind::Failed(_) => {}
    }
    Ok(())
}

async fn record_completion(
    transaction: &mut Transaction<'_, Sqlite>,
    key: &str,
    completion: &Completion,
) -> Result<(), StoreError> {
    let inserted = sqlx::query(
        "INSERT INTO completions (key, step, row, idx, prompt, completion, reference, answer, tokens, stop_reason, reward, \
         advantage) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
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
    .execute(&mut **transaction)
    .await?;
    for (component, part) in &completion.parts {
        sqlx::query("INSERT INTO rewards (completion, component, value, weight, missing) VALUES (?, ?, ?, ?, ?)")
            .bind(inserted.last_insert_rowid())
            .bind(component)
            .bind(part.value)
            .bind(part.weight)
            .bind(&part.missing)
            .execute(&mut **transaction)
            .await?;
    }
    Ok(())
}

fn integer(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}
