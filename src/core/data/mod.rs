//! The rows of a data set, from its files. The engine makes tokens of them, and [`crate::leakage`] compares their
//! words.

mod batches;
mod error;
mod fields;
mod parquet_file;
mod rows;
pub mod selection;

pub use batches::{Place, Unparsed, for_each_batch};
pub use error::DataError;
pub use fields::TextFields;
pub use rows::{Row, load_rows, rows_of_split, side};
pub use selection::left_out;
