//! `shuffle_references`: each row is compared with another row's reference and answer.

use super::Sample;
use super::draw::bits;

/// The texts of a row from which completions are rated.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct RowTexts {
    /// The prompt, as in [`Sample::prompt`].
    pub prompt: String,
    /// The reference text.
    pub reference: Option<String>,
    /// The correct answer.
    pub answer: Option<String>,
}

/// The reference and answer of a row.
type Own<'a> = (Option<&'a str>, Option<&'a str>);

/// The rows of a stage, from which each row is assigned another one for the whole stage.
pub(super) struct Shuffle {
    /// The stage's seed.
    seed: u64,
    /// The distinct rows, sorted, so that their order in files has no effect.
    rows: Vec<RowTexts>,
}

impl RowTexts {
    fn own(&self) -> Own<'_> {
        (self.reference.as_deref(), self.answer.as_deref())
    }
}

impl Shuffle {
    pub(super) fn new(seed: u64, mut rows: Vec<RowTexts>) -> Self {
        rows.sort_unstable();
        rows.dedup();
        Self { seed, rows }
    }

    /// Returns `sample` with the reference and answer of another row.
    ///
    /// The row is drawn by a hash of the stage's seed and the sample's own row. With references, its reference differs
    /// from the sample's. Without such a row, both texts are absent.
    pub(super) fn shuffled<'a>(&'a self, sample: &Sample<'a>) -> Sample<'a> {
        let Sample { prompt, reference, answer, .. } = *sample;
        let labels = ["another row", prompt, reference.unwrap_or_default(), answer.unwrap_or_default()];
        let count = self.rows.len();
        let first = usize::try_from(bits(self.seed, &labels) % count.max(1) as u64).expect("an index fits");
        let fits = |row: &&RowTexts| {
            let (theirs, their_answer) = row.own();
            let has_same_texts = theirs.is_some() == reference.is_some() && their_answer.is_some() == answer.is_some();
            let is_other = match reference {
                Some(_) => theirs != reference,
                None => row.prompt != prompt,
            };
            has_same_texts && is_other
        };
        let from_first = self.rows[first.min(count)..].iter().chain(&self.rows[..first.min(count)]);
        let (reference, answer) = from_first.into_iter().find(fits).map(RowTexts::own).unwrap_or_default();
        Sample { reference, answer, ..*sample }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rewards::testing::sample;
    use std::collections::BTreeMap;

    fn rows(count: usize, distinct_references: usize) -> Vec<RowTexts> {
        let row = |row: usize| RowTexts {
            prompt: format!("question {row}"),
            reference: Some(format!("reference {}", row % distinct_references)),
            answer: Some(["A", "B", "C", "D"][row % 4].to_owned()),
        };
        (0..count).map(row).collect()
    }

    fn of(row: &RowTexts) -> Sample<'_> {
        Sample {
            prompt: &row.prompt,
            reference: row.reference.as_deref(),
            answer: row.answer.as_deref(),
            ..sample("text")
        }
    }

    #[test]
    fn a_row_gets_another_rows_texts_whatever_the_order_of_the_file() {
        let rows = rows(200, 50);
        let shuffle = Shuffle::new(5, rows.clone());
        let reversed = Shuffle::new(5, rows.iter().rev().cloned().collect());
        let other_seed = Shuffle::new(6, rows.clone());
        let mut moved = 0;
        for row in &rows {
            let found = shuffle.shuffled(&of(row));
            assert_ne!(found.reference, row.reference.as_deref());
            assert_eq!((found.prompt, found.completion), (&*row.prompt, "text"));
            let is_of_one_row = |one: &RowTexts| one.own() == (found.reference, found.answer);
            assert!(rows.iter().any(is_of_one_row), "the texts are of one row");
            let again = reversed.shuffled(&of(row));
            assert_eq!((found.reference, found.answer), (again.reference, again.answer));
            let elsewhere = other_seed.shuffled(&of(row));
            moved += usize::from(elsewhere.reference != found.reference);
        }
        assert!(moved > 180, "another seed assigns other rows: {moved}");
    }

    #[test]
    fn without_references_the_answer_of_another_row_says_nothing_about_the_rows_own() {
        let rows: Vec<RowTexts> = rows(2000, 1).into_iter().map(|row| RowTexts { reference: None, ..row }).collect();
        let shuffle = Shuffle::new(9, rows.clone());
        let mut counts: BTreeMap<(&str, &str), f64> = BTreeMap::new();
        for row in &rows {
            let own = row.answer.as_deref().unwrap();
            *counts.entry((own, shuffle.shuffled(&of(row)).answer.unwrap())).or_default() += 1.0;
        }
        // chi-squared of independence with 9 degrees of freedom; 27.9 is exceeded once in a thousand tables
        let expected = 2000.0 / 16.0;
        let chi: f64 = counts.values().map(|count| (count - expected).powi(2) / expected).sum();
        assert!(chi < 35.0 && counts.len() == 16, "{chi} {counts:?}");
    }

    #[test]
    fn where_all_references_are_equal_there_is_none() {
        let rows = rows(8, 1);
        let shuffle = Shuffle::new(1, rows.clone());
        let found = shuffle.shuffled(&of(&rows[0]));
        assert_eq!((found.reference, found.answer), (None, None));
        let empty = Shuffle::new(1, Vec::new());
        assert_eq!(empty.shuffled(&of(&rows[0])).reference, None);
    }
}
