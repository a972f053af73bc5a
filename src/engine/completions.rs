//! A stage's completions as Parquet, for data frames and SQL engines. Each completion is a row with flat columns.
//!
//! | column | type |
//! | --- | --- |
//! | `step`, `row`, `index`, `tokens` | integer |
//! | `prompt`, `completion`, `stop_reason` | text |
//! | `player` | text; in arenas only |
//! | `reference`, `answer` | text or null |
//! | `reward`, `advantage` | number or null |
//! | `reward/NAME` | the component's value without its weight; null when it is missing |
//! | `weight/NAME` | the component's weight; 0 if it is held out |
//! | `missing/NAME` | the reason why the value is missing; null when it is not |
//!
//! An `eval` stage has more columns. `data_set`, `question_id` and `index` pair its answers with those of another
//! evaluation:
//!
//! | column | type |
//! | --- | --- |
//! | `question_id` | text: derived from the row's content; the same in every run and unique in its data set |
//! | `data_set` | text: the data set's name in the recipe |
//! | `out_of_domain` | boolean: whether the recipe marks the data set as out of domain |
//! | `words` | integer: number of words of the completion |
//! | `loglikelihood_correct` | boolean or null: whether the right option is the likeliest; null without options |
//! | `loglikelihood_correct_norm` | boolean or null: whether the right option is the likeliest per byte |
//! | `slice/BY` | text: the value of the expression `BY` of the data set's `by` |
//!
//! In these rows, `index` counts the samples of a question from 0, and the accuracy is the mean of
//! `reward/correctness`. The columns of the options are equal in all samples of a question.
//!
//! The bytes of the file depend only on the completions.

use crate::error::{StageError, StageResult};
use orchestrate_core::event::{Choice, Completion, ComponentScore, FailureClass};
use orchestrate_core::workspace::WorkspaceError;
use parquet::basic::{Compression, ConvertedType, LogicalType, Repetition, Type as Physical, ZstdLevel};
use parquet::data_type::{BoolType, ByteArray, ByteArrayType, DoubleType, Int64Type};
use parquet::errors::{ParquetError, Result};
use parquet::file::properties::WriterProperties;
use parquet::file::writer::{SerializedColumnWriter, SerializedFileWriter};
use parquet::schema::types::{Type, TypePtr};
use std::path::Path;
use std::sync::Arc;

/// Maximum number of completions in a row group, which is held in memory.
const GROUP_ROWS: usize = 8192;
/// Approximate maximum size of a row group's text, in bytes.
const GROUP_BYTES: usize = 32 << 20;
/// Compression level, which is zstd's own default.
const ZSTD_LEVEL: i32 = 3;

/// The kind of stage that completions are from, which determines their columns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// Training stages, without extra columns.
    Training,
    /// Evaluations, with the columns that pair their answers.
    Eval,
    /// Arenas, with the player that wrote each completion.
    Arena,
}

impl Origin {
    /// Returns the origin of `completion`, which all completions of its stage share.
    pub fn of(completion: &Completion) -> Self {
        match completion {
            Completion { eval: Some(_), .. } => Self::Eval,
            Completion { player: Some(_), .. } => Self::Arena,
            _ => Self::Training,
        }
    }
}

/// Writes `completions` into the file `path`, with the columns of their `origin`. `components` are the components of
/// their reward mix.
///
/// # Errors
/// Returns an error for a completion that cannot be read and for a file that cannot be written.
pub fn write_completions(
    path: &Path,
    components: &[String],
    origin: Origin,
    completions: impl Iterator<Item = std::result::Result<Completion, WorkspaceError>>,
) -> StageResult<()> {
    let mut columns = columns(components, origin == Origin::Arena);
    let mut completions = completions.peekable();
    if origin == Origin::Eval {
        columns.extend(eval_columns());
        let first = completions.peek().and_then(|first| first.as_ref().ok()).and_then(|first| first.eval.as_ref());
        columns.extend(first.into_iter().flat_map(|eval| eval.slices.keys()).map(|by| slice_column(by)));
    }
    let failed = |error: ParquetError| StageError {
        class: FailureClass::Io,
        message: format!("`{}`: {error}", path.display()),
        hint: None,
    };
    let compression = Compression::ZSTD(ZstdLevel::try_new(ZSTD_LEVEL).expect("a level that zstd has"));
    let properties = WriterProperties::builder().set_compression(compression).build();
    let file = fs_err::File::create(path)?.into_parts().0;
    let mut writer = SerializedFileWriter::new(file, schema(&columns), Arc::new(properties)).map_err(failed)?;
    let mut group = Vec::new();
    let mut bytes = 0;
    for completion in completions {
        let completion = completion.map_err(|error| StageError {
            class: FailureClass::Io,
            message: error.to_string(),
            hint: error.hint(),
        })?;
        bytes += completion.prompt.len()
            + completion.completion.len()
            + completion.reference.as_ref().map_or(0, String::len);
        group.push(completion);
        if group.len() == GROUP_ROWS || bytes >= GROUP_BYTES {
            write_group(&mut writer, &columns, &group).map_err(failed)?;
            group.clear();
            bytes = 0;
        }
    }
    if !group.is_empty() {
        write_group(&mut writer, &columns, &group).map_err(failed)?;
    }
    writer.close().map_err(failed)?;
    Ok(())
}

struct Column {
    name: String,
    values: Values,
}

type TextOf = Box<dyn Fn(&Completion) -> Option<&str>>;
type NumberOf = Box<dyn Fn(&Completion) -> Option<f64>>;

/// The value of a column, computed from a completion.
enum Values {
    Integer(fn(&Completion) -> u64),
    Text(fn(&Completion) -> &str),
    OptionalText(TextOf),
    OptionalNumber(NumberOf),
    Boolean(fn(&Completion) -> bool),
    OptionalBoolean(fn(&Completion) -> Option<bool>),
}

fn columns(components: &[String], players: bool) -> Vec<Column> {
    let mut columns = vec![
        Column::new("step", Values::Integer(|c| c.step)),
        Column::new("row", Values::Integer(|c| c.row as u64)),
        Column::new("index", Values::Integer(|c| c.index as u64)),
        Column::new("prompt", Values::Text(|c| &c.prompt)),
        Column::new("completion", Values::Text(|c| &c.completion)),
        Column::new("reference", Values::OptionalText(Box::new(|c| c.reference.as_deref()))),
        Column::new("answer", Values::OptionalText(Box::new(|c| c.answer.as_deref()))),
        Column::new("tokens", Values::Integer(|c| c.tokens as u64)),
        Column::new("stop_reason", Values::Text(|c| c.stop_reason.word())),
        Column::new("reward", Values::OptionalNumber(Box::new(|c| c.reward))),
        Column::new("advantage", Values::OptionalNumber(Box::new(|c| c.advantage))),
    ];
    if players {
        columns.push(Column::new("player", Values::OptionalText(Box::new(|c| c.player.as_deref()))));
    }
    for name in components {
        // names contain no `/`, so these columns cannot collide with others
        let number = |what: fn(&ComponentScore) -> Option<f64>| {
            let name = name.clone();
            Values::OptionalNumber(Box::new(move |c| c.parts.get(&name).and_then(what)))
        };
        let missing = {
            let name = name.clone();
            Values::OptionalText(Box::new(move |c| c.parts.get(&name)?.missing.as_deref()))
        };
        columns.push(Column::new(&format!("reward/{name}"), number(|part| part.value)));
        columns.push(Column::new(&format!("weight/{name}"), number(|part| Some(part.weight))));
        columns.push(Column::new(&format!("missing/{name}"), missing));
    }
    columns
}

/// Returns the additional columns of an evaluation's completions.
fn eval_columns() -> [Column; 6] {
    [
        Column::new("question_id", Values::OptionalText(Box::new(|c| Some(&c.eval.as_ref()?.question_id)))),
        Column::new("data_set", Values::OptionalText(Box::new(|c| Some(&c.eval.as_ref()?.data_set)))),
        Column::new("out_of_domain", Values::Boolean(|c| c.eval.as_ref().is_some_and(|eval| eval.out_of_domain))),
        Column::new("words", Values::Integer(|c| c.eval.as_ref().map_or(0, |eval| eval.words as u64))),
        Column::new("loglikelihood_correct", Values::OptionalBoolean(|c| Some(choice(c)?.correct))),
        Column::new("loglikelihood_correct_norm", Values::OptionalBoolean(|c| Some(choice(c)?.correct_norm))),
    ]
}

/// Returns the column of the values of the expression `by`.
fn slice_column(by: &str) -> Column {
    let name = by.to_owned();
    let value: TextOf = Box::new(move |c| c.eval.as_ref()?.slices.get(&name).map(String::as_str));
    Column::new(&format!("slice/{by}"), Values::OptionalText(value))
}

/// Returns the likelihoods of the options of the question that `completion` answers.
fn choice(completion: &Completion) -> Option<&Choice> {
    completion.eval.as_ref()?.choice.as_ref()
}

fn schema(columns: &[Column]) -> TypePtr {
    let fields = columns.iter().map(|column| Arc::new(column.field())).collect();
    let schema = Type::group_type_builder("completions").with_fields(fields).build();
    Arc::new(schema.expect("flat columns make a schema"))
}

fn write_group(
    writer: &mut SerializedFileWriter<std::fs::File>,
    columns: &[Column],
    group: &[Completion],
) -> Result<()> {
    let mut rows = writer.next_row_group()?;
    for column in columns {
        let mut open = rows.next_column()?.expect("the schema has a field a column");
        column.write(&mut open, group)?;
        open.close()?;
    }
    rows.close()?;
    Ok(())
}

impl Column {
    fn new(name: &str, values: Values) -> Self {
        Self { name: name.to_owned(), values }
    }

    fn field(&self) -> Type {
        let (physical, repetition) = match self.values {
            Values::Integer(_) => (Physical::INT64, Repetition::REQUIRED),
            Values::Text(_) => (Physical::BYTE_ARRAY, Repetition::REQUIRED),
            Values::OptionalText(_) => (Physical::BYTE_ARRAY, Repetition::OPTIONAL),
            Values::OptionalNumber(_) => (Physical::DOUBLE, Repetition::OPTIONAL),
            Values::Boolean(_) => (Physical::BOOLEAN, Repetition::REQUIRED),
            Values::OptionalBoolean(_) => (Physical::BOOLEAN, Repetition::OPTIONAL),
        };
        let mut field = Type::primitive_type_builder(&self.name, physical).with_repetition(repetition);
        if physical == Physical::BYTE_ARRAY {
            field = field.with_logical_type(Some(LogicalType::String)).with_converted_type(ConvertedType::UTF8);
        }
        field.build().expect("a column's type is one that Parquet has")
    }

    fn write(&self, writer: &mut SerializedColumnWriter<'_>, group: &[Completion]) -> Result<()> {
        let written = match &self.values {
            Values::Integer(value) => {
                let values: Vec<i64> =
                    group.iter().map(|completion| i64::try_from(value(completion)).unwrap_or(i64::MAX)).collect();
                writer.typed::<Int64Type>().write_batch(&values, None, None)
            }
            Values::Text(value) => {
                let values: Vec<ByteArray> = group.iter().map(|completion| value(completion).into()).collect();
                writer.typed::<ByteArrayType>().write_batch(&values, None, None)
            }
            Values::OptionalText(value) => {
                let values: Vec<Option<&str>> = group.iter().map(value).collect();
                let present: Vec<ByteArray> = values.iter().copied().flatten().map(ByteArray::from).collect();
                writer.typed::<ByteArrayType>().write_batch(&present, Some(&levels(&values)), None)
            }
            Values::OptionalNumber(value) => {
                let values: Vec<Option<f64>> = group.iter().map(value).collect();
                let present: Vec<f64> = values.iter().copied().flatten().collect();
                writer.typed::<DoubleType>().write_batch(&present, Some(&levels(&values)), None)
            }
            Values::Boolean(value) => {
                let values: Vec<bool> = group.iter().map(value).collect();
                writer.typed::<BoolType>().write_batch(&values, None, None)
            }
            Values::OptionalBoolean(value) => {
                let values: Vec<Option<bool>> = group.iter().map(value).collect();
                let present: Vec<bool> = values.iter().copied().flatten().collect();
                writer.typed::<BoolType>().write_batch(&present, Some(&levels(&values)), None)
            }
        };
        written.map(|_| ())
    }
}

/// Returns Parquet's definition levels: 1 for a value, 0 for null.
fn levels<T>(values: &[Option<T>]) -> Vec<i16> {
    values.iter().map(|value| i16::from(value.is_some())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use orchestrate_core::event::{EvalRecord, StopReason};
    use parquet::file::reader::{FileReader as _, SerializedFileReader};
    use serde_json::{Value, json};
    use std::collections::BTreeMap;

    fn completion(step: u64, rouge: Option<f64>) -> Completion {
        let missing = rouge.is_none().then(|| "the row has no reference".to_owned());
        Completion {
            step,
            row: 4,
            index: 1,
            prompt: "Which organ?".to_owned(),
            completion: format!("der Körper {step}"),
            reference: rouge.map(|_| "the heart".to_owned()),
            answer: None,
            tokens: 7,
            stop_reason: StopReason::Length,
            player: None,
            reward: rouge,
            advantage: rouge.map(|value| value - 0.5),
            parts: BTreeMap::from([("rouge".to_owned(), ComponentScore { value: rouge, weight: 2.0, missing })]),
            eval: None,
        }
    }

    fn written(completions: &[Completion]) -> (tempfile::TempDir, Vec<u8>) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("completions.parquet");
        let origin = Origin::of(&completions[0]);
        write_completions(&path, &["rouge".to_owned()], origin, completions.iter().cloned().map(Ok)).unwrap();
        let bytes = fs_err::read(&path).unwrap();
        (dir, bytes)
    }

    fn reader(dir: &tempfile::TempDir) -> SerializedFileReader<std::fs::File> {
        SerializedFileReader::new(std::fs::File::open(dir.path().join("completions.parquet")).unwrap()).unwrap()
    }

    #[test]
    fn every_completion_is_a_row_of_flat_columns() {
        let (dir, _) = written(&[completion(1, Some(0.25)), completion(2, None)]);
        let rows: Vec<Value> =
            reader(&dir).get_row_iter(None).unwrap().map(|row| row.unwrap().to_json_value()).collect();
        let expected = [
            json!({
                "step": 1, "row": 4, "index": 1, "prompt": "Which organ?", "completion": "der Körper 1",
                "reference": "the heart", "answer": null, "tokens": 7, "stop_reason": "length", "reward": 0.25,
                "advantage": -0.25, "reward/rouge": 0.25, "weight/rouge": 2.0, "missing/rouge": null,
            }),
            json!({
                "step": 2, "row": 4, "index": 1, "prompt": "Which organ?", "completion": "der Körper 2",
                "reference": null, "answer": null, "tokens": 7, "stop_reason": "length", "reward": null,
                "advantage": null, "reward/rouge": null, "weight/rouge": 2.0, "missing/rouge": "the row has no reference",
            }),
        ];
        assert_eq!(rows, expected);
    }

    #[test]
    fn those_of_an_evaluation_say_what_they_are_paired_by() {
        let of_eval = |id: &str, choice: Option<Choice>| {
            let (question_id, data_set) = (id.to_owned(), "organs".to_owned());
            let slices = BTreeMap::from([("organ".to_owned(), format!("of {id}"))]);
            let eval = EvalRecord { question_id, data_set, out_of_domain: true, words: 3, vote: None, choice, slices };
            Completion { eval: Some(eval), ..completion(1, Some(0.25)) }
        };
        let choice = Choice { loglikelihoods: vec![-1.0, -2.0], correct: true, correct_norm: false };
        let (dir, _) = written(&[of_eval("0a", None), of_eval("0b", Some(choice))]);
        let rows: Vec<Value> =
            reader(&dir).get_row_iter(None).unwrap().map(|row| row.unwrap().to_json_value()).collect();
        let names = [
            "question_id",
            "data_set",
            "out_of_domain",
            "words",
            "loglikelihood_correct",
            "loglikelihood_correct_norm",
            "slice/organ",
        ];
        let found: Vec<Vec<&Value>> = rows.iter().map(|row| names.map(|name| &row[name]).to_vec()).collect();
        let expected = [
            [json!("0a"), json!("organs"), json!(true), json!(3), json!(null), json!(null), json!("of 0a")],
            [json!("0b"), json!("organs"), json!(true), json!(3), json!(true), json!(false), json!("of 0b")],
        ];
        assert_eq!(found, expected.each_ref().map(|row| row.iter().collect::<Vec<_>>()));
        let (dir, _) = written(&[completion(1, None)]);
        let row = reader(&dir).get_row_iter(None).unwrap().next().unwrap().unwrap().to_json_value();
        assert!(names.iter().all(|name| row.get(name).is_none()), "{row}");
    }

    #[test]
    fn of_an_arena_who_wrote_a_completion_is_reported() {
        let by = |player: &str| Completion { player: Some(player.to_owned()), ..completion(1, None) };
        let (dir, _) = written(&[by("sft"), by("base")]);
        let players: Vec<Value> = reader(&dir)
            .get_row_iter(None)
            .unwrap()
            .map(|row| row.unwrap().to_json_value()["player"].clone())
            .collect();
        assert_eq!(players, [json!("sft"), json!("base")]);
    }

    #[test]
    fn the_same_completions_make_the_same_bytes_in_bounded_row_groups() {
        let completions: Vec<Completion> = (1..=20_000).map(|step| completion(step, Some(step as f64 / 3.0))).collect();
        let (dir, bytes) = written(&completions);
        assert_eq!(bytes, written(&completions).1);
        let metadata = reader(&dir).metadata().clone();
        let rows: Vec<i64> =
            metadata.row_groups().iter().map(parquet::file::metadata::RowGroupMetaData::num_rows).collect();
        assert_eq!(rows, [8192, 8192, 3616]);
        let last = reader(&dir).get_row_iter(None).unwrap().last().unwrap().unwrap().to_json_value();
        assert_eq!((&last["step"], &last["reward"]), (&json!(20_000), &json!(20_000.0 / 3.0)));
    }

    #[test]
    fn long_texts_close_a_row_group_early() {
        let long = Completion { prompt: "x".repeat(GROUP_BYTES / 2), ..completion(1, None) };
        let (dir, _) = written(&[long.clone(), long.clone(), long]);
        assert_eq!(reader(&dir).metadata().num_row_groups(), 2);
    }
}
