//! Heads for sequence classification, as those of transformers: a text model, one vector for a text, and a logit for
//! each label.
//!
//! | architecture | vector | logits |
//! | --- | --- | --- |
//! | BERT | the first token's | linear(tanh(linear(x))) |
//! | RoBERTa, XLM-RoBERTa | the first token's | linear(tanh(linear(x))) |
//! | ModernBERT | the first token's or the mean | linear(norm(gelu(linear(x)))) |
//! | Llama, Qwen2, Qwen3 | that of the last token other than `pad_token_id` | linear(x) |
//!
//! The head computes in 32 bits, whatever the format of the model.

use super::encoder_layers::{Checkpoint, LayerNorm, Linear};
use super::text_model::{TextLimits, TextModel, load_body};
use crate::error::{StageError, StageResult};
use crate::tokenizer::optional_json;
use serde_json::Value;
use std::path::Path;
use tch::{Device, Kind, Tensor};

/// A model with a head for sequence classification.
#[derive(Debug)]
pub struct SequenceClassifier {
    body: Box<dyn TextModel>,
    head: Head,
    /// The token that is no end of a text for a decoder.
    pad_token_id: Option<i64>,
}

#[derive(Debug)]
enum Head {
    /// The head of BERT and RoBERTa.
    FirstToken {
        dense: Linear,
        labels: Linear,
    },
    ModernBert {
        mean: bool,
        dense: Linear,
        norm: LayerNorm,
        labels: Linear,
    },
    /// The head of decoders.
    LastToken {
        labels: Linear,
    },
}

impl SequenceClassifier {
    /// Loads the model in the Hugging Face directory `dir`.
    ///
    /// # Errors
    /// Returns an error for a missing or malformed file, for an unsupported architecture or field, by name, and for
    /// weights that are missing or of another shape.
    pub fn load(dir: &Path, kind: Kind, device: Device) -> StageResult<Self> {
        let path = dir.join("config.json");
        let json = optional_json(&path)?;
        let refused = |what: String| StageError::input(format!("`{}`: {what}", path.display()));
        if !json["auto_map"]["AutoModelForSequenceClassification"].is_null() {
            return Err(refused("`auto_map` says that the model brings code of its own, which is not run".to_owned()));
        }
        let body = load_body(dir, kind, device)?;
        let from = Checkpoint::open(dir, "", Kind::Float, device)?;
        let hidden = json["hidden_size"].as_i64().ok_or_else(|| refused("`hidden_size` is missing".to_owned()))?;
        let labels = label_count(&json);
        let head = match json["model_type"].as_str().unwrap_or("absent") {
            "bert" => Head::FirstToken {
                dense: from.linear("bert.pooler.dense", hidden, hidden)?,
                labels: from.linear("classifier", labels, hidden)?,
            },
            "roberta" | "xlm-roberta" => Head::FirstToken {
                dense: from.linear("classifier.dense", hidden, hidden)?,
                labels: from.linear("classifier.out_proj", labels, hidden)?,
            },
            "modernbert" => modernbert(&json, [hidden, labels], &from, refused)?,
            _ => Head::LastToken { labels: from.linear_without_bias("score", labels, hidden)? },
        };
        let pad_token_id = json["pad_token_id"].as_i64();
        Ok(Self { body, head, pad_token_id })
    }

    /// Returns the limits of the model's input.
    pub fn limits(&self) -> TextLimits {
        self.body.limits()
    }

    /// Computes the logits of rows of tokens, of which `segments` has the segment, 0 or 1. No row may be empty.
    /// // -> (B, labels)
    pub fn forward(&self, rows: &[&[i64]], segments: &[&[i64]], device: Device) -> Tensor {
        let width = rows.iter().map(|row| row.len()).max().unwrap_or(0);
        let padded = |rows: &[&[i64]], padding: i64| -> Tensor {
            let mut all = Vec::with_capacity(rows.len() * width);
            for row in rows {
                all.extend_from_slice(row);
                all.extend(std::iter::repeat_n(padding, width - row.len()));
            }
            let shape = [rows.len(), width].map(|n| i64::try_from(n).expect("sizes fit i64"));
            Tensor::from_slice(&all).view(shape).to_device(device) // (B, T)
        };
        let ids = padded(rows, self.limits().pad_token_id);
        let present: Vec<Vec<i64>> = rows.iter().map(|row| vec![1; row.len()]).collect();
        let mask = padded(&present.iter().map(Vec::as_slice).collect::<Vec<_>>(), 0);
        let hidden = self.body.forward_segments(&ids, &padded(segments, 0), &mask).to_kind(Kind::Float); // (B, T, C)
        match &self.head {
            Head::FirstToken { dense, labels } => labels.forward(&dense.forward(&hidden.select(1, 0)).tanh()),
            Head::ModernBert { mean, dense, norm, labels } => {
                let pooled = if *mean { mean_of(&hidden, &mask) } else { hidden.select(1, 0) }; // (B, C)
                labels.forward(&norm.forward(&dense.forward(&pooled).gelu("none")))
            }
            Head::LastToken { labels } => {
                let last: Vec<i64> = rows.iter().map(|row| self.last(row)).collect();
                let (b, _, c) = hidden.size3().expect("hidden is (B, T, C)");
                let last = Tensor::from_slice(&last).to_device(device).view([b, 1, 1]).expand([b, 1, c], false);
                labels.forward(&hidden.gather(1, &last, false).squeeze_dim(1))
            }
        }
    }

    /// Returns the place of the last token other than `pad_token_id`, or 0 if there is none, as transformers does.
    fn last(&self, row: &[i64]) -> i64 {
        let last = match self.pad_token_id {
            Some(pad) => row.iter().rposition(|&id| id != pad).unwrap_or(0),
            None => row.len() - 1,
        };
        i64::try_from(last).expect("lengths fit i64")
    }
}

/// Reads ModernBERT's head. `refused` names `config.json` in an error.
fn modernbert(
    json: &Value,
    [hidden, labels]: [i64; 2],
    from: &Checkpoint,
    refused: impl Fn(String) -> StageError,
) -> StageResult<Head> {
    let mean = match json["classifier_pooling"].as_str() {
        Some("mean") => true,
        Some("cls") | None => false,
        Some(other) => {
            return Err(refused(format!("`classifier_pooling` is \"{other}\"; supported are cls and mean")));
        }
    };
    let activation = &json["classifier_activation"];
    if !activation.is_null() && activation != "gelu" {
        return Err(refused(format!("`classifier_activation` is {activation}; supported is \"gelu\"")));
    }
    let dense = if json["classifier_bias"] == true {
        from.linear("head.dense", hidden, hidden)?
    } else {
        from.linear_without_bias("head.dense", hidden, hidden)?
    };
    let norm = from.layer_norm_without_bias("head.norm", hidden, json["norm_eps"].as_f64().unwrap_or(1e-5))?;
    Ok(Head::ModernBert { mean, dense, norm, labels: from.linear("classifier", labels, hidden)? })
}

/// Returns the number of labels. Without any, transformers has two.
fn label_count(json: &Value) -> i64 {
    let listed = json["id2label"].as_object().and_then(|labels| i64::try_from(labels.len()).ok());
    listed.or_else(|| json["num_labels"].as_i64()).unwrap_or(2)
}

/// Returns the mean vector of each row's tokens. // (B, T, C), (B, T) -> (B, C)
fn mean_of(hidden: &Tensor, mask: &Tensor) -> Tensor {
    let hidden = hidden.masked_fill(&mask.eq(0).unsqueeze(-1), 0.0);
    hidden.sum_dim_intlist(1, false, None) / mask.sum_dim_intlist(1, true, Kind::Float)
}
