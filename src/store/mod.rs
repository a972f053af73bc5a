//! The history in SQLite: the only importer of sqlx.
//!
//! It is an index of the files under `runs/`, which `history::index` reads into it. How far each file was read is
//! stored beside its rows, in the same transaction. So every writer continues where the last one stopped, a failed
//! write loses nothing, and the database can be rebuilt. The schema is in `migrations/`; queries use its views
//! ([`VIEWS`]).

mod database;
mod history;
mod location;
mod query;
mod question;
mod schema;
mod stages;
#[cfg(test)]
mod tests;
mod update;

pub use database::*;
pub use history::{Comparison, HistoryQuery, HistoryRow, MetricCondition, Order, OrderBy};
pub use location::{DATABASE_VARIABLE, database_path};
pub use query::QueryResult;
pub use question::{QuestionError, check_question};
pub use schema::{ColumnType, VIEWS, View, ViewColumn};
pub use stages::StageRecord;
pub use update::{KeyState, Results, Update};
