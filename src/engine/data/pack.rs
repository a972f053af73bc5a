//! Best-fit-decreasing packing of documents into rows.

use std::collections::BTreeSet;

/// A span of a document's tokens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    /// Index of the document.
    pub document: usize,
    /// Index of the first token in the document.
    pub start: usize,
    /// Number of tokens, at least one.
    pub length: usize,
}

/// Packs documents of these `lengths` into rows of at most `seq_len` tokens. Longer documents are cut into pieces of
/// `seq_len`. The pieces are placed from the longest to the shortest, each into the fullest row that has room for it.
///
/// # Panics
/// Panics if `seq_len` is 0.
pub fn pack(lengths: &[usize], seq_len: usize) -> Vec<Vec<Span>> {
    assert!(seq_len > 0, "a row has room for a token");
    let mut spans: Vec<Span> = lengths
        .iter()
        .enumerate()
        .flat_map(|(document, &length)| {
            (0..length).step_by(seq_len).map(move |start| Span { document, start, length: seq_len.min(length - start) })
        })
        .collect();
    spans.sort_by_key(|span| (std::cmp::Reverse(span.length), span.document, span.start));
    let mut rows: Vec<Vec<Span>> = Vec::new();
    let mut space: BTreeSet<(usize, usize)> = BTreeSet::new(); // (tokens left, row)
    for span in spans {
        let fit = space.range((span.length, 0)..).next().copied();
        let (left, row) = fit.unwrap_or_else(|| {
            rows.push(Vec::new());
            (seq_len, rows.len() - 1)
        });
        space.remove(&(left, row));
        rows[row].push(span);
        if left > span.length {
            space.insert((left - span.length, row));
        }
    }
    rows
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn packing_loses_and_repeats_no_token(
            lengths in proptest::collection::vec(0usize..50, 0..60), seq_len in 1usize..40,
        ) {
            let rows = pack(&lengths, seq_len);
            let mut seen: Vec<Vec<u32>> = lengths.iter().map(|&n| vec![0; n]).collect();
            for row in &rows {
                let tokens: usize = row.iter().map(|span| span.length).sum();
                prop_assert!(tokens > 0 && tokens <= seq_len);
                for span in row {
                    for count in &mut seen[span.document][span.start..span.start + span.length] {
                        *count += 1;
                    }
                }
            }
            prop_assert!(seen.iter().flatten().all(|&count| count == 1));
        }
    }

    #[test]
    fn small_documents_fill_the_gaps_of_large_ones() {
        let rows = pack(&[6, 4, 7, 3, 10], 10);
        assert_eq!(rows.len(), 3, "30 tokens fit into three rows of 10: {rows:?}");
    }
}
