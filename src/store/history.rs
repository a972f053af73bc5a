//! The stages of past runs, filtered and sorted.

use super::update::timestamp;
use super::{Store, StoreError};
use crate::event::Measurement;
use crate::stage::{StageKind, StageStatus};
use chrono::{DateTime, Utc};
use sqlx::{QueryBuilder, Sqlite};
use std::collections::{BTreeMap, HashMap};

/// A comparison of a number with a bound.
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
    /// The comparison.
    pub comparison: Comparison,
    /// The bound.
    pub bound: f64,
}

/// The sort key of stages.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OrderBy {
    /// A column of the table.
    Column(&'static str),
    /// A result, by its name; stages without it come last.
    Result(String),
}

/// A sort order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Order {
    /// The sort key.
    pub by: OrderBy,
    /// Whether the largest come first.
    pub descending: bool,
}

/// Filters and order of stages. Without an order, the newest run comes first, with its stages as planned.
#[derive(Clone, Debug, Default)]
pub struct HistoryQuery {
    /// The recipe.
    pub recipe: Option<String>,
    /// The variant.
    pub variant: Option<String>,
    /// The kinds; empty means all.
    pub kinds: Vec<StageKind>,
    /// The statuses; empty means all.
    pub statuses: Vec<StageStatus>,
    /// The earliest beginning of a run.
    pub since: Option<DateTime<Utc>>,
    /// Conditions that a stage has to fulfil, all of them.
    pub conditions: Vec<MetricCondition>,
    /// The order.
    pub order: Option<Order>,
    /// The maximum number of rows.
    pub limit: Option<usize>,
}

impl HistoryQuery {
    /// Whether the query leaves any stage out, limits aside.
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
    /// The run's id.
    pub run: String,
    /// When the run began.
    pub run_started_at: String,
    /// The recipes, joined by spaces.
    pub recipe: String,
    /// The variants, joined by spaces.
    pub variant: String,
    /// The stage's name.
    pub stage: String,
    /// The stage's kind.
    #[sqlx(try_from = "String")]
    pub kind: StageKind,
    /// The stage's cache key.
    pub key: String,
    /// The stage's status.
    #[sqlx(try_from = "String")]
    pub status: StageStatus,
    /// When its worker started.
    pub started_at: Option<String>,
    /// The duration in seconds.
    pub seconds: Option<f64>,
    /// Why it failed or was skipped.
    pub message: Option<String>,
    /// The number of workers that were started on it.
    pub tries: u32,
    key_id: i64,
    /// The stage's measurements; empty unless it is done.
    #[sqlx(skip)]
    pub results: BTreeMap<String, Measurement>,
}

/// Key, name, value, ends of the interval, count.
type ResultRow = (i64, String, f64, Option<f64>, Option<f64>, Option<i64>);

/// The columns of a [`HistoryRow`].
const COLUMNS: &str = "SELECT s.run, r.started_at AS run_started_at, s.recipe, s.variant, s.stage, s.kind, k.key, \
    CASE WHEN s.status = 'pending' AND r.status <> 'running' THEN 'not run' ELSE s.status END AS status, \
    s.started_at, s.seconds, s.message, s.tries, s.key_id";
/// The tables of these columns, beside `stage_rows s`.
const JOINED: &str = "CROSS JOIN run_rows r ON r.run = s.run CROSS JOIN key_rows k ON k.id = s.key_id";
/// The cache key's column in an [`Order`].
const KEY: &str = "s.key";

/// The maximum number of rows of a sorted index to walk. Beyond that, a scan of all stages is as quick.
const MOST_WALKED: i64 = 5000;
/// The number of results that count as few. If few results pass a condition, their stages are looked up; otherwise each
/// stage is checked.
const FEW: i64 = 500;

impl Store {
    /// Returns the stages that `query` selects, with their measurements.
    pub async fn history(&self, query: &HistoryQuery) -> Result<Vec<HistoryRow>, StoreError> {
        let few = self.few(query).await?;
        if let (Some(order), Some(limit)) = (&query.order, query.limit)
            && let Some(rows) = self.walk(query, &few, order, limit).await?
        {
            return Ok(rows);
        }
        let mut sql = QueryBuilder::new(COLUMNS);
        // The rows are found among the stages alone: each table that is joined for all of them takes as long again.
        sql.push(" FROM (SELECT s.run, s.position FROM stage_rows s WHERE TRUE");
        push_filters(&mut sql, query, &few);
        push_order(&mut sql, query.order.as_ref());
        if let Some(limit) = query.limit {
            sql.push(" LIMIT ").push_bind(i64::try_from(limit).unwrap_or(i64::MAX));
        }
        sql.push(") found CROSS JOIN stage_rows s ON s.run = found.run AND s.position = found.position ");
        sql.push(JOINED);
        push_order(&mut sql, query.order.as_ref());
        let mut rows: Vec<HistoryRow> = sql.build_query_as().fetch_all(&self.pool).await?;
        self.add_results(&mut rows).await?;
        Ok(rows)
    }

    /// Returns the first `limit` stages in the order of a sort key with its own index, by walking the index from key to
    /// key. Returns `None` without such an index, or if a long walk gave too few stages.
    async fn walk(
        &self,
        query: &HistoryQuery,
        few: &[bool],
        order: &Order,
        limit: usize,
    ) -> Result<Option<Vec<HistoryRow>>, StoreError> {
        let (direction, until) = if order.descending { (" DESC", " >= ") } else { (" ASC", " <= ") };
        let mut sql = QueryBuilder::new(COLUMNS);
        let column = match &order.by {
            OrderBy::Result(name) => {
                sql.push(" FROM result_rows o CROSS JOIN stage_rows s ON s.key_id = o.key_id ").push(JOINED);
                sql.push(" WHERE s.status IN ('ok', 'cached') AND o.name = ").push_bind(name);
                sql.push(" AND o.value").push(until).push("COALESCE((SELECT value FROM result_rows WHERE name = ");
                sql.push_bind(name);
                "value"
            }
            OrderBy::Column(KEY) => {
                sql.push(" FROM key_rows o CROSS JOIN stage_rows s ON s.key_id = o.id ").push(JOINED);
                sql.push(" WHERE o.key").push(until).push("COALESCE((SELECT key FROM key_rows");
                "key"
            }
            OrderBy::Column(_) => return Ok(None),
        };
        let end = match (&order.by, order.descending) {
            (OrderBy::Result(_), true) => "-9e999",
            (OrderBy::Result(_), false) => "9e999",
            (OrderBy::Column(_), true) => "''",
            (OrderBy::Column(_), false) => "'g'", // after all hexadecimal digits
        };
        sql.push(" ORDER BY ").push(column).push(direction).push(" LIMIT 1 OFFSET ").push_bind(MOST_WALKED);
        sql.push("), ").push(end).push(")");
        push_filters(&mut sql, query, few);
        sql.push(" ORDER BY o.").push(column).push(direction).push(", s.run DESC, s.position LIMIT ");
        sql.push_bind(i64::try_from(limit).unwrap_or(i64::MAX));
        let mut rows: Vec<HistoryRow> = sql.build_query_as().fetch_all(&self.pool).await?;
        if rows.len() < limit {
            return Ok(None);
        }
        self.add_results(&mut rows).await?;
        Ok(Some(rows))
    }

    /// Returns, for each condition of `query`, whether few results pass it.
    async fn few(&self, query: &HistoryQuery) -> Result<Vec<bool>, StoreError> {
        let mut few = Vec::with_capacity(query.conditions.len());
        for condition in &query.conditions {
            let mut sql = QueryBuilder::new("SELECT COUNT(*) FROM (SELECT 1 FROM result_rows");
            push_condition(&mut sql, condition);
            sql.push(" LIMIT ").push_bind(FEW).push(")");
            let count: i64 = sql.build_query_scalar().fetch_one(&self.pool).await?;
            few.push(count < FEW);
        }
        Ok(few)
    }

    /// Counts the stages that `query` selects, without its limit, up to `most`.
    pub async fn history_count(&self, query: &HistoryQuery, most: usize) -> Result<usize, StoreError> {
        let few = self.few(query).await?;
        let mut sql = QueryBuilder::new("SELECT COUNT(*) FROM (SELECT 1 FROM stage_rows s WHERE TRUE");
        push_filters(&mut sql, query, &few);
        sql.push(" LIMIT ").push_bind(i64::try_from(most).unwrap_or(i64::MAX)).push(")");
        let count: i64 = sql.build_query_scalar().fetch_one(&self.pool).await?;
        Ok(usize::try_from(count).unwrap_or(usize::MAX))
    }

    /// Whether the history has no stages yet.
    pub async fn is_empty(&self) -> Result<bool, StoreError> {
        Ok(sqlx::query_scalar("SELECT NOT EXISTS (SELECT 1 FROM stage_rows)").fetch_one(&self.pool).await?)
    }

    /// Returns the names of all results.
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
        for (position, row) in rows.iter().enumerate().filter(|(_, row)| row.status.has_result()) {
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

/// Adds the conditions on `stage_rows s`. `few` is whether few results pass each condition.
fn push_filters(sql: &mut QueryBuilder<Sqlite>, query: &HistoryQuery, few: &[bool]) {
    for (column, wanted) in [("recipe", &query.recipe), ("variant", &query.variant)] {
        if let Some(wanted) = wanted {
            // The column holds names joined by spaces. The plain search rejects most rows sooner.
            sql.push(" AND instr(s.").push(column).push(", ").push_bind(wanted).push(")");
            sql.push(" AND instr(' ' || s.").push(column).push(" || ' ', ").push_bind(format!(" {wanted} ")).push(")");
        }
    }
    if !query.kinds.is_empty() {
        push_words(sql.push(" AND s.kind"), query.kinds.iter().map(|kind| kind.name()));
    }
    if !query.statuses.is_empty() {
        let (waiting, plain): (Vec<StageStatus>, Vec<StageStatus>) =
            query.statuses.iter().partition(|status| matches!(status, StageStatus::Pending | StageStatus::NotRun));
        push_words(sql.push(" AND (s.status"), plain.iter().map(|status| status.name()));
        for status in waiting {
            let is_live = if status == StageStatus::Pending { "IN" } else { "NOT IN" };
            sql.push(" OR s.status = 'pending' AND s.run ").push(is_live);
            sql.push(" (SELECT run FROM run_rows WHERE status = 'running')");
        }
        sql.push(")");
    }
    if let Some(since) = query.since {
        sql.push(" AND s.run IN (SELECT run FROM run_rows WHERE started_at >= ").push_bind(timestamp(since)).push(")");
    }
    for (condition, few) in query.conditions.iter().zip(few) {
        let MetricCondition { name, comparison, bound } = condition;
        if name == "seconds" {
            sql.push(" AND s.seconds").push(comparison.sql()).push_bind(*bound);
            continue;
        }
        sql.push(" AND s.status IN ('ok', 'cached') AND ");
        if *few {
            push_condition(sql.push("s.key_id IN (SELECT key_id FROM result_rows"), condition);
        } else {
            // Checks stage by stage, so that a limit ends the search.
            push_condition(sql.push("EXISTS (SELECT 1 FROM result_rows"), condition);
            sql.push(" AND key_id = s.key_id");
        }
        sql.push(")");
    }
}

/// Adds the condition on `result_rows`.
fn push_condition(sql: &mut QueryBuilder<Sqlite>, MetricCondition { name, comparison, bound }: &MetricCondition) {
    sql.push(" WHERE name = ").push_bind(name).push(" AND value").push(comparison.sql()).push_bind(*bound);
}

fn push_words(sql: &mut QueryBuilder<Sqlite>, words: impl Iterator<Item = &'static str>) {
    sql.push(" IN (");
    let mut list = sql.separated(", ");
    for word in words {
        list.push_bind(word);
    }
    sql.push(")");
}

fn push_order(sql: &mut QueryBuilder<Sqlite>, order: Option<&Order>) {
    sql.push(" ORDER BY ");
    if let Some(Order { by, descending }) = order {
        let direction = if *descending { " DESC NULLS LAST, " } else { " ASC NULLS LAST, " };
        match by {
            OrderBy::Column(KEY) => sql.push("(SELECT key FROM key_rows WHERE id = s.key_id)"),
            OrderBy::Column(column) => sql.push(*column),
            OrderBy::Result(name) => {
                sql.push(
                    "CASE WHEN s.status IN ('ok', 'cached') THEN (SELECT value FROM result_rows WHERE key_id = s.key_id",
                );
                sql.push(" AND name = ").push_bind(name.clone()).push(") END")
            }
        };
        sql.push(direction);
    }
    sql.push("s.run DESC, s.position");
}
