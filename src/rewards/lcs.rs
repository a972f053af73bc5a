//! Length of the longest common subsequence, 64 cells of the usual table at a time.

/// Length of the longest common subsequence of `pattern` and `text`.
///
/// Bit-parallel (H. Hyyrö, "Bit-parallel LCS-length computation revisited", 2004): a row of the table is kept as the bits
/// `row`, one a token of `pattern`, 0 where the row's value rises by one; a token of `text` with the match bits `m`
/// updates it to `(row + (row & m)) | (row & !m)`. Tokens of `pattern` are below `vocabulary`; a token of `text` that is
/// not occurs nowhere in `pattern`.
pub(super) fn longest_common_subsequence(pattern: &[u32], text: &[u32], vocabulary: usize) -> usize {
    let blocks = pattern.len().div_ceil(64);
    let mut matches = vec![0_u64; vocabulary * blocks];
    for (i, &token) in pattern.iter().enumerate() {
        matches[token as usize * blocks + i / 64] |= 1 << (i % 64);
    }
    let mut row = vec![u64::MAX; blocks];
    for &token in text {
        let start = token as usize * blocks;
        let Some(matched) = matches.get(start..start + blocks) else { continue };
        let mut carry = false;
        for (cells, &m) in row.iter_mut().zip(matched) {
            let (sum, overflow) = cells.overflowing_add(*cells & m);
            let (sum, overflow_of_carry) = sum.overflowing_add(u64::from(carry));
            carry = overflow || overflow_of_carry;
            *cells = sum | (*cells & !m);
        }
    }
    // The bits past the pattern stay 1: they match nothing, and what a carry clears there `row & !m` sets again.
    row.iter().map(|cells| cells.count_zeros() as usize).sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The textbook table.
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
    }
}
