//! The conversation of a row: its messages, or a question and answer from the data set's templates.

use super::templates::Template;
use crate::error::{StageError, StageResult};
use crate::tokenizer::Tokenizer;
use orchestrate_core::data::Row;
use orchestrate_core::recipe::spec::{DataSpec, Role};
use serde::Serialize;
use serde_json::{Map, Value, json};

/// One turn of a conversation. The chat template receives all fields of its message.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(super) struct Turn {
    #[serde(skip)]
    pub(super) role: Role,
    #[serde(flatten)]
    fields: Map<String, Value>,
}

impl Turn {
    fn new(role: Role, content: String) -> Self {
        let fields = Map::from_iter([("role".to_owned(), json!(role)), ("content".to_owned(), content.into())]);
        Self { role, fields }
    }

    /// The text of the turn.
    pub(super) fn content(&self) -> &str {
        self.fields.get("content").and_then(Value::as_str).unwrap_or_default()
    }
}

/// The conversation of one row.
pub(super) struct Conversation {
    pub(super) turns: Vec<Turn>,
    /// The assistant's text after the last turn, word for word, if it comes from a template.
    pub(super) completion: Option<String>,
}

/// The source of a data set's conversations.
#[expect(clippy::large_enum_variant, reason = "there is one a data set")]
pub(super) enum Source<'a> {
    /// A field that holds all turns.
    Messages(&'a str),
    /// Templates of one question and its answer.
    Templates { system: Option<Template>, prompt: Template, completion: Option<Template> },
}

impl<'a> Source<'a> {
    /// Returns the source that `spec` selects. The answers are read only if `with_completion` is true.
    pub(super) fn new(spec: &'a DataSpec, with_completion: bool) -> StageResult<Self> {
        if let Some(field) = &spec.messages {
            return Ok(Self::Messages(field));
        }
        let needed = |name: &'static str, source: &Option<String>| -> StageResult<Template> {
            let missing = || StageError::input(format!("the data set has no template `{name}`"));
            Template::new(name, source.as_ref().ok_or_else(missing)?)
        };
        let templates = &spec.templates;
        Ok(Self::Templates {
            system: Template::optional("system", templates.system.as_ref())?,
            prompt: needed("prompt", &templates.prompt)?,
            completion: if with_completion { Some(needed("completion", &templates.completion)?) } else { None },
        })
    }

    /// Returns the conversation of `row`. Without a chat template, a row with messages is an error.
    pub(super) fn read(&self, row: &Row, has_chat_template: bool) -> StageResult<Conversation> {
        match self {
            Self::Messages(field) => {
                if !has_chat_template {
                    return Err(StageError::input("the data set has `messages`, but the model has no chat template")
                        .hinted("put a `chat_template.jinja` beside its tokenizer, or use `prompt` and `completion`"));
                }
                Ok(Conversation { turns: turns(row, field)?, completion: None })
            }
            Self::Templates { system, prompt, completion } => {
                let mut turns = Vec::new();
                if let Some(system) = system {
                    turns.push(Turn::new(Role::System, system.render(row)?));
                }
                let text = prompt.render(row)?;
                if text.trim().is_empty() {
                    return Err(StageError::input(format!("{}: the template `prompt` renders nothing", row.location)));
                }
                turns.push(Turn::new(Role::User, text));
                let completion = completion.as_ref().map(|completion| completion.render(row)).transpose()?;
                Ok(Conversation { turns, completion })
            }
        }
    }
}

/// Returns the messages in a field of `row`.
fn turns(row: &Row, field: &str) -> StageResult<Vec<Turn>> {
    let at = &row.location;
    let form = "a conversation is a list of objects with the texts `role` and `content`";
    let Some(Value::Array(messages)) = row.fields.get(field) else {
        let fields: Vec<&str> = row.fields.keys().map(String::as_str).collect();
        return Err(StageError::input(format!("{at}: the row has no list in the field `{field}`"))
            .hinted(format!("the row has the fields {}; {form}", fields.join(", "))));
    };
    if messages.is_empty() {
        return Err(StageError::input(format!("{at}: the conversation in `{field}` is empty")));
    }
    let turn = |(index, message): (usize, &Value)| {
        let place = format!("{at}: `{field}[{index}]`");
        let text = |key: &str| match message.get(key) {
            Some(Value::String(text)) => Ok(text),
            _ => Err(StageError::input(format!("{place} has no text in `{key}`")).hinted(form)),
        };
        let (role, _) = (text("role")?, text("content")?);
        let role = serde_json::from_value(json!(role)).map_err(|_| {
            StageError::input(format!("{place} has the role `{role}`"))
                .hinted("roles are `system`, `user`, `assistant` and `tool`")
        })?;
        Ok(Turn { role, fields: message.as_object().cloned().unwrap_or_default() })
    };
    messages.iter().enumerate().map(turn).collect()
}

/// Renders `turns` with the chat template, up to the start of the assistant's turn if `add_generation_prompt` is true.
/// Without a chat template, the texts are joined by line breaks.
pub(super) fn render(
    tokenizer: &Tokenizer,
    turns: &[Turn],
    add_generation_prompt: bool,
    location: &str,
) -> StageResult<String> {
    if !tokenizer.has_chat_template() {
        return Ok(turns.iter().map(Turn::content).collect::<Vec<_>>().join("\n"));
    }
    tokenizer.render(turns, add_generation_prompt).map_err(|mut error| {
        error.message = format!("{location}: {}", error.message);
        error
    })
}

/// Returns an error for rows of more than `limit` tokens. `rows` holds each row's location and number of tokens.
pub(super) fn refuse_long<'a>(
    rows: impl Iterator<Item = (&'a str, usize)>,
    limit: usize,
    key: &str,
    what: &str,
) -> StageResult<()> {
    let long: Vec<(&str, usize)> = rows.filter(|&(_, tokens)| tokens > limit).collect();
    let (Some(&(location, tokens)), Some(longest)) = (long.first(), long.iter().map(|&(_, tokens)| tokens).max())
    else {
        return Ok(());
    };
    let others = match long.len() - 1 {
        0 => String::new(),
        count => format!("; {count} more rows are too long"),
    };
    Err(StageError::input(format!("{location}: {what} has {tokens} tokens, `{key}` allows {limit}{others}"))
        .hinted(format!("raise `{key}` to {longest}, or shorten the rows; nothing is cut off silently")))
}
