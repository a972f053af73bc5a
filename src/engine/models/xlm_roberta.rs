//! XLM-RoBERTa (arXiv:1911.02116), the encoder of most multilingual sentence embeddings, and RoBERTa
//! (arXiv:1907.11692), which has the same fields. Both are BERT with fairseq's numbering of positions.

use super::bert::{self, BertConfig, Positions};
use tch::{Kind, Tensor};

/// Reads an XLM-RoBERTa or RoBERTa `config.json`.
pub(super) fn config(json: &serde_json::Value) -> Result<BertConfig, String> {
    let config = bert::config(json)?;
    let pad_token_id = config.pad_token_id.unwrap_or(1);
    if !(0..config.max_position_embeddings - 1).contains(&pad_token_id) {
        return Err(format!("`pad_token_id` {pad_token_id} leaves no position below `max_position_embeddings`"));
    }
    Ok(BertConfig { positions: Positions::After { pad_token_id }, ..config })
}

/// Returns the positions of tokens, numbered from `pad_token_id + 1`. Padding has position `pad_token_id`.
/// // (B, T) -> (B, T)
pub(super) fn position_ids(input_ids: &Tensor, pad_token_id: i64) -> Tensor {
    let counted = input_ids.ne(pad_token_id).to_kind(Kind::Int64);
    counted.cumsum(1, Kind::Int64) * counted + pad_token_id
}
