//! Text processing for components: spans, words, stems, numbers, choices, and excerpts for explanations.

pub(super) mod choice;
pub(super) mod explain;
pub(super) mod lcs;
pub(super) mod numbers;
pub(super) mod spans;
pub(super) mod stem;
pub(super) mod words;
