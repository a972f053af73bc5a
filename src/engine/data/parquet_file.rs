//! Parquet files as rows of JSON.

use super::rows::Row;
use crate::error::{StageError, StageResult};
use parquet::file::reader::SerializedFileReader;
use parquet::record::reader::RowIter;
use serde_json::Value;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

/// Appends the rows of a Parquet file. Strings, numbers, booleans, nulls, lists and structs become their JSON
/// equivalents. Dates, times and decimals become strings. Bytes that are not text become base64.
///
/// # Errors
/// Returns an error for a file that is not Parquet, is truncated or is damaged. The reader panics on some of those,
/// which becomes an error too.
pub(super) fn read_parquet(path: &Path, rows: &mut Vec<Row>) -> StageResult<()> {
    let before = rows.len();
    let read = catch_unwind(AssertUnwindSafe(|| read(path, rows)));
    let number = rows.len() - before + 1;
    let why = match read {
        Ok(Ok(())) => return Ok(()),
        Ok(Err(error)) => error.to_string(),
        Err(_) => "the file is damaged".to_owned(),
    };
    rows.truncate(before);
    Err(StageError::input(format!("{}:row {number}: this cannot be read as Parquet: {why}", path.display()))
        .hinted("check that another program can read the file, or rewrite it"))
}

fn read(path: &Path, rows: &mut Vec<Row>) -> parquet::errors::Result<()> {
    let reader = SerializedFileReader::new(std::fs::File::open(path)?)?;
    for (number, row) in (1..).zip(RowIter::from_file_into(Box::new(reader))) {
        if let Value::Object(fields) = row?.to_json_value() {
            rows.push(Row::new(rows.len(), format!("{}:row {number}", path.display()), fields));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::PathBuf;

    /// Returns the path of a file that `tests/golden/gen_parquet.py` wrote with pyarrow.
    fn golden(name: &str) -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/golden/parquet").join(name)
    }

    fn load(path: &Path) -> StageResult<Vec<Value>> {
        let mut rows = Vec::new();
        read_parquet(path, &mut rows)?;
        Ok(rows.into_iter().map(|row| Value::Object(row.fields)).collect())
    }

    #[test]
    fn rows_equal_what_pyarrow_wrote() {
        let expected = fs_err::read_to_string(golden("rows.jsonl")).unwrap();
        let expected: Vec<Value> = expected.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert!(expected.len() > 3);
        for name in ["snappy.parquet", "zstd.parquet", "gzip.parquet", "none.parquet"] {
            assert_eq!(load(&golden(name)).unwrap(), expected, "{name}");
        }
    }

    #[test]
    fn a_row_is_named_by_its_number() {
        let mut rows = vec![Row::new(0, "other:1".to_owned(), serde_json::Map::new())];
        read_parquet(&golden("snappy.parquet"), &mut rows).unwrap();
        assert_eq!((rows[1].index, rows[2].index), (1, 2));
        assert!(rows[2].location.ends_with("snappy.parquet:row 2"), "{}", rows[2].location);
    }

    #[test]
    fn a_damaged_file_is_an_error_and_leaves_no_rows() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("bad.parquet");
        let mut rows = Vec::new();
        for bytes in [&b""[..], b"PAR1", b"question,answer\n", b"PAR1\0\0\0\x10\xff\xff\xff\x7fPAR1"] {
            fs_err::write(&path, bytes).unwrap();
            let error = read_parquet(&path, &mut rows).unwrap_err();
            assert!(error.message.contains("bad.parquet:row 1: this cannot be read as Parquet"), "{error}");
        }
        assert_eq!(rows, []);
    }

    /// Changes bytes all over a small file in three ways. Each file gives an error or other rows, never a panic.
    #[test]
    fn a_hostile_file_never_panics() {
        let whole = fs_err::read(golden("none.parquet")).unwrap();
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("bad.parquet");
        let mut refused = 0;
        for (position, change) in (0..whole.len()).step_by(7).zip([0x01, 0x80, 0xff].into_iter().cycle()) {
            let mut bytes = whole.clone();
            bytes[position] ^= change;
            fs_err::write(&path, &bytes).unwrap();
            refused += usize::from(load(&path).is_err());
        }
        for length in (0..whole.len()).step_by(31) {
            fs_err::write(&path, &whole[..length]).unwrap();
            assert!(load(&path).is_err(), "cut off after {length} bytes");
        }
        assert!(refused > whole.len() / 7 / 4, "{refused} of {} changes were noticed", whole.len() / 7);
    }
}
