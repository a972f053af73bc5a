//! Queries in SQL.

use super::{Store, StoreError};
use futures_util::TryStreamExt as _;
use serde_json::Value;
use sqlx::sqlite::SqliteRow;
use sqlx::{AssertSqlSafe, Column as _, Row as _, SqlSafeStr as _, Statement as _, TypeInfo as _, ValueRef as _};

/// The result of a query: columns in their order, and rows of as many values.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct QueryResult {
    /// Names of the columns.
    pub columns: Vec<String>,
    /// Values, row by row.
    pub rows: Vec<Vec<Value>>,
}

impl Store {
    /// Returns the whole result of a query. On a store that was opened read-only, SQLite refuses changes.
    pub async fn query(&self, sql: &str) -> Result<QueryResult, StoreError> {
        let mut answer = QueryResult { columns: self.columns(sql).await?, rows: Vec::new() };
        self.for_each_row(sql, &[], |row| {
            answer.rows.push(row);
            Ok::<_, StoreError>(())
        })
        .await?;
        Ok(answer)
    }

    /// Returns the columns of the result of `sql`.
    pub async fn columns(&self, sql: &str) -> Result<Vec<String>, StoreError> {
        use sqlx::Executor as _;
        let mut connection = self.pool.acquire().await?;
        let statement = connection.prepare(AssertSqlSafe(sql.to_owned()).into_sql_str()).await?;
        Ok(statement.columns().iter().map(|column| column.name().to_owned()).collect())
    }

    /// Passes each row of the result to `take`, until it fails. `texts` are the values of the `?`.
    pub async fn for_each_row<E: From<StoreError>>(
        &self,
        sql: &str,
        texts: &[String],
        mut take: impl FnMut(Vec<Value>) -> Result<(), E>,
    ) -> Result<(), E> {
        // The user queries their own database, read-only. So injection is not a risk.
        let mut query = sqlx::query(AssertSqlSafe(sql.to_owned()));
        for text in texts {
            query = query.bind(text);
        }
        let mut rows = query.fetch(&self.pool);
        while let Some(row) = rows.try_next().await.map_err(StoreError::from)? {
            take(values(&row)?)?;
        }
        Ok(())
    }
}

/// Formats bytes that are not text, in SQLite's notation.
fn blob(bytes: &[u8]) -> Value {
    Value::from(format!("x'{}'", crate::digest::hex(bytes)))
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
                _ => {
                    let bytes = row.try_get_unchecked::<Vec<u8>, _>(i)?;
                    String::from_utf8(bytes).map_or_else(|error| blob(error.as_bytes()), Value::from)
                }
            })
        })
        .collect()
}
