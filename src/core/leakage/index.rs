//! The runs of words of evaluation questions, in which those of training rows are looked up.

use super::words::{Run, Words};
use crate::data::{DataError, TextFields, Unparsed, for_each_batch, side};
use crate::digest::Digest;
use crate::parallel;
use crate::recipe::spec::{DataSpec, Evaluated, Split};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use std::collections::BTreeMap;
use std::ops::{ControlFlow, Range};
use std::path::PathBuf;

/// A run that occurs in more questions of a set than this, and in a larger fraction than [`COMMON_FRACTION`], is common
/// to the questions and identifies none.
pub const COMMON_QUESTIONS: usize = 10;

/// The fraction of a set's questions above which a run is common.
pub const COMMON_FRACTION: f64 = 0.05;

/// The place of a row: its file and its line or number there.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Location {
    /// The digest of the file.
    pub file: Digest,
    /// The line, or `row N`.
    pub place: String,
}

/// The questions of one evaluation set.
#[derive(Clone, Debug)]
pub(super) struct Set {
    /// Its questions, in [`Index::questions`].
    pub(super) questions: Range<usize>,
    /// The number of runs that were left out because they are common to the questions.
    pub(super) common: usize,
}

/// A question with the number of different runs by which it is found.
#[derive(Clone, Debug)]
pub(super) struct Question {
    pub(super) location: Location,
    pub(super) runs: u32,
}

/// An occurrence of a run in a question.
#[derive(Clone, Copy, Debug)]
struct Posting {
    hash: u64,
    text: u32,
    start: u32,
}

/// The runs of all questions of some evaluation sets.
#[derive(Debug, Default)]
pub struct Index {
    texts: Vec<(u32, Words)>,
    pub(super) questions: Vec<Question>,
    pub(super) sets: Vec<Set>,
    /// The occurrences, sorted by hash.
    postings: Vec<Posting>,
    /// Where the postings of each value of the leading digits of a hash begin; last their number.
    starts: Vec<u32>,
    /// The number of leading digits.
    digits: u32,
}

/// The part of a row that a question has too.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Hit {
    /// The question, in [`Index::questions`].
    pub(super) question: u32,
    /// The number of different runs in common.
    pub(super) shared: u32,
    text: u32,
    /// The first words in common and their number, of the longest passage.
    start: u32,
    length: u32,
}

impl Index {
    /// Reads the questions of `sets`.
    ///
    /// # Errors
    /// Returns an error for a file that cannot be read.
    pub fn of(sets: &[&Evaluated], inputs: &BTreeMap<Digest, PathBuf>) -> Result<Self, DataError> {
        let mut index = Self::default();
        for set in sets {
            let fields = TextFields::of(&set.data, set.used);
            let first = index.questions.len();
            for_rows(&set.data, inputs, |row, of_row| {
                let question = u32::try_from(index.questions.len()).map_err(|_| too_many())?;
                let location = Location { file: row.file.clone(), place: row.place.to_string() };
                index.questions.push(Question { location, runs: 0 });
                fields.each(of_row, &mut |raw| {
                    let mut words = Words::default();
                    words.read(raw);
                    if words.runs().next().is_some() {
                        index.texts.push((question, words));
                    }
                });
                Ok(true)
            })?;
            index.sets.push(Set { questions: first..index.questions.len(), common: 0 });
        }
        index.collect()?;
        Ok(index)
    }

    /// Sorts the runs of all texts, and leaves out those that are common.
    fn collect(&mut self) -> Result<(), DataError> {
        for (text, (_, words)) in self.texts.iter().enumerate() {
            let text = u32::try_from(text).map_err(|_| too_many())?;
            self.postings.extend(words.runs().map(|Run { start, hash }| Posting { hash, text, start }));
        }
        if u32::try_from(self.postings.len()).is_err() {
            return Err(too_many());
        }
        self.postings.sort_unstable_by_key(|posting| (posting.hash, posting.text, posting.start));
        self.leave_out_common();
        let mut last = (0, u32::MAX);
        for posting in &self.postings {
            let question = self.texts[posting.text as usize].0;
            if last != (posting.hash, question) {
                last = (posting.hash, question);
                self.questions[question as usize].runs += 1;
            }
        }
        self.digits = self.postings.len().max(2).ilog2();
        self.starts = Vec::with_capacity((1 << self.digits) + 1);
        for leading in 0..=1_u64 << self.digits {
            let from = self.starts.last().map_or(0, |start| *start as usize);
            let after = self.postings[from..].partition_point(|posting| self.leading(posting.hash) < leading);
            self.starts.push(u32::try_from(from + after).expect("it was checked"));
        }
        Ok(())
    }

    fn leave_out_common(&mut self) {
        let set_of = |question: u32| {
            self.sets.iter().position(|set| set.questions.contains(&(question as usize))).expect("of a set")
        };
        let mut kept = Vec::with_capacity(self.postings.len());
        let mut common = vec![0; self.sets.len()];
        for same in self.postings.chunk_by(|one, other| one.hash == other.hash) {
            if same.len() <= COMMON_QUESTIONS {
                kept.extend_from_slice(same);
                continue;
            }
            let mut questions: Vec<u32> = same.iter().map(|posting| self.texts[posting.text as usize].0).collect();
            questions.dedup(); // texts are in the order of their questions
            let mut in_set = vec![0_usize; self.sets.len()];
            for question in &questions {
                in_set[set_of(*question)] += 1;
            }
            let is_common = |set: usize| {
                let limit = COMMON_FRACTION * self.sets[set].questions.len() as f64;
                in_set[set] > COMMON_QUESTIONS && in_set[set] as f64 > limit
            };
            (0..common.len()).filter(|set| is_common(*set)).for_each(|set| common[set] += 1);
            kept.extend(same.iter().filter(|posting| !is_common(set_of(self.texts[posting.text as usize].0))));
        }
        self.postings = kept;
        for (set, common) in self.sets.iter_mut().zip(common) {
            set.common = common;
        }
    }

    fn leading(&self, hash: u64) -> u64 {
        hash >> (64 - self.digits)
    }

    /// Returns what a row with these texts has in common with each question, in the order of the questions.
    pub(super) fn hits(&self, fields: &TextFields, row: &Map<String, Value>, words: &mut Words) -> Vec<Hit> {
        let mut found: Vec<(u32, Posting)> = Vec::new();
        fields.each(row, &mut |raw| {
            words.read(raw);
            let length = words.run_length();
            for Run { start, hash } in words.runs() {
                for posting in self.of_hash(hash) {
                    let (question, theirs) = &self.texts[posting.text as usize];
                    // a hash alone does not prove that the words are the same
                    if theirs.run_length() == length
                        && theirs.slice(posting.start, length) == words.slice(start, length)
                    {
                        found.push((*question, *posting));
                    }
                }
            }
        });
        found.sort_unstable_by_key(|(question, posting)| (*question, posting.text, posting.start));
        found.dedup_by_key(|(question, posting)| (*question, posting.text, posting.start));
        found.chunk_by(|one, other| one.0 == other.0).map(|of_question| self.hit(of_question)).collect()
    }

    fn of_hash(&self, hash: u64) -> impl Iterator<Item = &Posting> {
        let postings = if self.postings.is_empty() {
            &[][..]
        } else {
            let leading = usize::try_from(self.leading(hash)).expect("digits fit");
            &self.postings[self.starts[leading] as usize..self.starts[leading + 1] as usize]
        };
        postings.iter().filter(move |posting| posting.hash == hash)
    }

    /// Summarizes the runs that a row and a question have in common, which are sorted by text and start.
    fn hit(&self, found: &[(u32, Posting)]) -> Hit {
        let mut hashes: Vec<u64> = found.iter().map(|(_, posting)| posting.hash).collect();
        hashes.sort_unstable();
        hashes.dedup();
        let follows =
            |one: &(u32, Posting), next: &(u32, Posting)| one.1.text == next.1.text && one.1.start + 1 == next.1.start;
        // the first of the longest passages
        let longest = found.chunk_by(follows).rev().max_by_key(|passage| passage.len()).unwrap_or(found);
        let (question, Posting { text, start, .. }) = longest[0];
        let run = self.texts[text as usize].1.run_length();
        let length = u32::try_from(run + longest.len() - 1).unwrap_or(u32::MAX);
        Hit { question, shared: u32::try_from(hashes.len()).unwrap_or(u32::MAX), text, start, length }
    }

    /// Returns the words of the longest passage in common.
    pub(super) fn passage(&self, hit: &Hit) -> &str {
        self.texts[hit.text as usize].1.slice(hit.start, hit.length as usize)
    }

    /// The memory that the index takes, in bytes.
    pub fn bytes(&self) -> usize {
        let texts: usize = self.texts.iter().map(|(_, words)| words.bytes()).sum();
        texts + self.postings.capacity() * size_of::<Posting>() + self.starts.capacity() * size_of::<u32>()
    }
}

/// Calls `take` with the rows of a data set that its stage reads, until it returns false.
fn for_rows(
    data: &DataSpec,
    inputs: &BTreeMap<Digest, PathBuf>,
    mut take: impl FnMut(&Unparsed<'_>, &Map<String, Value>) -> Result<bool, DataError>,
) -> Result<(), DataError> {
    let mut left = data.max_rows.unwrap_or(usize::MAX);
    for_each_batch(&data.files, inputs, |batch| {
        let parsed = parallel::map(&batch, |row| {
            let fields = row.fields()?.into_owned();
            Ok::<_, DataError>(is_read(data, &fields).then_some(fields))
        });
        for (row, fields) in batch.iter().zip(parsed) {
            let Some(fields) = fields? else { continue };
            if left == 0 || !take(row, &fields)? {
                return Ok(ControlFlow::Break(()));
            }
            left -= 1;
        }
        Ok(ControlFlow::Continue(()))
    })
}

/// Whether a row is on the side of the split that a stage reads.
pub(super) fn is_read(data: &DataSpec, row: &Map<String, Value>) -> bool {
    data.split == Split::All || side(row, data.fractions()) == data.split
}

fn too_many() -> DataError {
    DataError::content("the evaluation sets have too many words to compare them with the training data")
        .hinted("limit them with `max_rows`")
}
