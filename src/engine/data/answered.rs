//! Rows as text: each question with the answer that the data set gives to it.

use super::prompts::identified;
use super::templates::Template;
use super::turns::{Source, Turn};
use crate::error::{StageError, StageResult};
use crate::tokenizer::Tokenizer;
use orchestrate_core::data::{Row, load_rows};
use orchestrate_core::digest::Digest;
use orchestrate_core::recipe::spec::{DataSpec, Role};
use std::collections::BTreeMap;
use std::path::PathBuf;

/// A row with its own completion.
#[derive(Clone, Debug, PartialEq)]
pub struct Answered {
    /// `FILE:LINE` of the row.
    pub location: String,
    /// Identifier of the row, derived from its content.
    pub id: String,
    /// The user's last turn, before the chat template.
    pub prompt: String,
    /// The assistant's answer.
    pub completion: String,
    /// Reference text for rewards.
    pub reference: Option<String>,
    /// The right answer.
    pub answer: Option<String>,
}

/// Returns every row with its own completion: the one of the template, or the last turn of its messages.
///
/// # Errors
/// Returns an error for a data set without completions and for a row without a needed field.
pub fn answered(
    spec: &DataSpec,
    inputs: &BTreeMap<Digest, PathBuf>,
    tokenizer: &Tokenizer,
) -> StageResult<Vec<Answered>> {
    let source = Source::new(spec, true).map_err(|error| match error.hint {
        None => error.hinted("a row's own completion is what it is compared with"),
        Some(_) => error,
    })?;
    let reference = Template::optional("reference", spec.templates.reference.as_ref())?;
    let answer = Template::optional("answer", spec.templates.answer.as_ref())?;
    let read = |(id, row): (String, Row)| {
        let conversation = source.read(&row, tokenizer.has_chat_template())?;
        let mut turns = conversation.turns;
        let completion = conversation.completion.or_else(|| {
            let last = turns.pop_if(|last| last.role == Role::Assistant)?;
            Some(last.content().to_owned())
        });
        let asked = turns.iter().rfind(|turn| turn.role == Role::User).or(turns.last());
        let rendered = |template: &Option<Template>| match template {
            Some(template) => template.render_if_answered(&row),
            None => Ok(None),
        };
        Ok(Answered {
            completion: completion.ok_or_else(|| {
                StageError::input(format!("{}: the conversation does not end with the assistant's turn", row.location))
            })?,
            prompt: asked.map(Turn::content).unwrap_or_default().to_owned(),
            reference: rendered(&reference)?,
            answer: rendered(&answer)?,
            location: row.location,
            id,
        })
    };
    identified(load_rows(spec, inputs)?).map(read).collect()
}
