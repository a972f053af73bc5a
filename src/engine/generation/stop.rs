//! When a completion ends.

use crate::tokenizer::Tokenizer;
use orchestrate_core::event::StopReason;
use orchestrate_core::recipe::spec::Sampling;
use std::collections::BTreeSet;

/// Tokens beyond a stop string's length that are looked at, for those that stand for no text.
const SILENT_TOKENS: usize = 4;

/// What ends a completion before the length limit.
#[derive(Clone, Copy, Debug)]
pub struct Stop<'a> {
    ids: &'a BTreeSet<i64>,
    strings: &'a [String],
    /// Turns tokens into text, for `strings`.
    tokenizer: Option<&'a Tokenizer>,
}

impl<'a> Stop<'a> {
    /// The tokens that end a turn, and the stop strings of `sampling`; these stay part of the completion.
    pub fn new(tokenizer: &'a Tokenizer, sampling: &'a Sampling) -> Self {
        Self { ids: tokenizer.stop_ids(), strings: &sampling.stop_strings, tokenizer: Some(tokenizer) }
    }

    /// These tokens alone.
    pub fn ids(ids: &'a BTreeSet<i64>) -> Self {
        Self { ids, strings: &[], tokenizer: None }
    }

    /// The tokens that end a completion.
    pub(super) fn tokens(&self) -> &'a BTreeSet<i64> {
        self.ids
    }

    /// Why a completion of these tokens ends with the last of them, if it does.
    pub(super) fn reason(&self, ids: &[i64]) -> Option<StopReason> {
        if ids.last().is_some_and(|last| self.ids.contains(last)) {
            return Some(StopReason::StopToken);
        }
        // a token is at least a byte, so this many of the last reach back to where a match could begin
        let found = self.tokenizer.is_some_and(|tokenizer| {
            self.strings.iter().any(|text| {
                let tail = &ids[ids.len().saturating_sub(text.len() + SILENT_TOKENS)..];
                tokenizer.decode(tail).contains(text.as_str())
            })
        });
        found.then_some(StopReason::StopString)
    }
}
