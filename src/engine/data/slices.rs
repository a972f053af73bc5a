//! The slices of the questions of an evaluation or arena: the value of each expression of `by`, as text.

use super::templates::Template;
use crate::error::{StageError, StageResult};
use orchestrate_core::data::load_rows;
use orchestrate_core::digest::Digest;
use orchestrate_core::recipe::spec::DataSpec;
use orchestrate_core::slice::Slice;
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

/// Returns the value of each expression of `by` for every row, in the order of [`super::prompts()`].
///
/// # Errors
/// Returns an error for a row without a needed field, for a value of more than [`Slice::LONGEST`] characters, and for
/// an expression with more than [`Slice::MOST`] different values.
pub fn slices(
    spec: &DataSpec,
    by: &BTreeSet<String>,
    inputs: &BTreeMap<Digest, PathBuf>,
) -> StageResult<Vec<BTreeMap<String, String>>> {
    let mut expressions = Vec::new();
    for by in by {
        expressions.push((by, Template::new("by", &format!("{{{{ ({by}) }}}}"))?, BTreeSet::new()));
    }
    if expressions.is_empty() {
        return Ok(Vec::new());
    }
    let mut rows = Vec::new();
    for row in load_rows(spec, inputs)? {
        let mut values = BTreeMap::new();
        for (by, template, known) in &mut expressions {
            let value = template.render(&row)?;
            let at = &row.location;
            if value.chars().count() > Slice::LONGEST {
                let message = format!(
                    "{at}: the value of `{by}` has more than {} characters, so it names no slice",
                    Slice::LONGEST
                );
                return Err(StageError::input(message).hinted("`by` names fields with few short values"));
            }
            known.insert(value.clone());
            if known.len() > Slice::MOST {
                let message = format!("{at}: `{by}` has more than {} different values", Slice::MOST);
                return Err(StageError::input(message).hinted(
                    "each value is a slice with metrics of its own: write an expression with fewer values, for example \
                     `'hard' if level >= 3 else 'easy'`",
                ));
            }
            values.insert((*by).clone(), value);
        }
        rows.push(values);
    }
    Ok(rows)
}
