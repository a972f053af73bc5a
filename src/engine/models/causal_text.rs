//! Decoders as text models: Qwen3-Embedding (arXiv:2506.05176), whose last token, the end-of-text token that the
//! tokenizer adds, gives the text's vector; and decoders with a head for sequence classification.

use super::decoder::Decoder;
use super::packed::Packed;
use super::text_model::{TextLimits, TextModel};
use crate::error::{StageError, StageResult};
use std::path::Path;
use tch::{Device, Kind, Tensor};

/// A decoder without its language-model head.
#[derive(Debug)]
pub(super) struct CausalText {
    decoder: Decoder,
    pad_token_id: i64,
}

impl CausalText {
    /// Loads the model in `dir`, whose `config.json` is `json`.
    ///
    /// # Errors
    /// Returns the errors of [`Decoder::load_body`], and an error for bidirectional attention, which some derived
    /// models have.
    pub(super) fn load(dir: &Path, json: &serde_json::Value, kind: Kind, device: Device) -> StageResult<Self> {
        if json["is_causal"] == false {
            let path = dir.join("config.json");
            return Err(StageError::input(format!(
                "`{}`: `is_causal` is false, which is not supported",
                path.display()
            )));
        }
        let pad_token_id = json["pad_token_id"].as_i64().unwrap_or(0);
        Ok(Self { decoder: Decoder::load_body(dir, kind, device)?, pad_token_id })
    }
}

impl TextModel for CausalText {
    fn limits(&self) -> TextLimits {
        let config = &self.decoder.config;
        TextLimits {
            vocab_size: config.vocab_size,
            max_tokens: config.max_position_embeddings,
            pad_token_id: self.pad_token_id,
            causal: true,
        }
    }

    fn forward(&self, input_ids: &Tensor, attention_mask: &Tensor) -> Tensor {
        let (b, t) = input_ids.size2().expect("input_ids is (B, T)");
        let visible = attention_mask.ne(0); // (B, T)
        let lengths = visible.sum_dim_intlist(1, false, Kind::Int64);
        let positions = (visible.cumsum(1, Kind::Int64) - 1).masked_select(&visible);
        // only tokens are computed, on whichever side the padding is
        let packed = Packed {
            input_ids: input_ids.masked_select(&visible),
            positions,
            lengths: Vec::<i64>::try_from(lengths).expect("counts are integers"),
            completions: Vec::new(),
        };
        let hidden = self.decoder.hidden(&packed); // (N, C)
        let padded = hidden.new_zeros([b * t, hidden.size()[1]], (hidden.kind(), hidden.device()));
        let places = visible.view([-1]).nonzero().squeeze_dim(1); // (N,)
        padded.index_copy(0, &places, &hidden).view([b, t, -1])
    }
}
