//! The rows of a data set, and the side of the split that each is on.

use super::parquet_file::read_parquet;
use super::selection::{QUESTION_ID, select};
use crate::error::{StageError, StageResult};
use orchestrate_core::digest::{Digest, canonical_json};
use orchestrate_core::recipe::spec::{DataFile, DataFormat, DataSpec, Split};
use serde_json::{Map, Value};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

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
    /// Name of the field that holds the answer of a stage, which is not part of the row's content.
    pub joined: Option<String>,
    /// The row's own value in that field.
    pub own: Option<Value>,
}

/// Loads the rows on the side of the split that `spec` selects, as far as its selection keeps them, at most `max_rows`
/// of them.
///
/// # Errors
/// Returns an error for a file that cannot be read, for a line that is not a JSON object, and for a data set, side or
/// selection without rows.
pub fn load_rows(spec: &DataSpec, inputs: &BTreeMap<Digest, PathBuf>) -> StageResult<Vec<Row>> {
    let mut rows = read_rows(&spec.files, inputs)?;
    let paths = || -> String {
        let shown = |file: &DataFile| Some(format!("`{}`", inputs.get(&file.id())?.display()));
        spec.files.iter().filter_map(shown).collect::<Vec<_>>().join(", ")
    };
    let total = rows.len();
    if total == 0 {
        return Err(StageError::input(format!("the data set {} has no rows", paths())));
    }
    rows.retain(|row| match spec.split {
        Split::All => true,
        Split::Train => !is_held_out(row, spec.eval_fraction),
        Split::Eval => is_held_out(row, spec.eval_fraction),
    });
    if rows.is_empty() {
        let side = if spec.split == Split::Train { "train" } else { "eval" };
        return Err(StageError::input(format!(
            "none of the {total} rows of {} is on the {side} side of the split",
            paths()
        ))
        .hinted(format!("`eval_fraction` is {}; change it or add rows", spec.eval_fraction)));
    }
    let mut rows = select(spec, inputs, rows)?;
    if rows.is_empty() {
        let message = format!("all rows of {} answer questions that the recipe measures", paths());
        return Err(
            StageError::input(message).hinted("generate answers to rows that are trained on: `split = \"train\"`")
        );
    }
    rows.truncate(spec.max_rows.unwrap_or(usize::MAX));
    Ok(rows)
}

/// Reads every row of `files`.
pub(super) fn read_rows(files: &[DataFile], inputs: &BTreeMap<Digest, PathBuf>) -> StageResult<Vec<Row>> {
    let mut rows = Vec::new();
    for file in files {
        let id = file.id();
        let path = inputs
            .get(&id)
            .ok_or_else(|| StageError::input(format!("the assignment names no path for data file {}", id.short())))?;
        let earlier = rows.len();
        let text = || {
            let text = fs_err::read_to_string(path).map_err(|e| StageError::io(path, &e))?;
            Ok::<_, StageError>(text.strip_prefix('\u{feff}').map(str::to_owned).unwrap_or(text)) // a byte order mark
        };
        match file.format() {
            DataFormat::Jsonl => read_jsonl(path, &text()?, &mut rows)?,
            DataFormat::Text => read_paragraphs(path, &text()?, &mut rows),
            DataFormat::Parquet => read_parquet(path, &mut rows)?,
        }
        let is_generated = matches!(file, DataFile::Result { .. });
        rows[earlier..].iter_mut().for_each(|row| row.is_generated = is_generated);
    }
    Ok(rows)
}

/// Number of digits of a row's digest in its identifier, which are 64 bits. In a data set of a million rows, two rows
/// share them with a chance of 1 in 37 million.
const ID_DIGITS: usize = 16;

impl Row {
    /// Creates the row at the position `index`.
    pub(super) fn new(index: usize, location: String, fields: Map<String, Value>) -> Self {
        Self { index, location, fields, is_generated: false, joined: None, own: None }
    }

    /// Returns the digest of the row's content, which does not depend on its position.
    pub fn digest(&self) -> Digest {
        let mut fields = self.fields.clone();
        if let Some(joined) = &self.joined {
            match &self.own {
                Some(own) => fields.insert(joined.clone(), own.clone()),
                None => fields.remove(joined),
            };
        }
        Digest::of(canonical_json(&Value::Object(fields)).as_bytes())
    }

    /// Returns the identifier of the row, which equal rows share.
    pub fn id(&self) -> String {
        self.digest().as_str()[..ID_DIGITS].to_owned()
    }
}

/// Returns whether a row is held out, by the hash of its content. Equal rows are on the same side, and adding or
/// reordering rows moves no other row to the other side. An answer that a stage generated is on the side of its
/// question.
pub(super) fn is_held_out(row: &Row, eval_fraction: f64) -> bool {
    let leading = |digits: &str| u64::from_str_radix(digits.get(..13)?, 16).ok(); // 52 bits
    let question = row.fields.get(QUESTION_ID).and_then(Value::as_str).filter(|_| row.is_generated).and_then(leading);
    let leading = question.unwrap_or_else(|| leading(row.digest().as_str()).expect("a digest is hexadecimal"));
    (leading as f64 / (1u64 << 52) as f64) < eval_fraction
}

fn read_jsonl(path: &Path, text: &str, rows: &mut Vec<Row>) -> StageResult<()> {
    for (number, line) in (1..).zip(text.lines()) {
        if line.trim().is_empty() {
            continue;
        }
        let location = format!("{}:{number}", path.display());
        match serde_json::from_str(line) {
            Ok(Value::Object(fields)) => rows.push(Row::new(rows.len(), location, fields)),
            Ok(_) => return Err(StageError::input(format!("{location}: the line is JSON, but not an object"))),
            Err(e) => return Err(StageError::input(format!("{location}: the line is not JSON: {e}"))),
        }
    }
    Ok(())
}

fn read_paragraphs(path: &Path, text: &str, rows: &mut Vec<Row>) {
    let mut paragraph = String::new();
    let mut first_line = 1;
    for (number, line) in (1..).zip(text.lines().chain([""])) {
        if line.trim().is_empty() {
            if !paragraph.is_empty() {
                let fields = Map::from_iter([("text".to_owned(), Value::from(std::mem::take(&mut paragraph)))]);
                rows.push(Row::new(rows.len(), format!("{}:{first_line}", path.display()), fields));
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
}

#[cfg(test)]
mod tests {
    use super::*;
    use orchestrate_core::recipe::spec::{Selection, Templates};

    fn load(name: &str, text: &str, split: Split, eval_fraction: f64) -> StageResult<Vec<Row>> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(name);
        fs_err::write(&path, text).unwrap();
        let digest = Digest::of(text.as_bytes());
        let format = if path.extension().is_some_and(|e| e == "txt") { DataFormat::Text } else { DataFormat::Jsonl };
        let spec = DataSpec {
            files: vec![DataFile::File { digest: digest.clone(), format }],
            eval_fraction,
            split,
            max_rows: None,
            messages: None,
            templates: Templates::default(),
            selection: Selection::default(),
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
