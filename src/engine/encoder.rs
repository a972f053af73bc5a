//! Texts to unit vectors: a sentence-transformers directory, as its own files say it is to be used.

use crate::error::{StageError, StageResult};
use crate::models::bert::Bert;
use orchestrate::rewards::TextEncoder;
use serde_json::Value;
use std::error::Error;
use std::path::Path;
use tch::{Device, Kind, Tensor};

/// Texts encoded at a time.
const BATCH: usize = 32;

/// An encoder with its tokenizer.
#[derive(Debug)]
pub struct Encoder {
    model: Bert,
    tokenizer: tokenizers::Tokenizer,
    pooling: Pooling,
    device: Device,
}

/// How token vectors become one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Pooling {
    Mean,
    FirstToken,
    LastToken,
}

impl Encoder {
    /// Reads an encoder from `dir`; pooling from `1_Pooling/config.json` and the length limit from
    /// `sentence_bert_config.json` where they are present.
    pub fn load(dir: &Path, device: Device, kind: Kind) -> StageResult<Self> {
        let model = Bert::load(dir, kind, device)?;
        let path = dir.join("tokenizer.json");
        let unreadable =
            |e: &dyn std::fmt::Display| StageError::input(format!("`{}` cannot be read: {e}", path.display()));
        let mut tokenizer = tokenizers::Tokenizer::from_file(&path).map_err(|e| unreadable(&e))?;
        let positions = usize::try_from(model.config.max_position_embeddings).unwrap_or(usize::MAX);
        let limit = optional_json(&dir.join("sentence_bert_config.json"))?["max_seq_length"]
            .as_u64()
            .and_then(|n| usize::try_from(n).ok())
            .map_or(positions, |n| n.min(positions));
        let truncation = tokenizers::TruncationParams { max_length: limit, ..Default::default() };
        tokenizer.with_padding(None);
        tokenizer.with_truncation(Some(truncation)).map_err(|e| unreadable(&e))?;
        let tokens = tokenizer.get_vocab_size(true);
        if i64::try_from(tokens).unwrap_or(i64::MAX) > model.config.vocab_size {
            return Err(StageError::input(format!(
                "`{}` has {tokens} tokens, but `vocab_size` in `config.json` beside it is {}",
                path.display(),
                model.config.vocab_size
            )));
        }
        Ok(Self { model, tokenizer, pooling: pooling(&dir.join("1_Pooling/config.json"))?, device })
    }

    /// One unit vector a row. // (B, T), (B, T) -> (B, C)
    pub fn pooled(&self, input_ids: &Tensor, attention_mask: &Tensor) -> Tensor {
        tch::no_grad(|| {
            let hidden = self.model.forward(input_ids, attention_mask).to_kind(Kind::Float); // (B, T, C)
            let pooled = match self.pooling {
                Pooling::Mean => {
                    let mask = attention_mask.unsqueeze(-1).to_kind(Kind::Float); // (B, T, 1)
                    (hidden * &mask).sum_dim_intlist(1, false, Kind::Float)
                        / mask.sum_dim_intlist(1, false, Kind::Float)
                }
                Pooling::FirstToken => hidden.select(1, 0),
                Pooling::LastToken => {
                    let last = attention_mask.sum_dim_intlist(1, false, Kind::Int64) - 1; // (B,)
                    let (b, _, c) = hidden.size3().expect("hidden is (B, T, C)");
                    hidden.gather(1, &last.view([b, 1, 1]).expand([b, 1, c], false), false).squeeze_dim(1)
                }
            };
            let norm = pooled.square().sum_dim_intlist(-1, true, Kind::Float).sqrt().clamp_min(1e-12);
            pooled / norm
        })
    }

    fn embed_batch(&self, ids: &[&[u32]]) -> StageResult<Vec<Vec<f32>>> {
        let width = ids.iter().map(|row| row.len()).max().unwrap_or(0).max(1);
        let mut tokens = Vec::with_capacity(ids.len() * width);
        let mut mask = Vec::with_capacity(ids.len() * width);
        for row in ids {
            tokens.extend(row.iter().copied().map(i64::from));
            mask.extend(row.iter().map(|_| 1i64));
            tokens.extend(std::iter::repeat_n(0, width - row.len()));
            mask.extend(std::iter::repeat_n(0, width - row.len()));
        }
        let shape = [ids.len(), width].map(|n| i64::try_from(n).expect("sizes fit i64"));
        let tensor = |values: &[i64]| Tensor::from_slice(values).view(shape).to_device(self.device);
        let pooled = self.pooled(&tensor(&tokens), &tensor(&mask)).to_device(Device::Cpu);
        Vec::<Vec<f32>>::try_from(&pooled).map_err(|e| StageError::input(format!("the encoder's output: {e}")))
    }
}

impl TextEncoder for Encoder {
    fn embed(&mut self, texts: &[&str]) -> Result<Vec<Vec<f32>>, Box<dyn Error + Send + Sync>> {
        let encodings = self.tokenizer.encode_batch_fast(texts.to_vec(), true)?;
        // texts of like length together, so that little padding is computed
        let mut order: Vec<usize> = (0..texts.len()).collect();
        order.sort_by_key(|&i| encodings[i].get_ids().len());
        let mut embeddings = vec![Vec::new(); texts.len()];
        for batch in order.chunks(BATCH) {
            let ids: Vec<&[u32]> = batch.iter().map(|&i| encodings[i].get_ids()).collect();
            for (&i, embedding) in batch.iter().zip(self.embed_batch(&ids)?) {
                embeddings[i] = embedding;
            }
        }
        Ok(embeddings)
    }
}

fn pooling(path: &Path) -> StageResult<Pooling> {
    let settings = optional_json(path)?;
    let on = |name: &str| settings[name].as_bool() == Some(true);
    if on("pooling_mode_cls_token") {
        return Ok(Pooling::FirstToken);
    }
    if on("pooling_mode_lasttoken") {
        return Ok(Pooling::LastToken);
    }
    if settings.is_null() || on("pooling_mode_mean_tokens") {
        return Ok(Pooling::Mean);
    }
    Err(StageError::input(format!(
        "`{}` names no supported pooling; supported are mean, cls and last token",
        path.display()
    )))
}

/// A JSON file that may be missing.
fn optional_json(path: &Path) -> StageResult<Value> {
    match fs_err::read_to_string(path) {
        Ok(text) => {
            serde_json::from_str(&text).map_err(|e| StageError::input(format!("`{}` is not JSON: {e}", path.display())))
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Value::Null),
        Err(error) => Err(StageError::io(path, &error)),
    }
}
