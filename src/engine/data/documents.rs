//! Documents for continued pre-training and perplexity.

use super::sequence::Sequence;
use super::templates::{Template, text_field};
use crate::error::{StageError, StageResult};
use crate::tokenizer::Tokenizer;
use orchestrate_core::data::{Row, load_rows};
use orchestrate_core::digest::Digest;
use orchestrate_core::recipe::spec::DataSpec;
use std::collections::BTreeMap;
use std::path::PathBuf;

/// Loads every document of a data set. A document begins with the tokens that the tokenizer puts before a plain text,
/// which is a BOS for some tokenizers and nothing for most. It ends with the end-of-text token. All tokens carry loss.
///
/// # Errors
/// Returns the errors of [`load_rows`], and an error for an empty document.
pub fn documents(
    spec: &DataSpec,
    inputs: &BTreeMap<Digest, PathBuf>,
    tokenizer: &Tokenizer,
) -> StageResult<Vec<Sequence>> {
    documents_of(spec, load_rows(spec, inputs)?, tokenizer)
}

/// Returns the documents of these rows of a data set.
pub(super) fn documents_of(spec: &DataSpec, rows: Vec<Row>, tokenizer: &Tokenizer) -> StageResult<Vec<Sequence>> {
    let template = Template::optional("text", spec.templates.text.as_ref())?;
    let mut locations = Vec::new();
    let mut texts = Vec::new();
    for row in rows {
        let text = template.as_ref().map_or_else(|| text_field(&row), |template| template.render(&row))?;
        if text.trim().is_empty() {
            return Err(StageError::input(format!("{}: the document is empty", row.location)));
        }
        texts.push(text);
        locations.push(row.location);
    }
    let sequence = |(location, mut ids): (String, Vec<i64>)| {
        tokenizer.start_text(&mut ids);
        if ids.last() != Some(&tokenizer.end_of_text()) {
            ids.push(tokenizer.end_of_text());
        }
        Sequence::document(location, ids)
    };
    Ok(locations.into_iter().zip(tokenizer.encode_all(texts)?).map(sequence).collect())
}
