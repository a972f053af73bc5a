//! Exports tables of the history: CSV, JSON lines, Parquet, and event files for TensorBoard.

mod csv;
mod parquet;
mod table;
mod tensorboard;

pub use csv::csv_line;
pub use table::{TableFormat, TableWriter};
pub use tensorboard::EventFile;
