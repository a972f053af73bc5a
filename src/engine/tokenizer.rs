//! The model's own tokenizer and chat template.
//!
//! The template renders a text first. The text is then encoded without added special tokens, so it has at most the one
//! BOS that the template wrote. Plain text starts with a BOS if the tokenizer itself would put one there.
//!
//! A completion ends with any of a *set* of tokens. They are those in the model's configuration files, and the token
//! with which the template ends an assistant's turn.

use crate::checkpoint::CHAT_TEMPLATE;
use crate::error::{StageError, StageResult};
use crate::rendering;
use minijinja::syntax::SyntaxConfig;
use minijinja::value::Serde;
use minijinja::{Environment, Error, ErrorKind, context};
use serde::Serialize;
use serde_json::Value;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// One turn of a conversation.
#[derive(Clone, Debug, Serialize)]
pub struct Message<'a> {
    /// `system`, `user` or `assistant`.
    pub role: &'a str,
    /// The text of the turn.
    pub content: &'a str,
}

/// A tokenizer with its chat template.
#[derive(Debug)]
pub struct Tokenizer {
    inner: tokenizers::Tokenizer,
    dir: PathBuf,
    template: Option<Environment<'static>>,
    bos_token: Option<String>,
    eos_token: Option<String>,
    stop_ids: BTreeSet<i64>,
    end_of_turn: i64,
    end_of_text: i64,
    start_of_text: Vec<i64>,
}

/// The tokens of a text with their positions in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Encoded {
    /// Tokens of the text.
    pub ids: Vec<i64>,
    /// Byte offset in the text at which each token ends, in ascending order.
    pub ends: Vec<usize>,
}

impl Tokenizer {
    /// Loads the tokenizer in `dir`. It reads `tokenizer.json`, and the special tokens and turns from
    /// `tokenizer_config.json`, `chat_template.jinja`, `generation_config.json` and `config.json`.
    ///
    /// # Errors
    /// Returns an error for a missing or malformed file, for a template that does not compile, and if no token ends a
    /// text.
    pub fn load(dir: &Path) -> StageResult<Self> {
        Self::load_with(dir, None)
    }

    /// Loads the tokenizer like [`Self::load`], with `chat_template` instead of the directory's own.
    ///
    /// # Errors
    /// See [`Self::load`].
    pub fn load_with(dir: &Path, chat_template: Option<&str>) -> StageResult<Self> {
        let path = dir.join("tokenizer.json");
        let mut inner = read_tokenizer(&path)?;
        inner.with_padding(None);
        inner.with_truncation(None).map_err(|e| StageError::input(format!("`{}`: {e}", path.display())))?;
        let settings = optional_json(&dir.join("tokenizer_config.json"))?;
        let token = |name: &str| special_token(&settings[name]);
        let mut tokenizer = Self {
            inner,
            dir: dir.to_owned(),
            template: template(dir, &settings, chat_template)?,
            bos_token: token("bos_token"),
            eos_token: token("eos_token"),
            stop_ids: BTreeSet::new(),
            end_of_turn: 0,
            end_of_text: 0,
            start_of_text: Vec::new(),
        };
        for name in ["generation_config.json", "config.json"] {
            tokenizer.stop_ids.extend(ids(&optional_json(&dir.join(name))?["eos_token_id"]));
        }
        tokenizer.stop_ids.extend(tokenizer.eos_token.as_deref().and_then(|token| tokenizer.id(token)));
        tokenizer.end_of_turn = tokenizer.find_end_of_turn()?;
        tokenizer.stop_ids.insert(tokenizer.end_of_turn);
        let eos = tokenizer.eos_token.as_deref().and_then(|token| tokenizer.id(token));
        tokenizer.end_of_text = eos.unwrap_or(tokenizer.end_of_turn);
        tokenizer.start_of_text = tokenizer.find_start_of_text()?;
        Ok(tokenizer)
    }

    /// Encodes `text` unchanged. Special tokens are recognized where the text spells them.
    pub fn encode(&self, text: &str) -> StageResult<Vec<i64>> {
        let encoding = self.inner.encode_fast(text, false).map_err(|e| self.error(&e.to_string()))?;
        Ok(encoding.get_ids().iter().copied().map(i64::from).collect())
    }

    /// Encodes many texts on all cores.
    pub fn encode_all(&self, texts: Vec<String>) -> StageResult<Vec<Vec<i64>>> {
        let encodings = self.inner.encode_batch_fast(texts, false).map_err(|e| self.error(&e.to_string()))?;
        Ok(encodings.iter().map(|e| e.get_ids().iter().copied().map(i64::from).collect()).collect())
    }

    /// Encodes many texts like [`Self::encode_all`], with the position of each token.
    pub fn encode_all_with_ends(&self, texts: Vec<String>) -> StageResult<Vec<Encoded>> {
        let encodings = self.inner.encode_batch(texts, false).map_err(|e| self.error(&e.to_string()))?;
        let ends = |offsets: &[(usize, usize)]| {
            let ends = offsets.iter().scan(0, |last, &(_, end)| {
                *last = end.max(*last); // a token without text has the position of the previous one
                Some(*last)
            });
            ends.collect()
        };
        let ids = |ids: &[u32]| ids.iter().copied().map(i64::from).collect();
        Ok(encodings.iter().map(|e| Encoded { ids: ids(e.get_ids()), ends: ends(e.get_offsets()) }).collect())
    }

    /// Prepends the tokens that the tokenizer itself puts before a plain text, unless `ids` already begins with them.
    pub fn start_text(&self, ids: &mut Vec<i64>) {
        if !ids.starts_with(&self.start_of_text) {
            ids.splice(0..0, self.start_of_text.iter().copied());
        }
    }

    /// Decodes `ids` with special tokens spelled out.
    pub fn decode_verbatim(&self, ids: &[i64]) -> String {
        let ids: Vec<u32> = ids.iter().filter_map(|&id| u32::try_from(id).ok()).collect();
        self.inner.decode(&ids, false).unwrap_or_default()
    }

    /// Decodes `ids` without special tokens.
    pub fn decode(&self, ids: &[i64]) -> String {
        let ids: Vec<u32> = ids.iter().filter_map(|&id| u32::try_from(id).ok()).collect();
        self.inner.decode(&ids, true).unwrap_or_default()
    }

    /// Returns the byte at which each token of `ids` ends in their text ([`Tokenizer::decode`]). A token within a
    /// character, and a special token, ends where the one before it does.
    pub fn ends(&self, ids: &[i64]) -> Vec<usize> {
        let mut stream = self.inner.decode_stream(true);
        let mut end = 0;
        let mut of_token = |id: &i64| {
            let piece = u32::try_from(*id).ok().and_then(|id| stream.step(id).ok().flatten());
            end += piece.map_or(0, |piece| piece.len());
            end
        };
        ids.iter().map(&mut of_token).collect()
    }

    /// Returns whether the model has a chat template.
    pub fn has_chat_template(&self) -> bool {
        self.template.is_some()
    }

    /// Renders a conversation with the chat template. With `add_generation_prompt`, the text ends where the assistant's
    /// turn begins. A repeated BOS at the start is reduced to one.
    ///
    /// # Errors
    /// Returns an error if there is no template or the template rejects the conversation.
    pub fn render<M: Serialize>(&self, messages: &[M], add_generation_prompt: bool) -> StageResult<String> {
        let environment = self.template.as_ref().ok_or_else(|| self.error("the model has no chat template"))?;
        let template = environment.get_template("chat").expect("it was added when loading");
        let conversation = context! {
            messages => minijinja::Value::from(Serde(messages)),
            add_generation_prompt => add_generation_prompt,
            bos_token => self.bos_token.as_deref().unwrap_or(""),
            eos_token => self.eos_token.as_deref().unwrap_or(""),
        };
        let mut text = rendering::render(&template, conversation)
            .map_err(|e| self.error(&format!("the chat template does not render: {e}")))?;
        if let Some(bos) = self.bos_token.as_deref().filter(|bos| !bos.is_empty()) {
            while text.strip_prefix(bos).is_some_and(|rest| rest.starts_with(bos)) {
                text.drain(..bos.len());
            }
        }
        Ok(text)
    }

    /// The tokens that end a completion.
    pub fn stop_ids(&self) -> &BTreeSet<i64> {
        &self.stop_ids
    }

    /// The token that ends a trained completion.
    pub fn end_of_turn(&self) -> i64 {
        self.end_of_turn
    }

    /// The token that ends a document: the tokenizer's EOS, else [`Self::end_of_turn`].
    pub fn end_of_text(&self) -> i64 {
        self.end_of_text
    }

    /// The largest token id plus one.
    pub fn vocab_size(&self) -> usize {
        self.inner.get_vocab(true).values().max().map_or(0, |&id| id as usize + 1)
    }

    /// Returns an error if the model lacks an embedding for some token.
    pub fn check_against(&self, model_vocab_size: usize) -> StageResult<()> {
        let tokens = self.vocab_size();
        if tokens <= model_vocab_size {
            return Ok(());
        }
        Err(StageError::input(format!(
            "`{}` has token ids up to {}, but `vocab_size` in `{}` is {model_vocab_size}",
            self.dir.join("tokenizer.json").display(),
            tokens - 1,
            self.dir.join("config.json").display(),
        ))
        .hinted("the tokenizer belongs to another model; copy the one that came with the weights"))
    }

    fn id(&self, token: &str) -> Option<i64> {
        self.inner.token_to_id(token).map(i64::from)
    }

    /// Returns the first stop token after the assistant's text in a rendered turn, or the end-of-text token if there is
    /// no template.
    fn find_end_of_turn(&self) -> StageResult<i64> {
        const WORDS: &str = "understood";
        let eos = self.eos_token.as_deref().and_then(|token| self.id(token));
        let fallback = eos.or_else(|| self.stop_ids.first().copied()).ok_or_else(|| {
            self.error("neither `generation_config.json` nor `tokenizer_config.json` names an end-of-text token")
        });
        if self.template.is_none() {
            return fallback;
        }
        let turn = [Message { role: "user", content: "go" }, Message { role: "assistant", content: WORDS }];
        let rendered = self.render(&turn, false)?;
        let Some((_, after)) = rendered.rsplit_once(WORDS) else { return fallback };
        let special = self.inner.get_added_tokens_decoder();
        let ends = self.encode(after)?.into_iter().find(|&id| {
            let is_special = u32::try_from(id).ok().and_then(|id| special.get(&id)).is_some_and(|token| token.special);
            self.stop_ids.contains(&id) || is_special
        });
        ends.map_or(fallback, Ok)
    }

    /// Returns the tokens that the tokenizer's post-processor puts before a text: a BOS, or none.
    fn find_start_of_text(&self) -> StageResult<Vec<i64>> {
        let ids = |special: bool| -> StageResult<Vec<i64>> {
            let encoding = self.inner.encode_fast("text", special).map_err(|e| self.error(&e.to_string()))?;
            Ok(encoding.get_ids().iter().copied().map(i64::from).collect())
        };
        let (plain, whole) = (ids(false)?, ids(true)?);
        let start = whole.windows(plain.len().max(1)).position(|window| window == plain).unwrap_or(0);
        Ok(whole[..start].to_vec())
    }

    fn error(&self, message: &str) -> StageError {
        StageError::input(format!("tokenizer of `{}`: {message}", self.dir.display()))
    }
}

/// Reads a `tokenizer.json`. The library panics on some damaged files, which becomes an error here.
///
/// # Errors
/// Returns an error for a missing or malformed file.
pub(crate) fn read_tokenizer(path: &Path) -> StageResult<tokenizers::Tokenizer> {
    let text = fs_err::read_to_string(path).map_err(|e| StageError::io(path, &e))?;
    let malformed = |why: &str| {
        StageError::input(format!("`{}` cannot be read: {why}", path.display()))
            .hinted("check that the download is complete: size and hash should match the hub's")
    };
    // for invalid JSON, the error contains the line
    serde_json::from_str::<serde::de::IgnoredAny>(&text).map_err(|e| malformed(&e.to_string()))?;
    match std::panic::catch_unwind(|| text.parse::<tokenizers::Tokenizer>()) {
        Ok(parsed) => parsed.map_err(|e| malformed(&e.to_string())),
        Err(_) => Err(malformed("the file is damaged")),
    }
}

/// Reads a JSON file, or returns null if it does not exist.
pub(crate) fn optional_json(path: &Path) -> StageResult<Value> {
    match fs_err::read_to_string(path) {
        Ok(text) => {
            serde_json::from_str(&text).map_err(|e| StageError::input(format!("`{}` is not JSON: {e}", path.display())))
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Value::Null),
        Err(error) => Err(StageError::io(path, &error)),
    }
}

/// Returns a special token, which is a string or an object with a `content`.
fn special_token(value: &Value) -> Option<String> {
    value.as_str().or_else(|| value["content"].as_str()).map(str::to_owned)
}

/// Returns the ids of `eos_token_id`, which is a number or a list of numbers.
fn ids(value: &Value) -> Vec<i64> {
    value
        .as_array()
        .map_or_else(|| value.as_i64().into_iter().collect(), |list| list.iter().filter_map(Value::as_i64).collect())
}

/// Compiles the chat template, in Hugging Face's dialect of Jinja.
fn template(dir: &Path, settings: &Value, given: Option<&str>) -> StageResult<Option<Environment<'static>>> {
    let file = dir.join(CHAT_TEMPLATE);
    let (path, source) = if let Some(source) = given {
        (PathBuf::from("model.chat_template"), source.to_owned())
    } else if file.exists() {
        let source = fs_err::read_to_string(&file).map_err(|e| StageError::io(&file, &e))?;
        (file, source)
    } else {
        // a single template or a list of named ones
        let value = &settings["chat_template"];
        let default = value.as_array().and_then(|list| list.iter().find(|t| t["name"] == "default"));
        let Some(source) = value.as_str().or_else(|| default.and_then(|t| t["template"].as_str())) else {
            return Ok(None);
        };
        (dir.join("tokenizer_config.json"), source.to_owned())
    };
    let mut environment = Environment::new();
    let syntax = SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build();
    environment.set_syntax(syntax.expect("white space settings are always valid"));
    environment.set_fuel(Some(rendering::FUEL));
    environment.set_unknown_method_callback(minijinja_contrib::pycompat::unknown_method_callback);
    environment.add_function("raise_exception", |message: String| -> Result<String, Error> {
        Err(Error::new(ErrorKind::InvalidOperation, message))
    });
    environment.add_function("strftime_now", |format: String| chrono::Local::now().format(&format).to_string());
    environment
        .add_template_owned("chat", source)
        .map_err(|e| StageError::input(format!("the chat template in `{}` does not compile: {e}", path.display())))?;
    Ok(Some(environment))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn smollm2() -> Option<Tokenizer> {
        let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../models/smollm2-135m-instruct");
        dir.exists().then(|| Tokenizer::load(&dir).unwrap())
    }

    #[test]
    #[expect(clippy::print_stderr, reason = "a skipped test says why")]
    fn a_conversation_renders_as_in_transformers_and_its_stop_token_is_found() {
        let Some(tokenizer) = smollm2() else {
            eprintln!("skipped: models/ is empty; `./justw models` fetches them");
            return;
        };
        let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/golden/real_models.json");
        let golden: Value = serde_json::from_str(&fs_err::read_to_string(golden).unwrap()).unwrap();
        let chat = &golden["chat"];
        let messages: Vec<Message<'_>> = chat["messages"]
            .as_array()
            .unwrap()
            .iter()
            .map(|m| Message { role: m["role"].as_str().unwrap(), content: m["content"].as_str().unwrap() })
            .collect();
        assert_eq!(tokenizer.render(&messages, false).unwrap(), chat["rendered"].as_str().unwrap());
        let with_prompt = tokenizer.render(&messages[..1], true).unwrap();
        assert_eq!(with_prompt, chat["with_generation_prompt"].as_str().unwrap());
        assert_eq!(Some(tokenizer.end_of_turn()), tokenizer.id("<|im_end|>"));
        assert!(tokenizer.stop_ids().contains(&tokenizer.end_of_turn()));
    }

    #[test]
    fn a_hostile_template_ends_in_an_error() {
        let dir = tempfile::tempdir().unwrap();
        let settings = |source: &str| serde_json::json!({ "chat_template": source });
        let endless = "{% for a in range(100000) %}{% for b in range(100000) %}x{% endfor %}{% endfor %}";
        let environment = template(dir.path(), &settings(endless), None).unwrap().unwrap();
        assert!(rendering::render(&environment.get_template("chat").unwrap(), context! {}).is_err());
        let long = "{% for a in range(1000) %}{{ 'x' * 100000 }}{% endfor %}";
        let environment = template(dir.path(), &settings(long), None).unwrap().unwrap();
        assert!(rendering::render(&environment.get_template("chat").unwrap(), context! {}).is_err());
        assert!(template(dir.path(), &settings("{% for %}"), None).unwrap_err().message.contains("does not compile"));
        let refusing =
            template(dir.path(), &settings("{{ raise_exception('no system role') }}"), None).unwrap().unwrap();
        let error = refusing.get_template("chat").unwrap().render(context! {}).unwrap_err();
        assert!(error.to_string().contains("no system role"));
    }
}
