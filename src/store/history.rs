//! The stages of past runs, filtered and sorted.

use super::update::timestamp;
use super::{Store, StoreError};
use crate::event::Measurement;
use chrono::{DateTime, Utc};
use sqlx::{QueryBuilder, Sqlite};
use std::collections::{BTreeMap, HashMap};

/// How a number is compared with a bound.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Comparison {
    /// `=`
    Equal,
    /// `!=`
    NotEqual,
    /// `<`
    Below,
    /// `<=`
    AtMost,
    /// `>`
    Above,
    /// `>=`
    AtLeast,
}

impl Comparison {
    fn sql(self) -> &'static str {
        match self {
            Self::Equal => " = ",
            Self::NotEqual => " <> ",
            Self::Below => " < ",
            Self::AtMost => " <= ",
            Self::Above => " > ",
            Self::AtLeast => " >= ",
        }
    }
}

/// A condition on a number of the stage: a result by its name, or `seconds`.
#[derive(Clone, Debug, PartialEq)]
pub struct MetricCondition {
    /// The result's name.
    pub name: String,
    /// How it is compared.
    pub comparison: Comparison,
    /// With what.
    pub bound: f64,
}

/// What stages are sorted by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OrderBy {
    /// A column of the table.
    Column(&'static str),
    /// A result, by its name; stages without it come last.
    Result(String),
}

/// An order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Order {
    /// What by.
    pub by: OrderBy,
    /// The largest first.
    pub descending: bool,
}

/// Which stages, in which order. Without an order: the newest run first, its stages as planned.
#[derive(Clone, Debug, Default)]
pub struct HistoryQuery {
    /// Only of this recipe.
    pub recipe: Option<String>,
    /// Only of this variant.
    pub variant: Option<String>,
    /// Only of one of these kinds; empty: of all.
    pub kinds: Vec<String>,
    /// Only with one of these statuses; empty: with any.
    pub statuses: Vec<String>,
    /// Only of runs that began then or later.
    pub since: Option<DateTime<Utc>>,
    /// Only those that fulfil all of these.
    pub conditions: Vec<MetricCondition>,
    /// The order.
    pub order: Option<Order>,
    /// Rows at most.
    pub limit: Option<usize>,
}

impl HistoryQuery {
    /// Whether it leaves any stage out.
    pub fn filters(&self) -> bool {
        let Self { recipe, variant, kinds, statuses, since, conditions, order: _, limit: _ } = self;
        recipe.is_some()
            || variant.is_some()
            || since.is_some()
            || !(kinds.is_empty() && statuses.is_empty() && conditions.is_empty())
    }
}

/// A stage of a run.
#[derive(Clone, Debug, sqlx::FromRow)]
pub struct HistoryRow {
    /// The run.
    pub run: String,
    /// When the run began.
    pub run_started_at: String,
    /// Recipes.
    pub recipe: String,
    /// Variants.
    pub variant: String,
    /// Name.
    pub stage: String,
    /// Kind.
    pub kind: String,
    /// Cache key.
    pub key: String,
    /// Status.
    pub status: String,
    /// When its worker was started.
    pub started_at: Option<String>,
    /// Seconds it took.
    pub seconds: Option<f64>,
    /// Why it failed or was skipped.
    pub message: Option<String>,
    /// Workers that were started on it.
    pub tries: u32,
    key_id: i64,
    /// What it measured; empty unless it is done.
    #[sqlx(skip)]
    pub results: BTreeMap<String, Measurement>,
}

/// Key, name, value, ends of the interval, count.
type ResultRow = (i64, String, f64, Option<f64>, Option<f64>, Option<i64>);

const STATUS: &str = "CASE WHEN s.status = 'pending' AND r.status <> 'running' THEN 'not run' ELSE s.status END";

impl Store {
    /// The stages that `query` asks for, with what they measured.
    pub async fn history(&self, query: &HistoryQuery) -> Result<Vec<HistoryRow>, StoreError> {
        let mut sql =
            QueryBuilder::new("SELECT s.run, r.started_at AS run_started_at, s.recipe, s.variant, s.stage, s.kind, ");
        sql.push("k.key, ").push(STATUS).push(" AS status, s.started_at, s.seconds, s.message, s.tries, s.key_id");
        sql.push(" FROM stage_rows s JOIN run_rows r USING (run) JOIN key_rows k ON k.id = s.key_id WHERE TRUE");
        push_filters(&mut sql, query);
        push_order(&mut sql, query.order.as_ref());
        if let Some(limit) = query.limit {
            sql.push(" LIMIT ").push_bind(i64::try_from(limit).unwrap_or(i64::MAX));
        }
        let mut rows: Vec<HistoryRow> = sql.build_query_as().fetch_all(&self.pool).await?;
        self.add_results(&mut rows).await?;
        Ok(rows)
    }

    /// How many stages `query` asks for, whatever its limit.
    pub async fn history_count(&self, query: &HistoryQuery) -> Result<usize, StoreError> {
        let mut sql = QueryBuilder::new("SELECT COUNT(*) FROM stage_rows s WHERE TRUE");
        push_filters(&mut sql, query);
        let count: i64 = sql.build_query_scalar().fetch_one(&self.pool).await?;
        Ok(usize::try_from(count).unwrap_or(usize::MAX))
    }

    /// Whether nothing has been run yet.
    pub async fn is_empty(&self) -> Result<bool, StoreError> {
        Ok(sqlx::query_scalar("SELECT NOT EXISTS (SELECT 1 FROM stage_rows)").fetch_one(&self.pool).await?)
    }

    /// The names of all results.
    pub async fn result_names(&self) -> Result<Vec<String>, StoreError> {
        Ok(sqlx::query_scalar("SELECT DISTINCT name FROM result_rows ORDER BY name").fetch_all(&self.pool).await?)
    }

    /// Whether any stage has a result of this name.
    pub async fn has_result(&self, name: &str) -> Result<bool, StoreError> {
        let sql = "SELECT EXISTS (SELECT 1 FROM result_rows WHERE name = ?)";
        Ok(sqlx::query_scalar(sql).bind(name).fetch_one(&self.pool).await?)
    }

    async fn add_results(&self, rows: &mut [HistoryRow]) -> Result<(), StoreError> {
        let mut of_key: HashMap<i64, Vec<usize>> = HashMap::new();
        for (position, row) in rows.iter().enumerate().filter(|(_, row)| matches!(row.status.as_str(), "ok" | "hit")) {
            of_key.entry(row.key_id).or_default().push(position);
        }
        let ids = serde_json::to_string(&of_key.keys().collect::<Vec<_>>()).expect("numbers serialize");
        let sql = "SELECT key_id, name, value, low, high, count FROM result_rows \
                   WHERE key_id IN (SELECT value FROM json_each(?))";
        let found: Vec<ResultRow> = sqlx::query_as(sql).bind(ids).fetch_all(&self.pool).await?;
        for (key_id, name, value, low, high, count) in found {
            let count = count.and_then(|count| u64::try_from(count).ok());
            for &position in of_key.get(&key_id).into_iter().flatten() {
                let measured = Measurement { value, interval: low.zip(high), count };
                rows[position].results.insert(name.clone(), measured);
            }
        }
        Ok(())
    }
}

/// Adds the conditions on `stage_rows s`; nothing is joined for them, since each join takes as long as all of them.
fn push_filters(sql: &mut QueryBuilder<Sqlite>, query: &HistoryQuery) {
    for (column, wanted) in [("recipe", &query.recipe), ("variant", &query.variant)] {
        if let Some(wanted) = wanted {
            // the column holds names with spaces between
            sql.push(" AND instr(' ' || s.").push(column).push(" || ' ', ").push_bind(format!(" {wanted} ")).push(")");
        }
    }
    if !query.kinds.is_empty() {
        push_words(sql.push(" AND s.kind"), query.kinds.iter());
    }
    if !query.statuses.is_empty() {
        let (waiting, plain): (Vec<_>, Vec<_>) =
            query.statuses.iter().partition(|status| matches!(status.as_str(), "pending" | "not run"));
        push_words(sql.push(" AND (s.status"), plain.into_iter());
        for status in waiting {
            let is_live = if status == "pending" { "IN" } else { "NOT IN" };
            sql.push(" OR s.status = 'pending' AND s.run ").push(is_live);
            sql.push(" (SELECT run FROM run_rows WHERE status = 'running')");
        }
        sql.push(")");
    }
    if let Some(since) = query.since {
        sql.push(" AND s.run IN (SELECT run FROM run_rows WHERE started_at >= ").push_bind(timestamp(since)).push(")");
    }
    for condition in &query.conditions {
        let MetricCondition { name, comparison, bound } = condition;
        if name == "seconds" {
            sql.push(" AND s.seconds").push(comparison.sql()).push_bind(*bound);
            continue;
        }
        // `+` keeps the order of `stage_rows`, so that a limit ends the search
        sql.push(" AND s.status IN ('ok', 'hit') AND +s.key_id IN (SELECT key_id FROM result_rows WHERE name = ");
        sql.push_bind(name.clone()).push(" AND value").push(comparison.sql()).push_bind(*bound).push(")");
    }
}

fn push_words<'a>(sql: &mut QueryBuilder<Sqlite>, words: impl Iterator<Item = &'a String>) {
    sql.push(" IN (");
    let mut list = sql.separated(", ");
    for word in words {
        list.push_bind(word.clone());
    }
    sql.push(")");
}

fn push_order(sql: &mut QueryBuilder<Sqlite>, order: Option<&Order>) {
    sql.push(" ORDER BY ");
    if let Some(Order { by, descending }) = order {
        let direction = if *descending { " DESC NULLS LAST, " } else { " ASC NULLS LAST, " };
        match by {
            OrderBy::Column(column) => sql.push(*column),
            OrderBy::Result(name) => {
                sql.push(
                    "CASE WHEN s.status IN ('ok', 'hit') THEN (SELECT value FROM result_rows WHERE key_id = s.key_id",
                );
                sql.push(" AND name = ").push_bind(name.clone()).push(") END")
            }
        };
        sql.push(direction);
    }
    sql.push("s.run DESC, s.position");
}
