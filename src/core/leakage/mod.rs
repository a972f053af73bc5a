//! Leakage: evaluation questions that occur in training data.
//!
//! A training row and a question overlap if they have eight words in a row in common, as in open-r1's
//! `decontaminate.py`. The words are those of a row's fields, so the instructions of a template do not count. A
//! question text of four to seven words overlaps with a training text of exactly these words. Shorter texts are not
//! compared.
//!
//! A run of words that occurs in more than ten questions of a set, and in more than 5% of them, identifies no question
//! and is left out.
//!
//! The result is exact: a rolling hash finds candidates, and their words are compared. The questions are held in
//! memory, about 40 bytes for each of their words. Training rows are read in parts of 4 MiB.

mod index;
mod scan;
#[cfg(test)]
mod tests;
mod words;

pub use index::{COMMON_FRACTION, COMMON_QUESTIONS, Index, Location};
pub use scan::{Overlap, Shared, clean_rows, overlaps};
pub use words::{RUN, SHORTEST};

/// The version of the comparison, part of the keys of its memo.
pub const VERSION: u32 = 1;
