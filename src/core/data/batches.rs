//! The rows of files in batches, so that a large file is never held in memory as a whole.

use super::error::DataError;
use super::parquet_file::read_parquet;
use super::rows::Row;
use crate::digest::Digest;
use crate::recipe::spec::{DataFile, DataFormat};
use serde_json::{Map, Value};
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Read as _};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

/// The size in bytes of the part of a JSONL file that is read at a time.
const BLOCK: u64 = 4 << 20;

/// The number of rows of a Parquet or text file in a batch.
const ROWS: usize = 8192;

/// A row whose JSON is not parsed yet.
#[derive(Debug)]
pub struct Unparsed<'a> {
    /// The file.
    pub path: &'a Path,
    /// The digest by which an assignment names the file.
    pub file: &'a Digest,
    /// The place of the row in its file: `LINE`, or `row N` for formats without lines.
    pub place: Place,
    /// Whether the file is in the result of a stage.
    is_generated: bool,
    content: Content<'a>,
}

/// The place of a row in its file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// The line where the row begins, from 1.
    Line(usize),
    /// The number of the row, from 1.
    Row(usize),
}

impl std::fmt::Display for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Line(line) => write!(f, "{line}"),
            Self::Row(row) => write!(f, "row {row}"),
        }
    }
}

#[derive(Debug)]
enum Content<'a> {
    Json(&'a str),
    Fields(Map<String, Value>),
}

impl Unparsed<'_> {
    /// Returns `FILE:LINE`, or `FILE:row N`.
    pub fn location(&self) -> String {
        format!("{}:{}", self.path.display(), self.place)
    }

    /// Returns the fields of the row.
    ///
    /// # Errors
    /// Returns an error for a line that is not a JSON object.
    pub fn fields(&self) -> Result<Cow<'_, Map<String, Value>>, DataError> {
        match &self.content {
            Content::Json(line) => self.parsed(line).map(Cow::Owned),
            Content::Fields(fields) => Ok(Cow::Borrowed(fields)),
        }
    }

    /// Converts this to a row, the `index`th of its data set.
    ///
    /// # Errors
    /// As for [`Unparsed::fields`].
    pub fn into_row(self, index: usize) -> Result<Row, DataError> {
        let (location, is_generated) = (self.location(), self.is_generated);
        let fields = match self.content {
            Content::Json(line) => self.parsed(line)?,
            Content::Fields(fields) => fields,
        };
        Ok(Row { is_generated, ..Row::new(index, location, fields) })
    }

    fn parsed(&self, line: &str) -> Result<Map<String, Value>, DataError> {
        match serde_json::from_str(line) {
            Ok(Value::Object(fields)) => Ok(fields),
            Ok(_) => Err(DataError::content(format!("{}: the line is JSON, but not an object", self.location()))),
            Err(e) => Err(DataError::content(format!("{}: the line is not JSON: {e}", self.location()))),
        }
    }
}

/// Calls `take` with the rows of all `files`, in order, in batches. The rows are of either side of the split.
///
/// # Errors
/// Returns the error of `take`, and an error for a file that cannot be read.
pub fn for_each_batch<E: From<DataError>>(
    files: &[DataFile],
    inputs: &BTreeMap<Digest, PathBuf>,
    mut take: impl FnMut(Vec<Unparsed<'_>>) -> Result<ControlFlow<()>, E>,
) -> Result<(), E> {
    for file in files {
        let digest = &file.id();
        let path = inputs.get(digest).ok_or_else(|| {
            DataError::content(format!("the assignment names no path for data file {}", digest.short()))
        })?;
        let is_generated = matches!(file, DataFile::Result { .. });
        let flow = match file.format() {
            DataFormat::Jsonl => jsonl(path, |lines| {
                let row = |(line, text)| Unparsed {
                    path,
                    file: digest,
                    is_generated,
                    place: Place::Line(line),
                    content: Content::Json(text),
                };
                take(lines.into_iter().map(row).collect())
            })?,
            DataFormat::Text => {
                let text = fs_err::read_to_string(path).map_err(|e| DataError::io(path, &e))?;
                let mut flow = ControlFlow::Continue(());
                for batch in paragraphs(text.strip_prefix(BYTE_ORDER_MARK).unwrap_or(&text)).chunks(ROWS) {
                    let of_text = |(line, paragraph): &(usize, String)| {
                        let fields = Map::from_iter([("text".to_owned(), Value::from(paragraph.as_str()))]);
                        Unparsed {
                            path,
                            file: digest,
                            is_generated,
                            place: Place::Line(*line),
                            content: Content::Fields(fields),
                        }
                    };
                    flow = take(batch.iter().map(of_text).collect())?;
                    if flow.is_break() {
                        break;
                    }
                }
                flow
            }
            DataFormat::Parquet => read_parquet(path, ROWS, |first, batch| {
                let of_row = |(number, fields)| Unparsed {
                    path,
                    file: digest,
                    is_generated,
                    place: Place::Row(number),
                    content: Content::Fields(fields),
                };
                take((first..).zip(batch).map(of_row).collect())
            })?,
        };
        if flow.is_break() {
            break;
        }
    }
    Ok(())
}

const BYTE_ORDER_MARK: char = '\u{feff}';

/// Calls `take` with the lines of a file that are not blank, each with its number, in blocks.
fn jsonl<E: From<DataError>>(
    path: &Path,
    mut take: impl FnMut(Vec<(usize, &str)>) -> Result<ControlFlow<()>, E>,
) -> Result<ControlFlow<()>, E> {
    let failed = |e: &std::io::Error| DataError::io(path, e);
    let mut file = BufReader::new(fs_err::File::open(path).map_err(|e| failed(&e))?);
    let mut block = Vec::new();
    let mut line = 1;
    loop {
        block.clear();
        (&mut file).take(BLOCK).read_to_end(&mut block).map_err(|e| failed(&e))?;
        if block.is_empty() {
            return Ok(ControlFlow::Continue(()));
        }
        file.read_until(b'\n', &mut block).map_err(|e| failed(&e))?;
        let text = std::str::from_utf8(&block)
            .map_err(|_| DataError::io(path, &std::io::Error::new(std::io::ErrorKind::InvalidData, NOT_TEXT)))?;
        let text = if line == 1 { text.strip_prefix(BYTE_ORDER_MARK).unwrap_or(text) } else { text };
        let lines: Vec<(usize, &str)> = (line..).zip(text.lines()).collect();
        line += lines.len();
        let flow = take(lines.into_iter().filter(|(_, text)| !text.trim().is_empty()).collect())?;
        if flow.is_break() {
            return Ok(flow);
        }
    }
}

/// The words of the standard library for a file that is not text.
const NOT_TEXT: &str = "stream did not contain valid UTF-8";

/// Returns the paragraphs of a text, each with the number of its first line.
fn paragraphs(text: &str) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    let mut paragraph = String::new();
    let mut first_line = 1;
    for (number, line) in (1..).zip(text.lines().chain([""])) {
        if line.trim().is_empty() {
            if !paragraph.is_empty() {
                found.push((first_line, std::mem::take(&mut paragraph)));
            }
            continue;
        }
        if paragraph.is_empty() {
            first_line = number;
        } else {
            paragraph.push('\n');
        }
        paragraph.push_str(line);
    }
    found
}
