//! Token sequences with their loss masks, and the rows they are packed in.

use super::pack::pack;

/// Tokens with a mask of those that carry loss.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sequence {
    /// `FILE:LINE` of the row that the sequence was made from.
    pub location: String,
    /// Tokens of a conversation, a document, or a piece of one.
    pub ids: Vec<i64>,
    trained: Vec<bool>,
}

impl Sequence {
    /// Creates a sequence whose tokens carry loss where `trained` is true. The first token never does, since no token
    /// predicts it.
    ///
    /// # Panics
    /// Panics if `trained` and `ids` differ in length.
    pub fn new(location: String, ids: Vec<i64>, mut trained: Vec<bool>) -> Self {
        assert_eq!(ids.len(), trained.len(), "every token is trained or not");
        if let Some(first) = trained.first_mut() {
            *first = false;
        }
        Self { location, ids, trained }
    }

    /// Creates a sequence in which all tokens but the first carry loss.
    pub fn document(location: String, ids: Vec<i64>) -> Self {
        let trained = vec![true; ids.len()];
        Self::new(location, ids, trained)
    }

    /// Returns whether each token carries loss.
    pub fn trained(&self) -> &[bool] {
        &self.trained
    }

    /// The number of tokens that carry loss.
    pub fn trained_tokens(&self) -> usize {
        self.trained.iter().filter(|&&trained| trained).count()
    }

    /// Iterates over the tokens that carry loss, each with its position, which is at least 1.
    pub fn targets(&self) -> impl Iterator<Item = (usize, i64)> {
        self.ids
            .iter()
            .copied()
            .enumerate()
            .zip(&self.trained)
            .filter(|(_, trained)| **trained)
            .map(|(target, _)| target)
    }
}

/// A row of a batch: sequences that do not attend to each other.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PackedRow {
    /// The row's sequences, at least one.
    pub sequences: Vec<Sequence>,
}

/// Puts each sequence into its own row.
pub fn one_a_row(sequences: &[Sequence]) -> Vec<PackedRow> {
    sequences.iter().map(|sequence| PackedRow { sequences: vec![sequence.clone()] }).collect()
}

/// Packs sequences best-fit into rows of at most `seq_len` tokens. A longer sequence is cut into pieces.
pub fn packed_rows(sequences: &[Sequence], seq_len: usize) -> Vec<PackedRow> {
    let lengths: Vec<usize> = sequences.iter().map(|sequence| sequence.ids.len()).collect();
    let piece = |span: super::pack::Span| {
        let Sequence { location, ids, trained } = &sequences[span.document];
        let range = span.start..span.start + span.length;
        Sequence::new(location.clone(), ids[range.clone()].to_vec(), trained[range].to_vec())
    };
    pack(&lengths, seq_len)
        .into_iter()
        .map(|spans| PackedRow { sequences: spans.into_iter().map(piece).collect() })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sequence(ids: &[i64], trained: &[bool]) -> Sequence {
        Sequence::new("a:1".to_owned(), ids.to_vec(), trained.to_vec())
    }

    #[test]
    fn the_first_token_never_carries_loss() {
        let document = Sequence::document("a:1".to_owned(), vec![5, 6, 7]);
        assert_eq!(document.targets().collect::<Vec<_>>(), [(1, 6), (2, 7)]);
        assert_eq!(document.trained_tokens(), 2);
    }

    #[test]
    fn packing_keeps_each_sequence_with_its_mask() {
        let all = [sequence(&[1, 2, 3], &[false, false, true]), sequence(&[4, 5], &[false, true])];
        let rows = packed_rows(&all, 5);
        assert_eq!(rows.len(), 1);
        assert_eq!(rows[0].sequences, all);
        assert_eq!(packed_rows(&all, 4).len(), 2);
    }

    #[test]
    fn the_first_token_of_a_cut_off_piece_carries_no_loss() {
        let rows = packed_rows(&[Sequence::document("a:1".to_owned(), vec![1, 2, 3, 4, 5])], 3);
        let trained: Vec<&[bool]> = rows.iter().flat_map(|row| &row.sequences).map(Sequence::trained).collect();
        assert_eq!(trained, [&[false, true, true][..], &[false, true]]);
    }
}
