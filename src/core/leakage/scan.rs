//! The search for evaluation questions in a training set.

use super::index::{Hit, Index, Location, is_read};
use super::words::Words;
use crate::data::{DataError, Row, TextFields, for_each_batch, rows_of_split};
use crate::digest::Digest;
use crate::parallel;
use crate::recipe::spec::{DataSpec, TextUse};
use serde::{Deserialize, Serialize};
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::path::PathBuf;

/// The number of examples in an [`Overlap`].
const EXAMPLES: usize = 3;

/// The largest number of characters of a passage in an example.
const PASSAGE: usize = 300;

/// What a training set has in common with an evaluation set.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Overlap {
    /// The number of training rows that were compared, those that `decontaminate` drops included.
    pub rows: usize,
    /// The number of those that have a run of words in common with a question.
    pub overlapping_rows: usize,
    /// The number of questions.
    pub questions: usize,
    /// The number of those that have a run of words in common with a row.
    pub overlapping_questions: usize,
    /// The number of questions that are too short to be compared.
    pub short_questions: usize,
    /// The number of runs that were not counted because they are common to many questions.
    pub common_runs: usize,
    /// The questions that have the largest fraction in common with one row, the worst first.
    pub worst: Vec<Shared>,
}

/// A question and the training row that has most in common with it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Shared {
    /// The question's row.
    pub question: Location,
    /// The first training row with the most runs in common.
    pub row: Location,
    /// The number of different runs in common.
    pub shared: u32,
    /// The number of different runs of the question.
    pub of: u32,
    /// The longest passage in common, as its words.
    pub passage: String,
}

impl Overlap {
    /// The fraction of the questions that have a run of words in common with a row.
    pub fn fraction(&self) -> f64 {
        self.overlapping_questions as f64 / self.questions.max(1) as f64
    }
}

/// The row with the most in common with a question so far.
struct Best {
    hit: Hit,
    row: Location,
}

/// Compares the rows of a training set with the questions of `index`. Returns a result for each evaluation set.
///
/// A set that drops rows (`decontaminate`) is compared as if it did not, up to the row at which its `max_rows` is
/// reached.
///
/// # Errors
/// Returns an error for a file that cannot be read.
pub fn overlaps(
    index: &Index,
    data: &DataSpec,
    used: TextUse,
    inputs: &BTreeMap<Digest, PathBuf>,
) -> Result<Vec<Overlap>, DataError> {
    let fields = TextFields::of(data, used);
    let drops = data.decontaminate.is_some();
    let mut left = data.max_rows.unwrap_or(usize::MAX);
    let mut rows = 0;
    let mut overlapping = vec![0; index.sets.len()];
    let mut best: BTreeMap<u32, Best> = BTreeMap::new();
    for_each_batch(&data.files, inputs, |batch| {
        let found = parallel::map(&batch, |row| {
            let of_row = row.fields()?;
            Ok::<_, DataError>(is_read(data, &of_row).then(|| with_words(|words| index.hits(&fields, &of_row, words))))
        });
        for (row, hits) in batch.iter().zip(found) {
            let Some(hits) = hits? else { continue };
            if left == 0 {
                return Ok::<_, DataError>(ControlFlow::Break(()));
            }
            left -= usize::from(!drops || hits.is_empty());
            rows += 1;
            for (set, count) in index.sets.iter().zip(&mut overlapping) {
                *count += usize::from(hits.iter().any(|hit| set.questions.contains(&(hit.question as usize))));
            }
            for hit in hits {
                if best.get(&hit.question).is_none_or(|best| best.hit.shared < hit.shared) {
                    let row = Location { file: row.file.clone(), place: row.place.to_string() };
                    best.insert(hit.question, Best { hit, row });
                }
            }
        }
        Ok(ControlFlow::Continue(()))
    })?;
    let of_set = |(set, overlapping_rows): (&super::index::Set, usize)| {
        let range = || set.questions.clone();
        let in_set = |question: &u32| range().contains(&(*question as usize));
        let mut worst: Vec<Shared> = Vec::new();
        let mut found: Vec<(&u32, &Best)> = best.iter().filter(|(question, _)| in_set(question)).collect();
        let overlapping_questions = found.len();
        let fraction = |question: u32, best: &Best| {
            f64::from(best.hit.shared) / f64::from(index.questions[question as usize].runs.max(1))
        };
        // by fraction, then by length; questions of equal rank stay in their order
        found.sort_by(|(a, one), (b, other)| {
            fraction(**b, other).total_cmp(&fraction(**a, one)).then(other.hit.shared.cmp(&one.hit.shared))
        });
        for (question, Best { hit, row }) in found.into_iter().take(EXAMPLES) {
            let of = &index.questions[*question as usize];
            let passage = index.passage(hit).chars().take(PASSAGE).collect();
            worst.push(Shared {
                question: of.location.clone(),
                row: row.clone(),
                shared: hit.shared,
                of: of.runs,
                passage,
            });
        }
        Overlap {
            rows,
            overlapping_rows,
            questions: range().len(),
            overlapping_questions,
            short_questions: index.questions[range()].iter().filter(|question| question.runs == 0).count(),
            common_runs: set.common,
            worst,
        }
    };
    Ok(index.sets.iter().zip(overlapping).map(of_set).collect())
}

/// Loads the rows that a training stage reads, without those that have words in common with the questions of its
/// `decontaminate`. Returns the number of these too.
///
/// # Errors
/// Returns the errors of [`crate::data::load_rows`], and an error for a data set of which every row is dropped.
pub fn clean_rows(
    data: &DataSpec,
    used: TextUse,
    inputs: &BTreeMap<Digest, PathBuf>,
) -> Result<(Vec<Row>, usize), DataError> {
    let mut rows = rows_of_split(data, inputs)?;
    let mut dropped = 0;
    if let Some(sets) = &data.decontaminate {
        let index = Index::of(&sets.iter().collect::<Vec<_>>(), inputs)?;
        let fields = TextFields::of(data, used);
        let most = data.max_rows.unwrap_or(usize::MAX);
        let overlaps =
            parallel::map(&rows, |row| with_words(|words| !index.hits(&fields, &row.fields, words).is_empty()));
        let total = rows.len();
        let mut overlaps = overlaps.into_iter();
        let mut kept = 0;
        rows.retain(|_| {
            let overlaps = overlaps.next().unwrap_or(false);
            let is_read = kept < most;
            dropped += usize::from(is_read && overlaps);
            kept += usize::from(is_read && !overlaps);
            is_read && !overlaps
        });
        if rows.is_empty() {
            let message =
                format!("`decontaminate` drops all {total} rows: each has words in common with an evaluation set");
            return Err(DataError::content(message)
                .hinted("evaluate on other rows than those that are trained on, or remove `decontaminate`"));
        }
    }
    rows.truncate(data.max_rows.unwrap_or(usize::MAX));
    Ok((rows, dropped))
}

/// Lends the words of this thread, whose memory is used again for each row.
fn with_words<T>(work: impl FnOnce(&mut Words) -> T) -> T {
    thread_local! {
        static WORDS: RefCell<Words> = RefCell::default();
    }
    WORDS.with_borrow_mut(work)
}
