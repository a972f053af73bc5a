//! Conversations with a loss mask by role, for supervised fine-tuning.
//!
//! The chat template renders a conversation once, as a whole. The position of each turn in the text is found by
//! rendering the turns before it alone. If the whole text does not begin with that rendering, the row is rejected,
//! since its mask would be a guess.
//!
//! The text is then encoded as a whole. A token belongs to the turn that contains its last byte, so a token across a
//! boundary belongs to the later turn. A turn's loss ends with its last stop token. Most templates write a line break
//! after it, which the model never writes itself.
//!
//! The chat template does not render the text of a `completion` template. That text is the model's completion, word for
//! word. It is encoded by itself, as sampling continues a prompt.

use super::sequence::Sequence;
use super::turns::{Conversation, Source, Turn, refuse_long, render};
use crate::error::{StageError, StageResult};
use crate::tokenizer::{Encoded, Tokenizer};
use orchestrate_core::data::{Row, load_rows};
use orchestrate_core::digest::Digest;
use orchestrate_core::recipe::spec::{DataSpec, Role};
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::path::PathBuf;

/// Returns every row's conversation. The turns of the roles `train_on` carry loss, each with the token that ends it.
///
/// # Errors
/// Returns an error for:
///
/// - a row without a needed field
/// - an empty prompt or completion
/// - a row of more than `seq_len` tokens
/// - a chat template that rewrites earlier turns
pub fn conversations(
    spec: &DataSpec,
    inputs: &BTreeMap<Digest, PathBuf>,
    tokenizer: &Tokenizer,
    seq_len: usize,
    train_on: &BTreeSet<Role>,
) -> StageResult<Vec<Sequence>> {
    conversations_of(spec, load_rows(spec, inputs)?, tokenizer, seq_len, train_on)
}

/// Returns the conversations of these rows of a data set.
pub(super) fn conversations_of(
    spec: &DataSpec,
    rows: Vec<Row>,
    tokenizer: &Tokenizer,
    seq_len: usize,
    train_on: &BTreeSet<Role>,
) -> StageResult<Vec<Sequence>> {
    let source = Source::new(spec, true)?;
    let mut texts = Vec::new();
    let mut completions = Vec::new();
    let mut rendered = Vec::new();
    for row in rows {
        let Conversation { turns, completion } = source.read(&row, tokenizer.has_chat_template())?;
        let text = render(tokenizer, &turns, completion.is_some(), &row.location)?;
        let trained = trained_ranges(tokenizer, &turns, &text, train_on, &row.location)?;
        rendered.push(Rendered { location: row.location, trained, has_completion: completion.is_some() });
        texts.push(text);
        completions.push(completion.unwrap_or_default());
    }
    let texts = tokenizer.encode_all_with_ends(texts)?;
    let completions = tokenizer.encode_all(completions)?;
    let sequences: Vec<Sequence> = rendered
        .into_iter()
        .zip(texts.into_iter().zip(completions))
        .map(|(rendered, (text, completion))| rendered.sequence(text, completion, tokenizer, train_on))
        .collect::<StageResult<_>>()?;
    let lengths = sequences.iter().map(|sequence| (sequence.location.as_str(), sequence.ids.len()));
    refuse_long(lengths, seq_len, "seq_len", "prompt and completion together")?;
    Ok(sequences)
}

/// A row whose text is rendered but not yet encoded.
struct Rendered {
    location: String,
    /// Byte ranges of the text that carry loss.
    trained: Vec<Range<usize>>,
    has_completion: bool,
}

impl Rendered {
    fn sequence(
        self,
        text: Encoded,
        completion: Vec<i64>,
        tokenizer: &Tokenizer,
        train_on: &BTreeSet<Role>,
    ) -> StageResult<Sequence> {
        let Encoded { mut ids, ends } = text;
        let mut trained = mask(&ids, &ends, &self.trained, tokenizer.stop_ids());
        if !tokenizer.has_chat_template() {
            let before = ids.len();
            tokenizer.start_text(&mut ids);
            trained.splice(0..0, std::iter::repeat_n(false, ids.len() - before));
        }
        if self.has_completion {
            if completion.is_empty() {
                let message = format!("{}: the template `completion` renders no trainable token", self.location);
                return Err(StageError::input(message));
            }
            ids.extend(completion);
            ids.push(tokenizer.end_of_turn());
            trained.resize(ids.len(), train_on.contains(&Role::Assistant));
        }
        Ok(Sequence::new(self.location, ids, trained))
    }
}

/// Returns the byte ranges of `whole` with the turns of the roles `train_on`. An assistant's turn begins after the
/// generation prompt. Any other turn includes the text that the template writes before it.
fn trained_ranges(
    tokenizer: &Tokenizer,
    turns: &[Turn],
    whole: &str,
    train_on: &BTreeSet<Role>,
    location: &str,
) -> StageResult<Vec<Range<usize>>> {
    let prefix = |count: usize, add_generation_prompt: bool| -> StageResult<usize> {
        let text = render(tokenizer, &turns[..count], add_generation_prompt, location)?;
        if whole.starts_with(&text) {
            return Ok(text.len());
        }
        Err(StageError::input(format!(
            "{location}: the chat template renders the first {count} of {} messages differently when the others follow, so \
             the tokens of each turn cannot be identified",
            turns.len()
        ))
        .hinted(
            "some templates strip the reasoning of earlier turns: write one row for each of the assistant's turns, ending \
             with it, or put a `chat_template.jinja` that keeps earlier turns beside the tokenizer",
        ))
    };
    let mut ranges = Vec::new();
    for (index, turn) in turns.iter().enumerate().filter(|(_, turn)| train_on.contains(&turn.role)) {
        let by_assistant = turn.role == Role::Assistant;
        let start = if index == 0 && !by_assistant { 0 } else { prefix(index, by_assistant)? };
        ranges.push(start..prefix(index + 1, false)?);
    }
    Ok(ranges)
}

/// Returns whether each token carries loss: it ends inside one of `ranges`, and no later than the last stop token
/// there.
fn mask(ids: &[i64], ends: &[usize], ranges: &[Range<usize>], stop_ids: &BTreeSet<i64>) -> Vec<bool> {
    let mut trained = vec![false; ids.len()];
    for range in ranges {
        let first = ends.partition_point(|&end| end <= range.start);
        let after = ends.partition_point(|&end| end <= range.end);
        let stop = (first..after).rfind(|&token| stop_ids.contains(&ids[token]));
        trained[first..stop.map_or(after, |stop| stop + 1)].fill(true);
    }
    trained
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_over_a_boundary_belongs_to_the_later_turn_and_loss_ends_with_the_stop_token() {
        // bytes: 0..4 prompt, 4..9 answer; the second token ends at byte 5, inside the answer; 99 is a stop token, 4 a
        // line break
        let (ids, ends) = ([1, 2, 3, 99, 4], [3, 5, 7, 8, 9]);
        let (whole, prompt, answer) = ([0..4, 4..9], std::slice::from_ref(&(0..4)), std::slice::from_ref(&(4..9)));
        let stop = BTreeSet::from([99]);
        assert_eq!(mask(&ids, &ends, answer, &stop), [false, true, true, true, false]);
        assert_eq!(mask(&ids, &ends, answer, &BTreeSet::new()), [false, true, true, true, true]);
        assert_eq!(mask(&ids, &ends, prompt, &stop), [true, false, false, false, false]);
        assert_eq!(mask(&ids, &ends, &whole, &stop), [true, true, true, true, false]);
    }
}
