//! The rows of a data set, and the side of the split that each is on.

use super::batches::for_each_batch;
use super::error::DataError;
use super::selection::{QUESTION_ID, select};
use crate::digest::{Digest, canonical_json};
use crate::recipe::spec::{DataFile, DataSpec, Fractions, Split};
use serde_json::{Map, Value};
use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::path::PathBuf;

/// One row of a data set.
#[derive(Clone, Debug, PartialEq)]
pub struct Row {
    /// Position among all rows of the data set, on either side of the split.
    pub index: usize,
    /// `FILE:LINE`, or `FILE:row N` for formats without lines.
    pub location: String,
    /// The row's fields. A paragraph of a text file has only the field `text`.
    pub fields: Map<String, Value>,
    /// Whether the row is from the result of a stage.
    pub is_generated: bool,
    /// The name of the field that holds the answer of a stage, which is not part of the row's content.
    pub joined: Option<String>,
    /// The row's own value in that field.
    pub own: Option<Value>,
}

/// Loads the rows on the side of the split that `spec` selects, at most `max_rows` of them.
///
/// # Errors
/// Returns an error for a file that cannot be read, for a line that is not a JSON object, and for a data set or side
/// without rows.
pub fn load_rows(spec: &DataSpec, inputs: &BTreeMap<Digest, PathBuf>) -> Result<Vec<Row>, DataError> {
    let mut rows = rows_of_split(spec, inputs)?;
    rows.truncate(spec.max_rows.unwrap_or(usize::MAX));
    Ok(rows)
}

/// Loads all rows on the side of the split that `spec` selects, as far as its selection keeps them.
///
/// # Errors
/// As for [`load_rows`].
pub fn rows_of_split(spec: &DataSpec, inputs: &BTreeMap<Digest, PathBuf>) -> Result<Vec<Row>, DataError> {
    let mut rows = read_rows(&spec.files, inputs)?;
    let paths = || {
        let paths = spec.files.iter().filter_map(|file| inputs.get(&file.id()));
        paths.map(|path| format!("`{}`", path.display())).collect::<Vec<_>>().join(", ")
    };
    let total = rows.len();
    if total == 0 {
        return Err(DataError::content(format!("the data set {} has no rows", paths())));
    }
    rows.retain(|row| row.is_on(spec.split, spec.fractions()));
    if rows.is_empty() {
        let side = spec.split.word();
        let hint = match spec.split {
            Split::Dev => format!("`dev_fraction` is {}; change it or add rows", spec.dev_fraction),
            _ => format!("`eval_fraction` is {}; change it or add rows", spec.eval_fraction),
        };
        let message = format!("none of the {total} rows of {} is on the {side} side of the split", paths());
        return Err(DataError::content(message).hinted(hint));
    }
    let rows = select(spec, inputs, rows)?;
    if rows.is_empty() {
        let message = format!("all rows of {} answer questions that the recipe measures", paths());
        return Err(
            DataError::content(message).hinted("generate answers to rows that are trained on: `split = \"train\"`")
        );
    }
    Ok(rows)
}

/// Reads every row of `files`.
///
/// # Errors
/// Returns an error for a file that cannot be read, and for a line that is not a JSON object.
pub(super) fn read_rows(files: &[DataFile], inputs: &BTreeMap<Digest, PathBuf>) -> Result<Vec<Row>, DataError> {
    let mut rows = Vec::new();
    for_each_batch(files, inputs, |batch| {
        for row in batch {
            rows.push(row.into_row(rows.len())?);
        }
        Ok::<_, DataError>(ControlFlow::Continue(()))
    })?;
    Ok(rows)
}

/// The number of digits of a row's digest in its identifier, which are 64 bits. In a data set of a million rows, two
/// rows share them with a chance of 1 in 37 million.
const ID_DIGITS: usize = 16;

impl Row {
    /// Creates the row at the position `index`.
    pub fn new(index: usize, location: String, fields: Map<String, Value>) -> Self {
        Self { index, location, fields, is_generated: false, joined: None, own: None }
    }

    /// Returns the digest of the row's content, which does not depend on its position.
    pub fn digest(&self) -> Digest {
        let Some(joined) = &self.joined else { return digest(&self.fields) };
        let mut fields = self.fields.clone();
        match &self.own {
            Some(own) => fields.insert(joined.clone(), own.clone()),
            None => fields.remove(joined),
        };
        digest(&fields)
    }

    /// Returns the identifier of the row, which equal rows share.
    pub fn id(&self) -> String {
        self.digest().as_str()[..ID_DIGITS].to_owned()
    }

    /// Returns the side of the split on which the row is, by the hash of its content. An answer that a stage generated
    /// is on the side of its question.
    pub fn side(&self, fractions: Fractions) -> Split {
        let question = self.fields.get(QUESTION_ID).and_then(Value::as_str).filter(|_| self.is_generated);
        match question.and_then(fraction) {
            Some(hash) => fractions.side(hash),
            None if fractions.eval + fractions.dev <= 0.0 => Split::Train,
            None => fraction(self.digest().as_str()).map_or(Split::Train, |hash| fractions.side(hash)),
        }
    }

    /// Whether a stage that reads `split` reads the row.
    pub fn is_on(&self, split: Split, fractions: Fractions) -> bool {
        split == Split::All || self.side(fractions) == split
    }
}

/// Returns the number from 0 to 1 that the first 52 bits of a digest are.
fn fraction(digits: &str) -> Option<f64> {
    let leading = u64::from_str_radix(digits.get(..13)?, 16).ok()?;
    Some(leading as f64 / (1u64 << 52) as f64)
}

fn digest(fields: &Map<String, Value>) -> Digest {
    Digest::of(canonical_json(&Value::Object(fields.clone())).as_bytes())
}

/// Returns the side of the split on which a row with these fields is, by the hash of its content. Equal rows are on the
/// same side, and adding or reordering rows moves no other row to the other side.
pub fn side(fields: &Map<String, Value>, fractions: Fractions) -> Split {
    if fractions.eval + fractions.dev <= 0.0 {
        return Split::Train;
    }
    fractions.side(fraction(digest(fields).as_str()).expect("a digest is hexadecimal"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::recipe::spec::{DataFormat, Selection, Templates};

    fn load(name: &str, text: &str, split: Split, eval_fraction: f64) -> Result<Vec<Row>, DataError> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(name);
        fs_err::write(&path, text).unwrap();
        let digest = Digest::of(text.as_bytes());
        let format = if path.extension().is_some_and(|e| e == "txt") { DataFormat::Text } else { DataFormat::Jsonl };
        let spec = DataSpec {
            files: vec![DataFile::File { digest: digest.clone(), format }],
            eval_fraction,
            dev_fraction: 0.0,
            split,
            max_rows: None,
            messages: None,
            templates: Templates::default(),
            selection: Selection::default(),
            decontaminate: None,
        };
        load_rows(&spec, &BTreeMap::from([(digest, path)]))
    }

    fn numbered(count: usize) -> Vec<String> {
        (0..count).map(|i| format!("{{\"question\": {i}}}")).collect()
    }

    #[test]
    fn every_row_is_on_one_side_and_stays_there_when_others_come_and_go() {
        let all = numbered(400);
        let side = |rows: &[String], split| -> Vec<Value> {
            let rows = load("a.jsonl", &rows.join("\n"), split, 0.25).unwrap();
            rows.into_iter().map(|row| row.fields["question"].clone()).collect()
        };
        let (train, eval) = (side(&all, Split::Train), side(&all, Split::Eval));
        assert_eq!(train.len() + eval.len(), 400);
        assert!((70..130).contains(&eval.len()), "{} of 400 held out at 0.25", eval.len());
        let mut half: Vec<String> = all.iter().step_by(2).cloned().collect();
        half.reverse();
        assert!(side(&half, Split::Eval).iter().all(|row| eval.contains(row)));
    }

    #[test]
    fn a_file_of_several_blocks_has_all_its_lines() {
        let long: Vec<String> =
            (0..300).map(|i| format!("{{\"question\": {i}, \"text\": \"{}\"}}", "ä".repeat(20_000))).collect();
        let text = format!("\u{feff}{}\r\n\n{}", long[..150].join("\n"), long[150..].join("\r\n"));
        let rows = load("a.jsonl", &text, Split::All, 0.0).unwrap();
        let questions: Vec<u64> = rows.iter().map(|row| row.fields["question"].as_u64().unwrap()).collect();
        assert_eq!(questions, (0..300).collect::<Vec<u64>>());
        assert!(rows[0].location.ends_with("a.jsonl:1") && rows[299].location.ends_with("a.jsonl:301"));
    }

    #[test]
    fn a_line_that_is_no_object_is_named_by_file_and_line() {
        let error = load("a.jsonl", "{\"a\": 1}\n\n{\"a\": \n", Split::All, 0.0).unwrap_err();
        assert!(error.message.contains("a.jsonl:3: the line is not JSON"), "{error}");
        let error = load("a.jsonl", "[1]\n", Split::All, 0.0).unwrap_err();
        assert!(error.message.contains("a.jsonl:1: the line is JSON, but not an object"), "{error}");
    }

    #[test]
    fn a_data_set_or_side_without_rows_is_an_error() {
        assert!(load("a.jsonl", "\n", Split::All, 0.0).unwrap_err().message.contains("a.jsonl` has no rows"));
        let error = load("a.jsonl", &numbered(5).join("\n"), Split::Eval, 0.0).unwrap_err();
        assert!(error.message.contains("none of the 5 rows"), "{error}");
        assert!(error.message.contains("eval side"), "{error}");
    }

    #[test]
    fn a_text_is_cut_at_blank_lines() {
        let rows = load("a.txt", "one\ntwo\n\n\n  \nthree\n", Split::All, 0.0).unwrap();
        let texts: Vec<&str> = rows.iter().map(|row| row.fields["text"].as_str().unwrap()).collect();
        assert_eq!(texts, ["one\ntwo", "three"]);
        assert!(rows[1].location.ends_with("a.txt:6"), "{}", rows[1].location);
    }
}
