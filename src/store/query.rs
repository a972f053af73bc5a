//! Questions in SQL.

use super::{Store, StoreError};
use serde_json::Value;
use sqlx::sqlite::SqliteRow;
use sqlx::{AssertSqlSafe, Column as _, Row as _, TypeInfo as _, ValueRef as _};

/// The answer to a question: columns in their order, and rows of as many values.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Answer {
    /// Names of the columns; empty when there is no row.
    pub columns: Vec<String>,
    /// Values, row by row.
    pub rows: Vec<Vec<Value>>,
}

impl Store {
    /// Runs any SQL statement. On a store that was opened read-only, one that would write is refused by SQLite.
    pub async fn query(&self, sql: &str) -> Result<Answer, StoreError> {
        // the user asks their own read-only database; there is nobody to be protected from
        let rows = sqlx::query(AssertSqlSafe(sql.to_owned())).fetch_all(&self.pool).await?;
        let columns = rows.first().map(|row| row.columns().iter().map(|column| column.name().to_owned()).collect());
        let rows = rows.iter().map(values).collect::<Result<_, _>>()?;
        Ok(Answer { columns: columns.unwrap_or_default(), rows })
    }
}

fn values(row: &SqliteRow) -> Result<Vec<Value>, StoreError> {
    (0..row.columns().len())
        .map(|i| {
            let raw = row.try_get_raw(i)?;
            if raw.is_null() {
                return Ok(Value::Null);
            }
            let kind = raw.type_info().name().to_owned();
            Ok(match kind.as_str() {
                "INTEGER" | "BOOLEAN" => Value::from(row.try_get_unchecked::<i64, _>(i)?),
                "REAL" => Value::from(row.try_get_unchecked::<f64, _>(i)?),
                _ => Value::from(row.try_get_unchecked::<String, _>(i)?),
            })
        })
        .collect()
}
