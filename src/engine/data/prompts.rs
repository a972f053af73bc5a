//! Prompts: conversations up to the start of the assistant's turn.

use super::rows::{Row, load_rows};
use super::templates::Template;
use super::turns::{Source, Turn, refuse_long, render};
use crate::error::{StageError, StageResult};
use crate::tokenizer::Tokenizer;
use orchestrate_core::digest::Digest;
use orchestrate_core::recipe::spec::{DataSpec, Role};
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
    let source = Source::new(spec, false)?;
    let reference = Template::optional("reference", spec.templates.reference.as_ref())?;
    let answer = Template::optional("answer", spec.templates.answer.as_ref())?;
    let mut examples = Vec::new();
    let mut texts = Vec::new();
    let mut equal_rows: BTreeMap<Digest, usize> = BTreeMap::new();
    for row in load_rows(spec, inputs)? {
        let mut turns = source.read(&row, tokenizer)?.turns;
        turns.pop_if(|last| last.role == Role::Assistant);
        if turns.is_empty() {
            let message = format!("{}: the conversation has no turn before the assistant's", row.location);
            return Err(StageError::input(message).hinted("a prompt is what the assistant answers"));
        }
        texts.push(render(tokenizer, &turns, true, &row.location)?);
        let asked = turns.iter().rfind(|turn| turn.role == Role::User).or(turns.last());
        let rendered =
            |template: &Option<Template>| template.as_ref().map(|template| template.render(&row)).transpose();
        examples.push(Example {
            row: row.index,
            id: id(&row, &mut equal_rows),
            prompt: asked.map(Turn::content).unwrap_or_default().to_owned(),
            reference: rendered(&reference)?,
            answer: rendered(&answer)?,
            prompt_ids: Vec::new(),
            location: row.location,
        });
    }
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

/// Number of digits of a row's digest in its identifier, which are 64 bits. In a data set of a million rows, two rows
/// share them with a chance of 1 in 37 million.
const ID_DIGITS: usize = 16;

/// Returns the identifier of `row`, with a suffix that counts the earlier equal rows in `equal_rows`.
fn id(row: &Row, equal_rows: &mut BTreeMap<Digest, usize>) -> String {
    let digest = row.digest();
    let digits = digest.as_str()[..ID_DIGITS].to_owned();
    let met = equal_rows.entry(digest).or_default();
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
            Row { index, location: String::new(), fields }
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
