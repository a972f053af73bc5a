//! Conditions that end a completion.

use crate::tokenizer::Tokenizer;
use orchestrate_core::event::StopReason;
use orchestrate_core::recipe::spec::Sampling;
use std::collections::BTreeSet;

/// Extra tokens that are decoded beyond a stop string's length, since some tokens decode to no text.
const SILENT_TOKENS: usize = 4;

/// The conditions that end a completion before the length limit.
#[derive(Clone, Copy, Debug)]
pub struct Stop<'a> {
    ids: &'a BTreeSet<i64>,
    strings: &'a [String],
    /// Decodes tokens for the search of `strings`; absent if there are none.
    tokenizer: Option<&'a Tokenizer>,
}

impl<'a> Stop<'a> {
    /// Returns the conditions of a turn: the tokenizer's stop tokens and the stop strings of `sampling`. Both stay part
    /// of the completion.
    pub fn new(tokenizer: &'a Tokenizer, sampling: &'a Sampling) -> Self {
        Self { ids: tokenizer.stop_ids(), strings: &sampling.stop_strings, tokenizer: Some(tokenizer) }
    }

    /// Returns the condition that one of these tokens is drawn.
    pub fn ids(ids: &'a BTreeSet<i64>) -> Self {
        Self { ids, strings: &[], tokenizer: None }
    }

    /// Tokens that end a completion.
    pub(super) fn tokens(&self) -> &'a BTreeSet<i64> {
        self.ids
    }

    /// Returns the reason for which a completion of these tokens ends with the last of them, if it ends.
    pub(super) fn reason(&self, ids: &[i64]) -> Option<StopReason> {
        if ids.last().is_some_and(|last| self.ids.contains(last)) {
            return Some(StopReason::StopToken);
        }
        // a token is at least one byte, so this tail reaches back to where a match could begin
        let found = self.tokenizer.is_some_and(|tokenizer| {
            self.strings.iter().any(|text| {
                let tail = &ids[ids.len().saturating_sub(text.len() + SILENT_TOKENS)..];
                tokenizer.decode(tail).contains(text.as_str())
            })
        });
        found.then_some(StopReason::StopString)
    }
}
