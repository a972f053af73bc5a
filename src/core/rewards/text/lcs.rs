//! The longest common subsequence, computed for 64 cells of the table at a time.

/// The rows of the table of a `pattern` against a text, bit-parallel (H. Hyyrö, "Bit-parallel LCS-length computation
/// revisited", 2004).
///
/// A row has one bit per token of `pattern`, which is 0 where the row's value rises by one. A token of the text with
/// the match bits `m` turns it into `(row + (row & m)) | (row & !m)`.
struct Table {
    blocks: usize,
    /// The positions of each token in the pattern, as `blocks` words of bits per token.
    matches: Vec<u64>,
}

impl Table {
    /// Builds the match bits. The tokens of `pattern` are below `vocabulary`.
    fn new(pattern: &[u32], vocabulary: usize) -> Self {
        let blocks = pattern.len().div_ceil(64);
        let mut matches = vec![0_u64; vocabulary * blocks];
        for (i, &token) in pattern.iter().enumerate() {
            matches[token as usize * blocks + i / 64] |= 1 << (i % 64);
        }
        Self { blocks, matches }
    }

    /// The row of an empty text.
    fn first_row(&self) -> Vec<u64> {
        vec![u64::MAX; self.blocks]
    }

    /// Advances `row` by one `token` of the text. A token outside the vocabulary does not occur in the pattern.
    fn advance(&self, row: &mut [u64], token: u32) {
        let start = token as usize * self.blocks;
        let Some(matched) = self.matches.get(start..start + self.blocks) else { return };
        let mut carry = false;
        for (cells, &m) in row.iter_mut().zip(matched) {
            let (sum, overflow) = cells.overflowing_add(*cells & m);
            let (sum, overflow_of_carry) = sum.overflowing_add(u64::from(carry));
            carry = overflow || overflow_of_carry;
            *cells = sum | (*cells & !m);
        }
    }
}

/// Returns the length of the longest common subsequence of `pattern` and `text`.
///
/// The tokens of `pattern` are below `vocabulary`. Other tokens of `text` do not occur in `pattern`.
pub(in crate::rewards) fn longest_common_subsequence(pattern: &[u32], text: &[u32], vocabulary: usize) -> usize {
    let table = Table::new(pattern, vocabulary);
    let mut row = table.first_row();
    for &token in text {
        table.advance(&mut row, token);
    }
    // The bits past the pattern stay 1: they match nothing, and `row & !m` restores those that a carry clears.
    row.iter().map(|cells| cells.count_zeros() as usize).sum()
}

/// Marks the tokens of `pattern` that belong to a longest common subsequence with each of `texts`.
///
/// Among several subsequences it marks that of rouge-score, which goes back from both ends. A match is taken
/// immediately. Without a match, the text's token is dropped if that leaves a longer common subsequence, else the
/// pattern's.
pub(in crate::rewards) fn union_of_subsequences(pattern: &[u32], texts: &[Vec<u32>], vocabulary: usize) -> Vec<bool> {
    let mut marked = vec![false; pattern.len()];
    let table = Table::new(pattern, vocabulary);
    for text in texts {
        let mut rows = vec![table.first_row()];
        for &token in text {
            let mut row = rows[rows.len() - 1].clone();
            table.advance(&mut row, token);
            rows.push(row);
        }
        let (mut i, mut j) = (pattern.len(), text.len());
        while i > 0 && j > 0 {
            // Without a match, the value at (i, j) is that of (i, j - 1) or of (i - 1, j). It rises from (i - 1, j) to
            // (i, j) exactly where (i, j - 1) is the greater one.
            let rises = rows[j][(i - 1) / 64] >> ((i - 1) % 64) & 1 == 0;
            if pattern[i - 1] == text[j - 1] {
                marked[i - 1] = true;
                i -= 1;
                j -= 1;
            } else if rises {
                j -= 1;
            } else {
                i -= 1;
            }
        }
    }
    marked
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The textbook algorithm with the full table.
    fn by_table(a: &[u32], b: &[u32]) -> usize {
        let mut above = vec![0; b.len() + 1];
        for x in a {
            let mut row = vec![0; b.len() + 1];
            for (j, y) in b.iter().enumerate() {
                row[j + 1] = if x == y { above[j] + 1 } else { row[j].max(above[j + 1]) };
            }
            above = row;
        }
        above[b.len()]
    }

    #[test]
    fn an_unknown_token_matches_nothing() {
        assert_eq!(longest_common_subsequence(&[0, 1, 2], &[0, u32::MAX, 2], 3), 2);
        assert_eq!(longest_common_subsequence(&[], &[0, u32::MAX], 0), 0);
    }

    #[test]
    fn a_text_equal_to_the_pattern_matches_whole_across_block_borders() {
        for length in [1, 63, 64, 65, 127, 128, 129, 1000] {
            let tokens: Vec<u32> = (0..length).collect();
            assert_eq!(longest_common_subsequence(&tokens, &tokens, length as usize), length as usize);
            let same = vec![0; length as usize];
            assert_eq!(longest_common_subsequence(&same, &same, 1), length as usize);
        }
    }

    proptest! {
        #[test]
        fn equals_the_textbook_table(
            a in prop::collection::vec(0_u32..6, 0..300),
            b in prop::collection::vec(0_u32..8, 0..300),
        ) {
            prop_assert_eq!(longest_common_subsequence(&a, &b, 6), by_table(&a, &b));
        }

        #[test]
        fn the_tokens_marked_for_one_text_are_a_longest_common_subsequence(
            a in prop::collection::vec(0_u32..6, 0..150),
            b in prop::collection::vec(0_u32..8, 0..150),
        ) {
            let marked = union_of_subsequences(&a, std::slice::from_ref(&b), 6);
            let subsequence: Vec<u32> = a.iter().zip(marked).filter_map(|(&token, marked)| marked.then_some(token)).collect();
            prop_assert_eq!(subsequence.len(), by_table(&a, &b));
            prop_assert_eq!(by_table(&subsequence, &b), subsequence.len());
        }
    }
}
