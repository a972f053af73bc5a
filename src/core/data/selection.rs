//! The rows that a data set takes beyond its split: answers of a stage joined to them, a condition, the best answers to
//! a question, and the exclusion of answers to questions that are measured.

use super::error::DataError;
use super::rows::{Row, read_rows};
use crate::digest::Digest;
use crate::recipe::spec::{DataFile, DataSpec, HeldOut, Join, Keep, Selection, Split};
use minijinja::Environment;
use minijinja::value::Serde;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

/// The limit of steps of an expression, so that its evaluation always ends.
const FUEL: u64 = 1_000_000;

/// The path of each file, by its id.
type Inputs = BTreeMap<Digest, PathBuf>;

/// The field with the identifier of the question to which a row of a stage's result is an answer.
pub const QUESTION_ID: &str = "question_id";
/// The field that marks an answer to a question that its data set holds out.
pub const HELD_OUT: &str = "held_out";
/// The field with the position of an answer among those to its question.
pub const INDEX: &str = "index";
/// The field with the reward of an answer.
pub const REWARD: &str = "reward";

/// Applies the selection of `spec` to the `rows` of its split.
pub(super) fn select(spec: &DataSpec, inputs: &Inputs, rows: Vec<Row>) -> Result<Vec<Row>, DataError> {
    let Selection { join, only, keep, held_out } = &spec.selection;
    let mut rows = rows;
    if spec.split == Split::Train {
        let measured = measured(held_out, inputs)?;
        rows.retain(|row| !answers_held_out(row, &measured));
    }
    if let Some(join) = join {
        join_answers(&mut rows, join, inputs)?;
    }
    if let Some(only) = only {
        rows = only_where(rows, only)?;
    }
    if let Some(keep) = keep {
        rows = kept(rows, *keep)?;
    }
    Ok(rows)
}

/// Returns the number of rows of `spec` that are left out because they answer a question that is measured.
///
/// # Errors
/// Returns an error for a file that cannot be read.
pub fn left_out(spec: &DataSpec, inputs: &Inputs) -> Result<usize, DataError> {
    let is_generated = |file: &DataFile| matches!(file, DataFile::Result { .. });
    if spec.split != Split::Train || !spec.files.iter().any(is_generated) {
        return Ok(0);
    }
    let measured = measured(&spec.selection.held_out, inputs)?;
    Ok(read_rows(&spec.files, inputs)?.iter().filter(|row| answers_held_out(row, &measured)).count())
}

/// Returns the digits that identify the question of a row that a stage generated.
fn question(row: &Row) -> Option<&str> {
    let id = row.fields.get(QUESTION_ID)?.as_str()?;
    Some(id.split('-').next().unwrap_or(id)) // what follows counts equal rows
}

/// Whether `row` is an answer to a question that its own data set holds out, or that is among `measured`.
fn answers_held_out(row: &Row, measured: &BTreeSet<String>) -> bool {
    row.is_generated
        && (row.fields.get(HELD_OUT) == Some(&Value::Bool(true))
            || question(row).is_some_and(|question| measured.contains(question)))
}

/// Returns the identifiers of the questions in `held_out`.
fn measured(held_out: &[HeldOut], inputs: &Inputs) -> Result<BTreeSet<String>, DataError> {
    let mut found = BTreeSet::new();
    for set in held_out {
        let is_measured = |row: &&Row| row.is_on(set.split, set.fractions());
        found.extend(read_rows(&set.files, inputs)?.iter().filter(is_measured).map(Row::id));
    }
    Ok(found)
}

/// Gives each row the field of `join`: a value of the first answer to it, or null.
fn join_answers(rows: &mut [Row], join: &Join, inputs: &Inputs) -> Result<(), DataError> {
    let mut answers: BTreeMap<String, (u64, Value)> = BTreeMap::new();
    for row in read_rows(std::slice::from_ref(&join.from), inputs)? {
        let Some(question) = question(&row) else {
            return Err(DataError::content(format!("{}: the row has no `{QUESTION_ID}`", row.location))
                .hinted("`join` reads the answers of a stage of the kind `generate` or `eval`"));
        };
        let Some(value) = row.fields.get(&join.column) else {
            let fields: Vec<&str> = row.fields.keys().map(String::as_str).collect();
            return Err(DataError::content(format!("{}: the row has no field `{}`", row.location, join.column))
                .hinted(format!("`join.column` is one of {}", fields.join(", "))));
        };
        let index = row.fields.get(INDEX).and_then(Value::as_u64).unwrap_or(0);
        let answer = answers.entry(question.to_owned()).or_insert_with(|| (index, value.clone()));
        if index < answer.0 {
            *answer = (index, value.clone());
        }
    }
    if !rows.iter().any(|row| answers.contains_key(&row.id())) {
        let message = "none of the rows has an answer in the stage that `join` names".to_owned();
        return Err(DataError::content(message)
            .hinted("rows and answers are matched by the rows' content: both stages must read the same files"));
    }
    for row in rows {
        let value = answers.get(&row.id()).map_or(Value::Null, |(_, value)| value.clone());
        row.joined = Some(join.field.clone());
        row.own = row.fields.insert(join.field.clone(), value);
    }
    Ok(())
}

/// Keeps the rows for which the expression `only` is true. A field that a row lacks is an error.
fn only_where(rows: Vec<Row>, only: &str) -> Result<Vec<Row>, DataError> {
    let mut environment = Environment::new();
    environment.set_undefined_behavior(minijinja::UndefinedBehavior::Strict);
    environment.set_fuel(Some(FUEL));
    let expression = environment
        .compile_expression(only)
        .map_err(|error| DataError::content(format!("`where` is not an expression: {error}")))?;
    let total = rows.len();
    let mut kept = Vec::new();
    for row in rows {
        let value = expression.eval(minijinja::Value::from(Serde(&row.fields))).map_err(|error| {
            let fields: Vec<&str> = row.fields.keys().map(String::as_str).collect();
            DataError::content(format!("{}: `where` cannot be computed: {error}", row.location))
                .hinted(format!("the row has the fields {}", fields.join(", ")))
        })?;
        if value.is_true() {
            kept.push(row);
        }
    }
    if kept.is_empty() {
        return Err(DataError::content(format!("`where = \"{only}\"` is true for none of {total} rows")));
    }
    Ok(kept)
}

/// Keeps some answers to each question, in the order of the rows. An answer without a reward is never among the best.
fn kept(rows: Vec<Row>, keep: Keep) -> Result<Vec<Row>, DataError> {
    let mut by_question: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
    for (at, row) in rows.iter().enumerate() {
        let Some(question) = question(row) else {
            return Err(DataError::content(format!("{}: the row has no `{QUESTION_ID}`", row.location))
                .hinted("`keep` chooses among the answers of a stage of the kind `generate` or `eval`"));
        };
        by_question.entry(question).or_default().push(at);
    }
    let reward = |at: usize| rows[at].fields.get(REWARD).and_then(Value::as_f64);
    let index = |at: usize| rows[at].fields.get(INDEX).and_then(Value::as_u64).unwrap_or(0);
    let mut chosen = BTreeSet::new();
    for mut answers in by_question.into_values() {
        answers.sort_by_key(|&at| index(at));
        let count = match keep {
            Keep::First(count) => count,
            Keep::Best(count) => {
                answers.retain(|&at| reward(at).is_some());
                answers.sort_by(|&a, &b| reward(b).unwrap_or(0.0).total_cmp(&reward(a).unwrap_or(0.0)));
                count
            }
        };
        chosen.extend(answers.into_iter().take(count));
    }
    if chosen.is_empty() {
        return Err(DataError::content("`keep` finds no answer with a reward".to_owned())
            .hinted("give the stage that generates the answers `[stages.NAME.rewards.NAME]`"));
    }
    let mut at = 0;
    let mut rows = rows;
    rows.retain(|_| {
        at += 1;
        chosen.contains(&(at - 1))
    });
    Ok(rows)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::recipe::spec::DataFormat;
    use serde_json::{Map, json};

    fn row(location: usize, fields: Value) -> Row {
        let Value::Object(fields) = fields else { panic!("a row is an object") };
        Row { index: location, location: format!("a:{location}"), fields, is_generated: true, joined: None, own: None }
    }

    fn answers() -> Vec<Row> {
        let answer = |question: &str, index: usize, reward: Option<f64>| json!({ "question_id": question, "index": index, "reward": reward, "completion": format!("{question}{index}") });
        let all = [
            answer("a", 0, Some(0.5)),
            answer("a", 1, Some(0.9)),
            answer("a", 2, Some(0.9)),
            answer("b", 1, Some(0.1)),
            answer("b", 0, None),
            answer("c", 0, None),
        ];
        all.into_iter().enumerate().map(|(at, fields)| row(at, fields)).collect()
    }

    fn texts(rows: &[Row]) -> Vec<&str> {
        rows.iter().filter_map(|row| row.fields["completion"].as_str()).collect()
    }

    #[test]
    fn the_best_answers_are_kept_and_ties_go_to_the_one_drawn_first() {
        assert_eq!(texts(&kept(answers(), Keep::Best(1)).unwrap()), ["a1", "b1"]);
        assert_eq!(texts(&kept(answers(), Keep::Best(2)).unwrap()), ["a1", "a2", "b1"]);
        assert_eq!(texts(&kept(answers(), Keep::First(1)).unwrap()), ["a0", "b0", "c0"]);
        let unrated: Vec<Row> = answers().into_iter().filter(|row| row.fields["reward"].is_null()).collect();
        assert!(kept(unrated, Keep::Best(1)).unwrap_err().message.contains("no answer with a reward"));
    }

    #[test]
    fn a_condition_selects_rows_and_may_not_name_what_a_row_lacks() {
        let rows: Vec<Row> = answers().into_iter().filter(|row| !row.fields["reward"].is_null()).collect();
        assert_eq!(texts(&only_where(rows.clone(), "reward > 0.5").unwrap()), ["a1", "a2"]);
        assert!(only_where(rows.clone(), "reward > 2").unwrap_err().message.contains("none of 4 rows"));
        let error = only_where(rows, "rewrad > 0.5").unwrap_err();
        assert!(error.message.starts_with("a:0: `where` cannot be computed"), "{error}");
        assert!(error.hint.unwrap().contains("reward"));
    }

    struct Files {
        _dir: tempfile::TempDir,
        inputs: Inputs,
    }

    fn jsonl(text: &str) -> (Files, DataFile) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.jsonl");
        fs_err::write(&path, text).unwrap();
        let file = DataFile::File { digest: Digest::of(text.as_bytes()), format: DataFormat::Jsonl };
        (Files { _dir: dir, inputs: BTreeMap::from([(file.id(), path)]) }, file)
    }

    #[test]
    fn answers_are_joined_by_the_content_of_the_rows_in_any_order() {
        let rows = || vec![row(0, json!({ "q": 1 })), row(1, json!({ "q": 2 })), row(2, json!({ "q": 3 }))];
        let ids: Vec<String> = rows().iter().map(Row::id).collect();
        let line = |id: &str, index: usize, text: &str| {
            json!({ "question_id": id, "index": index, "completion": text }).to_string() + "\n"
        };
        let text = line(&ids[1], 1, "second") + &line(&format!("{}-2", ids[1]), 0, "first") + &line(&ids[0], 0, "one");
        let (files, from) = jsonl(&text);
        let join = Join { from, field: "theirs".to_owned(), column: "completion".to_owned() };
        let mut joined = rows();
        join_answers(&mut joined, &join, &files.inputs).unwrap();
        let found: Vec<&Value> = joined.iter().map(|row| &row.fields["theirs"]).collect();
        assert_eq!(found, [&json!("one"), &json!("first"), &Value::Null]);
        assert_eq!(joined.iter().map(Row::id).collect::<Vec<_>>(), ids, "a row is still the same question");
        let mut others = vec![row(0, json!({ "q": 9 }))];
        assert!(join_answers(&mut others, &join, &files.inputs).unwrap_err().message.contains("none of the rows"));
    }

    #[test]
    fn no_answer_to_a_measured_question_is_trained_on() {
        let questions: Vec<Row> = (0..40).map(|q| row(q, json!({ "q": q }))).collect();
        let text: String = questions.iter().map(|row| Value::Object(row.fields.clone()).to_string() + "\n").collect();
        let (files, file) = jsonl(&text);
        let held_out = HeldOut { files: vec![file], eval_fraction: 0.5, dev_fraction: 0.0, split: Split::Eval };
        let measured = measured(&[held_out], &files.inputs).unwrap();
        assert!((8..32).contains(&measured.len()), "{}", measured.len());
        for question in &questions {
            let mut fields = Map::from_iter([(QUESTION_ID.to_owned(), json!(format!("{}-2", question.id())))]);
            let answer = |fields: &Map<String, Value>| row(0, Value::Object(fields.clone()));
            assert_eq!(answers_held_out(&answer(&fields), &measured), measured.contains(&question.id()));
            fields.insert(HELD_OUT.to_owned(), json!(true));
            assert!(answers_held_out(&answer(&fields), &measured), "its own data set holds it out");
            assert!(!answers_held_out(&Row { is_generated: false, ..answer(&fields) }, &measured));
        }
    }
}
