//! Prompts: conversations up to the start of the assistant's turn.

use super::templates::Template;
use super::turns::{Source, Turn, refuse_long, render};
use crate::error::{StageError, StageResult};
use crate::tokenizer::Tokenizer;
use orchestrate_core::data::{Row, load_rows};
use orchestrate_core::digest::Digest;
use orchestrate_core::recipe::spec::{DataSpec, Role, Split};
use orchestrate_core::rewards::RowFields;
use orchestrate_core::workspace::Assignment;
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;
use std::path::PathBuf;

/// A row as a question, with the reference and answer that its completions are scored by.
#[derive(Clone, Debug, PartialEq)]
pub struct Example {
    /// Position of the row in its data set.
    pub row: usize,
    /// Identifier of the row, derived from its content ([`orchestrate_core::event::EvalRecord::question_id`]).
    pub id: String,
    /// `FILE:LINE` of the row.
    pub location: String,
    /// The user's last turn, before the chat template.
    pub prompt: String,
    /// Reference text for rewards.
    pub reference: Option<String>,
    /// The right answer.
    pub answer: Option<String>,
    /// Tokens of the conversation up to the start of the assistant's turn.
    pub prompt_ids: Vec<i64>,
    /// The value of each expression by which an evaluation slices its questions; empty elsewhere.
    pub slices: BTreeMap<String, String>,
}

/// A row as a question, before it is tokenized.
pub struct Asked {
    /// The question, without tokens.
    pub example: Example,
    /// The fields of the row.
    pub fields: Map<String, Value>,
    /// Whether the data set holds the row out.
    pub is_held_out: bool,
    turns: Vec<Turn>,
}

impl Asked {
    /// Returns the conversation up to the assistant's turn, as a list of messages.
    pub fn messages(&self) -> Value {
        json!(self.turns)
    }
}

/// Returns every row's prompt. If a conversation ends with an assistant's turn, that turn is left out.
///
/// # Errors
/// Returns an error for a row without a needed field, for an empty prompt, and for a prompt of more than
/// `max_prompt_tokens`.
pub fn prompts(
    spec: &DataSpec,
    inputs: &BTreeMap<Digest, PathBuf>,
    tokenizer: &Tokenizer,
    max_prompt_tokens: usize,
) -> StageResult<Vec<Example>> {
    prompts_of(spec, load_rows(spec, inputs)?, tokenizer, max_prompt_tokens)
}

/// Returns the prompts of these rows of a data set.
pub(super) fn prompts_of(
    spec: &DataSpec,
    rows: Vec<Row>,
    tokenizer: &Tokenizer,
    max_prompt_tokens: usize,
) -> StageResult<Vec<Example>> {
    tokenized(asked_of(spec, rows, tokenizer.has_chat_template())?, tokenizer, max_prompt_tokens)
}

/// Returns every row's question. If a conversation ends with an assistant's turn, that turn is left out.
///
/// # Errors
/// Returns an error for a row without a needed field, for an empty prompt, and for a data set of conversations if
/// `has_chat_template` is false.
pub fn asked(spec: &DataSpec, inputs: &BTreeMap<Digest, PathBuf>, has_chat_template: bool) -> StageResult<Vec<Asked>> {
    asked_of(spec, load_rows(spec, inputs)?, has_chat_template)
}

fn asked_of(spec: &DataSpec, rows: Vec<Row>, has_chat_template: bool) -> StageResult<Vec<Asked>> {
    let source = Source::new(spec, false)?;
    let reference = Template::optional("reference", spec.templates.reference.as_ref())?;
    let answer = Template::optional("answer", spec.templates.answer.as_ref())?;
    let mut questions = Vec::new();
    for (id, row) in identified(rows) {
        let mut turns = source.read(&row, has_chat_template)?.turns;
        turns.pop_if(|last| last.role == Role::Assistant);
        if turns.is_empty() {
            let message = format!("{}: the conversation has no turn before the assistant's", row.location);
            return Err(StageError::input(message).hinted("a prompt is what the assistant answers"));
        }
        let asked = turns.iter().rfind(|turn| turn.role == Role::User).or(turns.last());
        let rendered = |template: &Option<Template>| match template {
            Some(template) => template.render_if_answered(&row),
            None => Ok(None),
        };
        let example = Example {
            row: row.index,
            id,
            prompt: asked.map(Turn::content).unwrap_or_default().to_owned(),
            reference: rendered(&reference)?,
            answer: rendered(&answer)?,
            prompt_ids: Vec::new(),
            slices: BTreeMap::new(),
            location: row.location.clone(),
        };
        let is_held_out = row.side(spec.fractions()) != Split::Train;
        questions.push(Asked { example, is_held_out, fields: row.fields, turns });
    }
    Ok(questions)
}

/// Tokenizes `questions`.
///
/// # Errors
/// Returns an error for a prompt of more than `max_prompt_tokens`.
pub fn tokenized(questions: Vec<Asked>, tokenizer: &Tokenizer, max_prompt_tokens: usize) -> StageResult<Vec<Example>> {
    let text = |asked: &Asked| render(tokenizer, &asked.turns, true, &asked.example.location);
    let texts = questions.iter().map(text).collect::<StageResult<Vec<_>>>()?;
    let mut examples: Vec<Example> = questions.into_iter().map(|asked| asked.example).collect();
    for (example, mut ids) in examples.iter_mut().zip(tokenizer.encode_all(texts)?) {
        if !tokenizer.has_chat_template() {
            tokenizer.start_text(&mut ids);
        }
        example.prompt_ids = ids;
    }
    let lengths = examples.iter().map(|example| (example.location.as_str(), example.prompt_ids.len()));
    refuse_long(lengths, max_prompt_tokens, "max_prompt_tokens", "prompt")?;
    Ok(examples)
}

/// Returns the fields of the rows that a stage asks about, by the rows' identifiers.
///
/// # Errors
/// Returns an error for a file that cannot be read.
pub fn row_fields(assignment: &Assignment) -> StageResult<RowFields> {
    let mut fields = RowFields::new();
    for set in assignment.spec.work.prompts() {
        fields.extend(identified(load_rows(set, &assignment.inputs)?).map(|(id, row)| (id, Value::Object(row.fields))));
    }
    Ok(fields)
}

/// Returns `rows` with their identifiers.
pub(super) fn identified(rows: Vec<Row>) -> impl Iterator<Item = (String, Row)> {
    let mut equal_rows = BTreeMap::new();
    rows.into_iter().map(move |row| (id(&row, &mut equal_rows), row))
}

/// Returns the identifier of `row`, with a suffix that counts the earlier equal rows in `equal_rows`.
fn id(row: &Row, equal_rows: &mut BTreeMap<String, usize>) -> String {
    let digits = row.id();
    let met = equal_rows.entry(digits.clone()).or_default();
    *met += 1;
    if *met == 1 { digits } else { format!("{digits}-{met}") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Map, json};

    #[test]
    fn rows_are_named_by_their_content_and_equal_ones_are_told_apart() {
        let row = |index: usize, question: &str| {
            let fields = Map::from_iter([("question".to_owned(), json!(question)), ("n".to_owned(), json!(1))]);
            Row::new(index, String::new(), fields)
        };
        let ids = |rows: &[Row]| {
            let mut met = BTreeMap::new();
            rows.iter().map(|row| id(row, &mut met)).collect::<Vec<_>>()
        };
        let found = ids(&[row(0, "a"), row(1, "b"), row(2, "a"), row(3, "a")]);
        assert_eq!(found[2..], [format!("{}-2", found[0]), format!("{}-3", found[0])]);
        assert_eq!(ids(&[row(7, "b"), row(9, "a")]), [found[1].clone(), found[0].clone()], "wherever they stand");
        let expected = Digest::of(br#"{"n":1,"question":"a"}"#); // canonical JSON: keys sorted
        assert_eq!(found[0], expected.as_str()[..16]);
    }
}
