//! The rows of a data set, and the side of the split that each is on.

use super::parquet_file::read_parquet;
use crate::error::{StageError, StageResult};
use orchestrate_core::digest::{Digest, canonical_json};
use orchestrate_core::recipe::spec::{DataFormat, DataSpec, Split};
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
}

/// Loads the rows on the side of the split that `spec` selects, at most `max_rows` of them.
///
/// # Errors
/// Returns an error for a file that cannot be read, for a line that is not a JSON object, and for a data set or side
/// without rows.
pub fn load_rows(spec: &DataSpec, inputs: &BTreeMap<Digest, PathBuf>) -> StageResult<Vec<Row>> {
    let mut rows = Vec::new();
    let mut paths = Vec::new();
    for file in &spec.files {
        let path = inputs.get(&file.digest).ok_or_else(|| {
            StageError::input(format!("the assignment names no path for data file {}", file.digest.short()))
        })?;
        let text = || {
            let text = fs_err::read_to_string(path).map_err(|e| StageError::io(path, &e))?;
            Ok::<_, StageError>(text.strip_prefix('\u{feff}').map(str::to_owned).unwrap_or(text)) // a byte order mark
        };
        match file.format {
            DataFormat::Jsonl => read_jsonl(path, &text()?, &mut rows)?,
            DataFormat::Text => read_paragraphs(path, &text()?, &mut rows),
            DataFormat::Parquet => read_parquet(path, &mut rows)?,
        }
        paths.push(format!("`{}`", path.display()));
    }
    let total = rows.len();
    if total == 0 {
        return Err(StageError::input(format!("the data set {} has no rows", paths.join(", "))));
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
            paths.join(", ")
        ))
        .hinted(format!("`eval_fraction` is {}; change it or add rows", spec.eval_fraction)));
    }
    rows.truncate(spec.max_rows.unwrap_or(usize::MAX));
    Ok(rows)
}

impl Row {
    /// Returns the digest of the row's content, which does not depend on its position.
    pub fn digest(&self) -> Digest {
        Digest::of(canonical_json(&Value::Object(self.fields.clone())).as_bytes())
    }
}

/// Returns whether a row is held out, by the hash of its content. Equal rows are on the same side, and adding or
/// reordering rows moves no other row to the other side.
fn is_held_out(row: &Row, eval_fraction: f64) -> bool {
    let leading = u64::from_str_radix(&row.digest().as_str()[..13], 16).expect("a digest is hexadecimal"); // 52 bits
    (leading as f64 / (1u64 << 52) as f64) < eval_fraction
}

fn read_jsonl(path: &Path, text: &str, rows: &mut Vec<Row>) -> StageResult<()> {
    for (number, line) in (1..).zip(text.lines()) {
        if line.trim().is_empty() {
            continue;
        }
        let location = format!("{}:{number}", path.display());
        match serde_json::from_str(line) {
            Ok(Value::Object(fields)) => rows.push(Row { index: rows.len(), location, fields }),
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
                rows.push(Row { index: rows.len(), location: format!("{}:{first_line}", path.display()), fields });
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
    use orchestrate_core::recipe::spec::{DataFile, Templates};

    fn load(name: &str, text: &str, split: Split, eval_fraction: f64) -> StageResult<Vec<Row>> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(name);
        fs_err::write(&path, text).unwrap();
        let digest = Digest::of(text.as_bytes());
        let format = if path.extension().is_some_and(|e| e == "txt") { DataFormat::Text } else { DataFormat::Jsonl };
        let spec = DataSpec {
            files: vec![DataFile { digest: digest.clone(), format }],
            eval_fraction,
            split,
            max_rows: None,
            messages: None,
            templates: Templates::default(),
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
