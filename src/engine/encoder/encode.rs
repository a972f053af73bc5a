//! The encoder: tokens, batches, and pooled vectors of length 1.

use super::batches::batches;
use super::pooling::Pooling;
use super::settings::Settings;
use crate::error::{StageError, StageResult};
use crate::models::{TextModel, load_text_model};
use crate::tokenizer::read_tokenizer;
use orchestrate_core::rewards::TextEncoder;
use std::error::Error;
use std::path::{Path, PathBuf};
use tch::{Device, Kind, Tensor};
use tokenizers::PostProcessor;
use tokenizers::normalizers::{Lowercase, NormalizerWrapper, Sequence};

/// An encoder with its tokenizer.
#[derive(Debug)]
pub struct Encoder {
    model: Box<dyn TextModel>,
    tokenizer: tokenizers::Tokenizer,
    dir: PathBuf,
    pooling: Pooling,
    prompt: String,
    include_prompt: bool,
    /// Maximum number of tokens of a text.
    limit: usize,
    /// Number of texts that the last call cut at the limit.
    truncated: usize,
    device: Device,
}

impl Encoder {
    /// Loads an encoder from `dir`.
    ///
    /// Pooling, limits and default prompt are read from sentence-transformers' files if they are present. Without a
    /// file, pooling is the mean of the tokens, or the last token of a causal model.
    ///
    /// # Errors
    /// Returns an error for a missing or malformed file, and for an unsupported architecture, module, pooling or
    /// setting, by name.
    pub fn load(dir: &Path, device: Device, kind: Kind) -> StageResult<Self> {
        let settings = Settings::load(dir)?;
        let model = load_text_model(dir, kind, device)?;
        let limits = model.limits();
        let positions = usize::try_from(limits.max_tokens).unwrap_or(0);
        let limit = settings.max_tokens.unwrap_or(positions).min(positions);
        let pooling = settings.pooling.unwrap_or(if limits.causal { Pooling::LastToken } else { Pooling::Mean });
        let tokenizer = tokenizer(dir, settings.lower_case, limit, limits.vocab_size)?;
        let mut encoder = Self {
            model,
            tokenizer,
            dir: dir.to_owned(),
            pooling,
            prompt: String::new(),
            include_prompt: settings.include_prompt,
            limit,
            truncated: 0,
            device,
        };
        encoder.set_prompt(settings.prompt)?;
        Ok(encoder)
    }

    /// Sets the prompt before every text, in place of the directory's default. An empty prompt means none.
    ///
    /// # Errors
    /// Returns an error for a prompt that leaves no room for a text, and for any prompt if pooling excludes the
    /// prompt's tokens.
    pub fn with_prompt(mut self, prompt: String) -> StageResult<Self> {
        self.set_prompt(prompt)?;
        Ok(self)
    }

    fn set_prompt(&mut self, prompt: String) -> StageResult<()> {
        let dir = self.dir.display();
        if !prompt.is_empty() && !self.include_prompt {
            return Err(StageError::input(format!(
                "the pooling of `{dir}` has `include_prompt` false, which is not supported together with a prompt"
            ))
            .hinted("with `prompt = \"\"` there is none"));
        }
        let encoding = self.tokenizer.encode_fast(prompt.as_str(), true).map_err(|e| unusable(&self.dir, &e))?;
        if !prompt.is_empty() && encoding.len() >= self.limit {
            return Err(StageError::input(format!(
                "the prompt leaves no room for a text: `{dir}` reads {} tokens at most",
                self.limit
            )));
        }
        self.prompt = prompt;
        Ok(())
    }

    /// Computes a unit vector for each row of token ids, which must not be empty. // -> (B, C)
    fn embed_batch(&self, rows: &[&[u32]]) -> StageResult<Vec<Vec<f32>>> {
        let width = rows.iter().map(|row| row.len()).max().unwrap_or(0);
        let padding = self.model.limits().pad_token_id;
        let mut ids = Vec::with_capacity(rows.len() * width);
        let mut mask = Vec::with_capacity(rows.len() * width);
        for row in rows {
            ids.extend(row.iter().copied().map(i64::from));
            ids.extend(std::iter::repeat_n(padding, width - row.len()));
            mask.extend((0..width).map(|place| i64::from(place < row.len())));
        }
        let shape = [rows.len(), width].map(|n| i64::try_from(n).expect("sizes fit i64"));
        let tensor = |values: &[i64]| Tensor::from_slice(values).view(shape).to_device(self.device); // (B, T)
        let (ids, mask) = (tensor(&ids), tensor(&mask));
        let pooled = tch::no_grad(|| self.pooling.unit_vectors(&self.model.forward(&ids, &mask), &mask)); // (B, C)
        Vec::<Vec<f32>>::try_from(&pooled.to_device(Device::Cpu))
            .map_err(|e| StageError::input(format!("the output of the encoder `{}`: {e}", self.dir.display())))
    }
}

impl TextEncoder for Encoder {
    /// Computes a vector for each text. A text without tokens, such as one of control characters for some tokenizers,
    /// has the zero vector, whose cosine with any vector is 0.
    fn embed(&mut self, texts: &[&str]) -> Result<Vec<Vec<f32>>, Box<dyn Error + Send + Sync>> {
        let prompted: Vec<String> = texts.iter().map(|text| format!("{}{text}", self.prompt)).collect();
        let encodings = self.tokenizer.encode_batch_fast(prompted, true)?;
        self.truncated = encodings.iter().filter(|encoding| !encoding.get_overflowing().is_empty()).count();
        let lengths: Vec<usize> = encodings.iter().map(tokenizers::Encoding::len).collect();
        let mut embeddings = vec![Vec::new(); texts.len()];
        for batch in batches(&lengths, self.device) {
            let rows: Vec<&[u32]> = batch.iter().map(|&i| encodings[i].get_ids()).collect();
            for (&i, embedding) in batch.iter().zip(self.embed_batch(&rows)?) {
                embeddings[i] = embedding;
            }
        }
        let width = embeddings.iter().map(Vec::len).max().unwrap_or(0);
        for embedding in &mut embeddings {
            embedding.resize(width, 0.0);
        }
        Ok(embeddings)
    }

    fn truncated(&self) -> usize {
        self.truncated
    }
}

/// Loads the tokenizer in `dir`. It truncates a text at `limit` tokens, including special tokens.
pub(crate) fn tokenizer(
    dir: &Path,
    lower_case: bool,
    limit: usize,
    vocab_size: i64,
) -> StageResult<tokenizers::Tokenizer> {
    let path = dir.join("tokenizer.json");
    let unreadable = |e: &dyn std::fmt::Display| StageError::input(format!("`{}` cannot be read: {e}", path.display()));
    let mut tokenizer = read_tokenizer(&path)?;
    if lower_case && !tokenizer.get_normalizer().is_some_and(lowers_case) {
        let before = tokenizer.get_normalizer().cloned();
        let both = std::iter::once(Lowercase.into()).chain(before).collect();
        tokenizer.with_normalizer(Some(Sequence::new(both))).map_err(|e| unreadable(&e))?;
    }
    tokenizer.with_padding(None);
    let special = tokenizer.get_post_processor().map_or(0, |processor| processor.added_tokens(false));
    if limit <= special {
        return Err(StageError::input(format!(
            "`{}`: a limit of {limit} tokens leaves no room for a text beside {special} special ones",
            dir.display()
        ))
        .hinted("it is set in `sentence_bert_config.json`, else in `tokenizer_config.json`"));
    }
    let truncation = tokenizers::TruncationParams { max_length: limit, ..Default::default() };
    tokenizer.with_truncation(Some(truncation)).map_err(|e| unreadable(&e))?;
    let ids = tokenizer.get_vocab(true).values().max().map_or(0, |&id| i64::from(id) + 1);
    if ids > vocab_size {
        return Err(StageError::input(format!(
            "`{}` has token ids up to {}, but `vocab_size` in `config.json` beside it is {vocab_size}",
            path.display(),
            ids - 1
        )));
    }
    Ok(tokenizer)
}

pub(super) fn lowers_case(normalizer: &NormalizerWrapper) -> bool {
    match normalizer {
        NormalizerWrapper::Lowercase(_) => true,
        NormalizerWrapper::BertNormalizer(bert) => bert.lowercase,
        NormalizerWrapper::Sequence(sequence) => sequence.as_ref().iter().any(lowers_case),
        _ => false,
    }
}

pub(super) fn unusable(dir: &Path, error: &dyn std::fmt::Display) -> StageError {
    StageError::input(format!("the tokenizer of `{}`: {error}", dir.display()))
}
