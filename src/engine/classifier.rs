//! The classifier of the component `classifier`: tokens of texts, batches, and logits.
//!
//! A text is read as transformers' tokenizers read it: as a pair of texts, in the model's chat template, or alone.
//! Texts are cut at the model's limit, and batches have texts of similar length.

use crate::encoder::{batches, tokenizer};
use crate::error::{StageError, StageResult};
use crate::models::SequenceClassifier;
use crate::tokenizer::{Message, Tokenizer, optional_json};
use orchestrate_core::recipe::spec::ClassifierInput;
use orchestrate_core::rewards::{EncoderError, TextClassifier};
use std::path::{Path, PathBuf};
use tch::{Device, Kind};
use tokenizers::{Encoding, TruncationParams};

/// A model for sequence classification with its tokenizer.
#[derive(Debug)]
pub struct Classifier {
    model: SequenceClassifier,
    tokenizer: tokenizers::Tokenizer,
    reads: Reads,
    /// Whether the tokenizer says which text of a pair a token is in.
    has_segments: bool,
    dir: PathBuf,
    /// Maximum number of tokens of a text.
    limit: usize,
    /// Number of texts that the last call cut at the limit.
    truncated: usize,
    device: Device,
}

/// The form of the input.
#[derive(Debug)]
enum Reads {
    Pair,
    Chat(Box<Tokenizer>),
    Text,
}

impl Classifier {
    /// Loads the classifier in the Hugging Face directory `dir`, which reads texts in the form `input`.
    ///
    /// # Errors
    /// Returns an error for a missing or malformed file, for an unsupported architecture or setting, by name, and for
    /// [`ClassifierInput::Chat`] without a chat template.
    pub fn load(dir: &Path, input: ClassifierInput, device: Device, kind: Kind) -> StageResult<Self> {
        let model = SequenceClassifier::load(dir, kind, device)?;
        let limits = model.limits();
        let positions = usize::try_from(limits.max_tokens).unwrap_or(0);
        let settings = optional_json(&dir.join("tokenizer_config.json"))?;
        #[expect(clippy::cast_sign_loss, reason = "1e30 means no limit and becomes the largest number, -1 becomes 0")]
        let limit = settings["model_max_length"].as_f64().map_or(positions, |limit| positions.min(limit as usize));
        let inputs = settings["model_input_names"].as_array();
        let has_segments = inputs.is_none_or(|names| names.iter().any(|name| name == "token_type_ids"));
        let reads = match input {
            ClassifierInput::Pair => Reads::Pair,
            ClassifierInput::Text => Reads::Text,
            ClassifierInput::Chat => Reads::Chat(Box::new(chat(dir)?)),
        };
        let tokenizer = tokenizer(dir, false, limit, limits.vocab_size)?;
        Ok(Self { model, tokenizer, reads, has_segments, dir: dir.to_owned(), limit, truncated: 0, device })
    }

    /// Returns the number of `texts` that were cut to their `encodings`.
    ///
    /// A text with as many tokens as the limit is read again with one token more. The tokenizer stops reading at the
    /// limit, so an encoding need not have the tokens that it lacks.
    fn count_truncated(&mut self, texts: &[(&str, &str)], encodings: &[Encoding]) -> Result<usize, EncoderError> {
        let long: Vec<(&str, &str)> =
            texts.iter().zip(encodings).filter(|(_, e)| e.len() >= self.limit).map(|(text, _)| *text).collect();
        if long.is_empty() {
            return Ok(0);
        }
        self.set_limit(self.limit + 1)?;
        let longer = self.encode(&long);
        self.set_limit(self.limit)?;
        Ok(longer?.iter().filter(|encoding| encoding.len() > self.limit).count())
    }

    fn set_limit(&mut self, max_length: usize) -> Result<(), EncoderError> {
        self.tokenizer.with_truncation(Some(TruncationParams { max_length, ..TruncationParams::default() }))?;
        Ok(())
    }

    fn encode(&self, texts: &[(&str, &str)]) -> Result<Vec<Encoding>, EncoderError> {
        let owned = |(prompt, text): &(&str, &str)| ((*prompt).to_owned(), (*text).to_owned());
        match &self.reads {
            Reads::Pair => self.tokenizer.encode_batch_fast(texts.iter().map(owned).collect(), true),
            Reads::Text => {
                self.tokenizer.encode_batch_fast(texts.iter().map(|(_, text)| (*text).to_owned()).collect(), true)
            }
            Reads::Chat(chat) => {
                let turns = |(prompt, text): &(&str, &str)| {
                    let user = Message { role: "user", content: prompt };
                    chat.render(&[user, Message { role: "assistant", content: text }], false)
                };
                // the template writes the special tokens
                self.tokenizer.encode_batch_fast(texts.iter().map(turns).collect::<StageResult<Vec<_>>>()?, false)
            }
        }
    }
}

/// Loads the tokenizer with the chat template.
fn chat(dir: &Path) -> StageResult<Tokenizer> {
    let tokenizer = Tokenizer::load(dir)?;
    if tokenizer.has_chat_template() {
        return Ok(tokenizer);
    }
    Err(StageError::input(format!("the classifier `{}` has no chat template", dir.display()))
        .hinted("with `input = \"text\"` it reads the text alone"))
}

impl TextClassifier for Classifier {
    fn logits(&mut self, texts: &[(&str, &str)]) -> Result<Vec<Vec<f32>>, EncoderError> {
        let encodings = self.encode(texts)?;
        self.truncated = self.count_truncated(texts, &encodings)?;
        let wide = |ids: &[u32]| -> Vec<i64> { ids.iter().copied().map(i64::from).collect() };
        let row = |encoding: &Encoding| {
            let ids = wide(encoding.get_ids());
            let segments = if self.has_segments { wide(encoding.get_type_ids()) } else { vec![0; ids.len()] };
            (ids, segments)
        };
        let rows: Vec<(Vec<i64>, Vec<i64>)> = encodings.iter().map(row).collect();
        let lengths: Vec<usize> = rows.iter().map(|(ids, _)| ids.len()).collect();
        let mut logits = vec![Vec::new(); texts.len()];
        for batch in batches(&lengths, self.device) {
            let ids: Vec<&[i64]> = batch.iter().map(|&i| &*rows[i].0).collect();
            let segments: Vec<&[i64]> = batch.iter().map(|&i| &*rows[i].1).collect();
            let computed = tch::no_grad(|| self.model.forward(&ids, &segments, self.device)); // (B, labels)
            let computed = Vec::<Vec<f32>>::try_from(&computed.to_device(Device::Cpu))
                .map_err(|e| StageError::input(format!("the logits of `{}`: {e}", self.dir.display())))?;
            for (&i, row) in batch.iter().zip(computed) {
                logits[i] = row;
            }
        }
        Ok(logits)
    }

    fn truncated(&self) -> usize {
        self.truncated
    }
}
