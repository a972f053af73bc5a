//! A table as Parquet: flat columns, each value present or null, compressed with Snappy.

use crate::store::{ColumnType, View};
use parquet::basic::{Compression, ConvertedType, LogicalType, Repetition, Type as Physical};
use parquet::data_type::{ByteArray, ByteArrayType, DoubleType, Int64Type};
use parquet::errors::ParquetError;
use parquet::file::properties::WriterProperties;
use parquet::file::writer::SerializedFileWriter;
use parquet::schema::types::Type;
use serde_json::Value;
use std::fs::File;
use std::io;
use std::sync::Arc;

/// The maximum number of rows of a row group. A row group is held in memory.
const GROUP_ROWS: usize = 8192;
/// The approximate maximum of text in a row group, in bytes.
const GROUP_BYTES: usize = 32 << 20;

/// A Parquet file that is being written.
pub(super) struct ParquetTable {
    writer: SerializedFileWriter<File>,
    kinds: Vec<ColumnType>,
    group: Vec<Vec<Value>>,
    bytes: usize,
}

impl ParquetTable {
    /// Begins the table of `view`.
    pub(super) fn new(file: File, view: &View) -> io::Result<Self> {
        let fields = view.columns.iter().map(|column| {
            let physical = match column.kind {
                ColumnType::Text => Physical::BYTE_ARRAY,
                ColumnType::Integer => Physical::INT64,
                ColumnType::Real => Physical::DOUBLE,
            };
            let mut field = Type::primitive_type_builder(column.name, physical).with_repetition(Repetition::OPTIONAL);
            if column.kind == ColumnType::Text {
                field = field.with_logical_type(Some(LogicalType::String)).with_converted_type(ConvertedType::UTF8);
            }
            Arc::new(field.build().expect("a column's type is one that Parquet has"))
        });
        let schema = Type::group_type_builder(view.name).with_fields(fields.collect()).build();
        let schema = Arc::new(schema.expect("flat columns make a schema"));
        let properties = WriterProperties::builder().set_compression(Compression::SNAPPY).build();
        let writer = SerializedFileWriter::new(file, schema, Arc::new(properties)).map_err(failed)?;
        let kinds = view.columns.iter().map(|column| column.kind).collect();
        Ok(Self { writer, kinds, group: Vec::new(), bytes: 0 })
    }

    /// Adds a row.
    pub(super) fn push(&mut self, row: Vec<Value>) -> io::Result<()> {
        self.bytes += row.iter().filter_map(Value::as_str).map(str::len).sum::<usize>();
        self.group.push(row);
        if self.group.len() == GROUP_ROWS || self.bytes >= GROUP_BYTES {
            self.write_group().map_err(failed)?;
        }
        Ok(())
    }

    /// Writes the remaining rows and the footer.
    pub(super) fn finish(mut self) -> io::Result<()> {
        if !self.group.is_empty() {
            self.write_group().map_err(failed)?;
        }
        self.writer.close().map_err(failed)?;
        Ok(())
    }

    fn write_group(&mut self) -> Result<(), ParquetError> {
        let mut rows = self.writer.next_row_group()?;
        for (position, kind) in self.kinds.iter().enumerate() {
            let mut column = rows.next_column()?.expect("the schema has a field a column");
            let values = || self.group.iter().map(|row| &row[position]);
            // Parquet's definition levels: 1 for a value, 0 for null.
            let levels: Vec<i16> = values().map(|value| i16::from(!value.is_null())).collect();
            let levels = Some(levels.as_slice());
            let present = values().filter(|value| !value.is_null());
            match kind {
                ColumnType::Text => {
                    let texts: Vec<ByteArray> =
                        present.map(|value| value.as_str().unwrap_or_default().into()).collect();
                    column.typed::<ByteArrayType>().write_batch(&texts, levels, None)?
                }
                ColumnType::Integer => {
                    let numbers: Vec<i64> = present.map(|value| value.as_i64().unwrap_or_default()).collect();
                    column.typed::<Int64Type>().write_batch(&numbers, levels, None)?
                }
                ColumnType::Real => {
                    let numbers: Vec<f64> = present.map(|value| value.as_f64().unwrap_or(f64::NAN)).collect();
                    column.typed::<DoubleType>().write_batch(&numbers, levels, None)?
                }
            };
            column.close()?;
        }
        rows.close()?;
        self.group.clear();
        self.bytes = 0;
        Ok(())
    }
}

fn failed(error: ParquetError) -> io::Error {
    match error {
        ParquetError::External(source) => match source.downcast::<io::Error>() {
            Ok(error) => *error,
            Err(other) => io::Error::other(other),
        },
        other => io::Error::other(other),
    }
}
