//! Documents for continued pre-training and perplexity.

use super::rows::load_rows;
use super::templates::{Template, text_field};
use crate::error::{StageError, StageResult};
use crate::tokenizer::Tokenizer;
use orchestrate::digest::Digest;
use orchestrate::recipe::spec::DataSpec;
use std::collections::BTreeMap;
use std::path::PathBuf;

/// Every document of a data set as tokens, ended by the token that ends a text; empty ones are an error.
pub fn tokenized_documents(
    spec: &DataSpec,
    inputs: &BTreeMap<Digest, PathBuf>,
    tokenizer: &Tokenizer,
) -> StageResult<Vec<Vec<i64>>> {
    let template = Template::optional("text", spec.templates.text.as_ref())?;
    let rows = load_rows(spec, inputs)?;
    let texts = rows
        .iter()
        .map(|row| {
            let text = template.as_ref().map_or_else(|| text_field(row), |template| template.render(row))?;
            if text.trim().is_empty() {
                return Err(StageError::input(format!("{}: the document is empty", row.location)));
            }
            Ok(text)
        })
        .collect::<StageResult<Vec<String>>>()?;
    let mut documents = tokenizer.encode_all(texts)?;
    for document in &mut documents {
        document.push(tokenizer.end_of_turn());
    }
    Ok(documents)
}
