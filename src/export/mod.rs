//! Tables of the history as files of other programs.

mod csv;

pub use csv::csv_line;
