//! A table, written row by row.

use super::csv::csv_line;
use super::parquet::ParquetTable;
use crate::store::View;
use serde_json::{Map, Value};
use std::io::{self, BufWriter, Write as _};
use std::path::{Path, PathBuf};

/// The format of a table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TableFormat {
    /// Comma-separated values with a heading.
    Csv,
    /// JSON lines, one object per row.
    Json,
    /// Apache Parquet, compressed with Snappy.
    Parquet,
}

impl TableFormat {
    fn extension(self) -> &'static str {
        match self {
            Self::Csv => "csv",
            Self::Json => "jsonl",
            Self::Parquet => "parquet",
        }
    }
}

/// A table that is being written. The file gets its name when it is complete.
pub struct TableWriter {
    path: PathBuf,
    part: PathBuf,
    columns: Vec<&'static str>,
    rows: u64,
    body: Body,
}

enum Body {
    Csv(BufWriter<fs_err::File>),
    Json(BufWriter<fs_err::File>),
    Parquet(Box<ParquetTable>),
}

impl TableWriter {
    /// Begins the file of `view` in the directory `dir`.
    pub fn create(dir: &Path, view: &View, format: TableFormat) -> io::Result<Self> {
        let path = dir.join(format!("{}.{}", view.name, format.extension()));
        let part = path.with_extension(format!("{}.part", format.extension()));
        let columns: Vec<&'static str> = view.columns.iter().map(|column| column.name).collect();
        let file = fs_err::File::create(&part)?;
        let body = match format {
            TableFormat::Csv => {
                let mut file = BufWriter::new(file);
                file.write_all(csv_line(columns.iter().copied().map(Value::from)).as_bytes())?;
                Body::Csv(file)
            }
            TableFormat::Json => Body::Json(BufWriter::new(file)),
            TableFormat::Parquet => Body::Parquet(Box::new(ParquetTable::new(file.into_parts().0, view)?)),
        };
        Ok(Self { path, part, columns, rows: 0, body })
    }

    /// Adds a row, with a value for each column of the view.
    pub fn push(&mut self, row: Vec<Value>) -> io::Result<()> {
        self.rows += 1;
        match &mut self.body {
            Body::Csv(file) => file.write_all(csv_line(row).as_bytes()),
            Body::Json(file) => {
                let names = self.columns.iter().map(|name| (*name).to_owned());
                writeln!(file, "{}", Value::Object(names.zip(row).collect::<Map<_, _>>()))
            }
            Body::Parquet(table) => table.push(row),
        }
    }

    /// Gives the file its name. Returns its path and the number of rows.
    pub fn finish(self) -> io::Result<(PathBuf, u64)> {
        match self.body {
            Body::Csv(mut file) | Body::Json(mut file) => file.flush()?,
            Body::Parquet(table) => table.finish()?,
        }
        fs_err::rename(&self.part, &self.path)?;
        Ok((self.path, self.rows))
    }
}
