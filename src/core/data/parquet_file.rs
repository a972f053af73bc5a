//! Parquet files as rows of JSON.

use super::error::DataError;
use parquet::file::reader::SerializedFileReader;
use parquet::record::reader::RowIter;
use serde_json::{Map, Value};
use std::ops::ControlFlow;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

type Fields = Map<String, Value>;

/// Calls `take` with the rows of a Parquet file, at most `most` at a time, and the number of the first, from 1.
/// Strings, numbers, booleans, nulls, lists and structs become their JSON equivalents. Dates, times and decimals become
/// strings. Bytes that are not text become base64.
///
/// # Errors
/// Returns the error of `take`, and an error for a file that is not Parquet, is truncated or is damaged. The reader
/// panics on some of those, which becomes an error too.
pub(super) fn read_parquet<E: From<DataError>>(
    path: &Path,
    most: usize,
    mut take: impl FnMut(usize, Vec<Fields>) -> Result<ControlFlow<()>, E>,
) -> Result<ControlFlow<()>, E> {
    let mut first = 1;
    let failed = |number: usize, why: String| {
        DataError::content(format!("{}:row {number}: this cannot be read as Parquet: {why}", path.display()))
            .hinted("check that another program can read the file, or rewrite it")
    };
    let mut iter = guarded(|| {
        let reader = SerializedFileReader::new(std::fs::File::open(path)?)?;
        Ok(RowIter::from_file_into(Box::new(reader)))
    })
    .map_err(|why| failed(1, why))?;
    loop {
        let mut batch = Vec::new();
        let more = guarded(|| {
            for row in iter.by_ref().take(most) {
                if let Value::Object(fields) = row?.to_json_value() {
                    batch.push(fields);
                }
            }
            Ok(())
        });
        more.map_err(|why| failed(first + batch.len(), why))?;
        let count = batch.len();
        if count == 0 {
            return Ok(ControlFlow::Continue(()));
        }
        let flow = take(first, batch)?;
        if flow.is_break() {
            return Ok(flow);
        }
        first += count;
    }
}

/// Returns the result of `read`, or the reason why there is none.
fn guarded<T>(read: impl FnOnce() -> parquet::errors::Result<T>) -> Result<T, String> {
    match catch_unwind(AssertUnwindSafe(read)) {
        Ok(found) => found.map_err(|error| error.to_string()),
        Err(_) => Err("the file is damaged".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::PathBuf;

    /// Returns the path of a file that `tests/golden/gen_parquet.py` wrote with pyarrow.
    fn golden(name: &str) -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/golden/parquet").join(name)
    }

    fn load(path: &Path) -> Result<Vec<Value>, DataError> {
        let mut rows = Vec::new();
        let _ = read_parquet(path, 3, |first, batch| {
            assert_eq!(first, rows.len() + 1);
            rows.extend(batch.into_iter().map(Value::Object));
            Ok::<_, DataError>(ControlFlow::Continue(()))
        })?;
        Ok(rows)
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
    fn reading_ends_when_no_more_is_wanted() {
        let mut rows = 0;
        let flow = read_parquet(&golden("snappy.parquet"), 2, |_, batch| {
            rows += batch.len();
            Ok::<_, DataError>(ControlFlow::Break(()))
        });
        assert_eq!((flow, rows), (Ok(ControlFlow::Break(())), 2));
    }

    #[test]
    fn a_damaged_file_is_an_error() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("bad.parquet");
        for bytes in [&b""[..], b"PAR1", b"question,answer\n", b"PAR1\0\0\0\x10\xff\xff\xff\x7fPAR1"] {
            fs_err::write(&path, bytes).unwrap();
            let error = load(&path).unwrap_err();
            assert!(error.message.contains("bad.parquet:row 1: this cannot be read as Parquet"), "{error}");
        }
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
