//! Prompts, with completions where they are trained, as tokens.

use super::rows::{Row, load_rows};
use super::templates::Template;
use crate::error::{StageError, StageResult};
use crate::tokenizer::{Message, Tokenizer};
use orchestrate::digest::Digest;
use orchestrate::recipe::spec::{DataSpec, Templates};
use std::collections::BTreeMap;
use std::path::PathBuf;

/// One row as a conversation of a question and, perhaps, its answer.
#[derive(Clone, Debug, PartialEq)]
pub struct Example {
    /// Position of the row in its data set.
    pub row: usize,
    /// `FILE:LINE` of the row.
    pub location: String,
    /// The user's turn, as the data set's template rendered it.
    pub prompt: String,
    /// Reference text for rewards.
    pub reference: Option<String>,
    /// Right answer.
    pub answer: Option<String>,
    /// The conversation up to where the assistant writes.
    pub prompt_ids: Vec<i64>,
    /// What the assistant writes, the end of the turn included; empty in [`prompts`].
    pub completion_ids: Vec<i64>,
}

/// Every row's prompt.
///
/// # Errors
/// A row without a needed field, an empty prompt, a prompt of more than `max_prompt_tokens`.
pub fn prompts(
    spec: &DataSpec,
    inputs: &BTreeMap<Digest, PathBuf>,
    tokenizer: &Tokenizer,
    max_prompt_tokens: usize,
) -> StageResult<Vec<Example>> {
    let (examples, _) = render(spec, inputs, tokenizer, false)?;
    refuse_long(&examples, max_prompt_tokens, "max_prompt_tokens", "prompt")?;
    Ok(examples)
}

/// Every row's prompt and completion.
///
/// # Errors
/// As [`prompts`]; and a completion without a trainable token, a row of more than `seq_len` tokens.
pub fn supervised(
    spec: &DataSpec,
    inputs: &BTreeMap<Digest, PathBuf>,
    tokenizer: &Tokenizer,
    seq_len: usize,
) -> StageResult<Vec<Example>> {
    let (mut examples, completions) = render(spec, inputs, tokenizer, true)?;
    for (example, ids) in examples.iter_mut().zip(tokenizer.encode_all(completions)?) {
        if ids.is_empty() {
            return Err(StageError::input(format!(
                "{}: the template `completion` renders no trainable token",
                example.location
            )));
        }
        example.completion_ids = ids;
        example.completion_ids.push(tokenizer.end_of_turn());
    }
    refuse_long(&examples, seq_len, "seq_len", "prompt and completion together")?;
    Ok(examples)
}

fn render(
    spec: &DataSpec,
    inputs: &BTreeMap<Digest, PathBuf>,
    tokenizer: &Tokenizer,
    with_completion: bool,
) -> StageResult<(Vec<Example>, Vec<String>)> {
    let Templates { system, prompt, completion, reference, answer, text: _ } = &spec.templates;
    let needed = |name: &'static str, source: &Option<String>| -> StageResult<Template> {
        let source =
            source.as_ref().ok_or_else(|| StageError::input(format!("the data set has no template `{name}`")))?;
        Template::new(name, source)
    };
    let system = Template::optional("system", system.as_ref())?;
    let prompt = needed("prompt", prompt)?;
    let completion = if with_completion { Some(needed("completion", completion)?) } else { None };
    let reference = Template::optional("reference", reference.as_ref())?;
    let answer = Template::optional("answer", answer.as_ref())?;
    let rendered =
        |template: &Option<Template>, row: &Row| template.as_ref().map(|template| template.render(row)).transpose();

    let rows = load_rows(spec, inputs)?;
    let mut examples = Vec::with_capacity(rows.len());
    let mut completions = Vec::new();
    let mut conversations = Vec::with_capacity(rows.len());
    for row in rows {
        let text = prompt.render(&row)?;
        if text.trim().is_empty() {
            return Err(StageError::input(format!("{}: the template `prompt` renders nothing", row.location)));
        }
        conversations.push(conversation(tokenizer, rendered(&system, &row)?.as_deref(), &text)?);
        completions.extend(rendered(&completion, &row)?);
        examples.push(Example {
            row: row.index,
            prompt: text,
            reference: rendered(&reference, &row)?,
            answer: rendered(&answer, &row)?,
            location: row.location,
            prompt_ids: Vec::new(),
            completion_ids: Vec::new(),
        });
    }
    for (example, ids) in examples.iter_mut().zip(tokenizer.encode_all(conversations)?) {
        example.prompt_ids = ids;
    }
    Ok((examples, completions))
}

/// The conversation up to where the assistant writes; without a chat template, the texts themselves.
fn conversation(tokenizer: &Tokenizer, system: Option<&str>, prompt: &str) -> StageResult<String> {
    if !tokenizer.has_chat_template() {
        return Ok(system.map_or_else(|| prompt.to_owned(), |system| format!("{system}\n{prompt}")));
    }
    let mut messages: Vec<Message<'_>> = system.iter().map(|&content| Message { role: "system", content }).collect();
    messages.push(Message { role: "user", content: prompt });
    tokenizer.render(&messages, true)
}

fn refuse_long(examples: &[Example], limit: usize, key: &str, what: &str) -> StageResult<()> {
    let tokens = |e: &Example| e.prompt_ids.len() + e.completion_ids.len();
    let long: Vec<&Example> = examples.iter().filter(|e| tokens(e) > limit).collect();
    let (Some(first), Some(longest)) = (long.first(), long.iter().map(|&e| tokens(e)).max()) else { return Ok(()) };
    let others = match long.len() - 1 {
        0 => String::new(),
        count => format!("; {count} more rows are too long"),
    };
    Err(StageError::input(format!(
        "{}: {what} has {} tokens, `{key}` allows {limit}{others}",
        first.location,
        tokens(first)
    ))
    .hinted(format!("raise `{key}` to {longest}, or shorten the rows; nothing is cut off silently")))
}
