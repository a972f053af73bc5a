//! The words of a text, as they are compared, and a hash of each run of eight.
//!
//! A word is a run of letters, digits and marks, in lower case and without accents (compatibility decomposition, NFKD).
//! Everything else separates words. In a script that is written without spaces, each character is a word.

use unicode_normalization::char::{decompose_compatible, is_combining_mark};

/// The number of words of a run that is compared, as in open-r1's `decontaminate.py`.
pub const RUN: usize = 8;

/// The smallest number of words of a short text that is compared as a whole.
pub const SHORTEST: usize = 4;

/// The multiplier of the rolling hash; odd, so that no word is forgotten before it leaves the run.
const BASE: u64 = 0x9e37_79b9_7f4a_7c15;

/// `BASE` to the power of `RUN - 1`.
const LEADING: u64 = {
    let mut power = 1_u64;
    let mut i = 1;
    while i < RUN {
        power = power.wrapping_mul(BASE);
        i += 1;
    }
    power
};

/// The words of a text.
#[derive(Clone, Debug, Default)]
pub(super) struct Words {
    /// The words, separated by single spaces.
    text: String,
    /// The end of each word in `text`.
    ends: Vec<u32>,
    hashes: Vec<u64>,
}

/// A run of words, or a short text as a whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Run {
    /// The index of its first word.
    pub(super) start: u32,
    /// The hash of its words. Those of short texts differ from those of runs.
    pub(super) hash: u64,
}

impl Words {
    /// Reads the words of `raw`. Buffers are used again.
    pub(super) fn read(&mut self, raw: &str) {
        self.text.clear();
        self.ends.clear();
        self.hashes.clear();
        let mut hash = SEED;
        let mut rest = raw;
        while let Some(c) = rest.chars().next() {
            if c.is_ascii() {
                // bytes of plain text, without a look at the tables of Unicode
                let end = rest.bytes().position(|byte| !byte.is_ascii()).unwrap_or(rest.len());
                for byte in rest[..end].bytes() {
                    if byte.is_ascii_alphanumeric() {
                        self.push(byte.to_ascii_lowercase().into(), &mut hash);
                    } else {
                        self.end(&mut hash);
                    }
                }
                rest = &rest[end..];
                continue;
            }
            rest = &rest[c.len_utf8()..];
            if is_unspaced(c) {
                self.end(&mut hash);
                self.push(c, &mut hash);
                self.end(&mut hash);
                continue;
            }
            decompose_compatible(c, |part| {
                if is_accent(part) {
                } else if part.is_alphanumeric() || is_combining_mark(part) {
                    part.to_lowercase().filter(|c| !is_accent(*c)).for_each(|c| self.push(c, &mut hash));
                } else {
                    self.end(&mut hash);
                }
            });
        }
        self.end(&mut hash);
    }

    fn push(&mut self, c: char, hash: &mut u64) {
        if *hash == SEED && !self.ends.is_empty() {
            self.text.push(' ');
        }
        self.text.push(c);
        *hash = (*hash ^ u64::from(c)).wrapping_mul(0x0100_0000_01b3).rotate_left(29);
    }

    fn end(&mut self, hash: &mut u64) {
        if *hash != SEED {
            self.ends.push(u32::try_from(self.text.len()).unwrap_or(u32::MAX));
            self.hashes.push(mixed(*hash));
            *hash = SEED;
        }
    }

    /// The memory that the words take, in bytes.
    pub(super) fn bytes(&self) -> usize {
        self.text.capacity() + self.ends.capacity() * size_of::<u32>() + self.hashes.capacity() * size_of::<u64>()
    }

    /// The number of words.
    pub(super) fn count(&self) -> usize {
        self.ends.len()
    }

    /// Returns `count` words from the word `start`.
    pub(super) fn slice(&self, start: u32, count: usize) -> &str {
        let start = start as usize;
        let from = if start == 0 { 0 } else { self.ends[start - 1] as usize + 1 };
        &self.text[from..self.ends[start + count - 1] as usize]
    }

    /// The number of words of its runs: [`RUN`], or all words of a short text.
    pub(super) fn run_length(&self) -> usize {
        self.count().min(RUN)
    }

    /// Returns every run of [`RUN`] words; of a text with fewer, but at least [`SHORTEST`], the whole.
    pub(super) fn runs(&self) -> impl Iterator<Item = Run> + '_ {
        let count = self.count();
        let short = (SHORTEST..RUN).contains(&count).then(|| {
            let hash = self.hashes.iter().fold(count as u64, |hash, &word| hash.wrapping_mul(BASE).wrapping_add(word));
            Run { start: 0, hash: mixed(hash ^ SEED) }
        });
        let mut rolling = 0_u64;
        let long = self.hashes.iter().enumerate().filter_map(move |(last, &word)| {
            if count < RUN {
                return None;
            }
            if last >= RUN {
                rolling = rolling.wrapping_sub(self.hashes[last - RUN].wrapping_mul(LEADING));
            }
            rolling = rolling.wrapping_mul(BASE).wrapping_add(word);
            let start = (last + 1).checked_sub(RUN)?;
            Some(Run { start: u32::try_from(start).ok()?, hash: mixed(rolling) })
        });
        short.into_iter().chain(long)
    }
}

const SEED: u64 = 0xcbf2_9ce4_8422_2325;

/// Returns a hash whose leading digits depend on all of `hash` (the finalizer of splitmix64).
fn mixed(hash: u64) -> u64 {
    let hash = (hash ^ (hash >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let hash = (hash ^ (hash >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    hash ^ (hash >> 31)
}

/// Whether `c` is a mark that texts may or may not write: an accent, or a vowel point of Hebrew or Arabic.
fn is_accent(c: char) -> bool {
    matches!(c,
        '\u{300}'..='\u{36f}' | '\u{591}'..='\u{5c7}' | '\u{64b}'..='\u{65f}' | '\u{670}' | '\u{1ab0}'..='\u{1aff}'
        | '\u{1dc0}'..='\u{1dff}' | '\u{20d0}'..='\u{20ff}' | '\u{fe20}'..='\u{fe2f}')
}

/// Whether `c` is of a script that is written without spaces: Thai, Lao, Burmese, Khmer, kana, Han.
fn is_unspaced(c: char) -> bool {
    let of_script = matches!(c,
        '\u{e00}'..='\u{eff}' | '\u{1000}'..='\u{109f}' | '\u{1780}'..='\u{17ff}' | '\u{3041}'..='\u{30ff}'
        | '\u{3400}'..='\u{4dbf}' | '\u{4e00}'..='\u{9fff}' | '\u{f900}'..='\u{faff}' | '\u{20000}'..='\u{3ffff}');
    of_script && (c.is_alphanumeric() || is_combining_mark(c))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn words(raw: &str) -> Words {
        let mut words = Words::default();
        words.read(raw);
        words
    }

    #[test]
    fn case_punctuation_spaces_and_accents_make_no_difference() {
        for (raw, expected) in [
            ("The  HEART,\n(it) pumps!", "the heart it pumps"),
            ("Éléphant naïf, cafe\u{301}", "elephant naif cafe"),
            ("don't 3.5 x²", "don t 3 5 x2"),
            ("İstanbul ﬁne Ａ", "istanbul fine a"),
            ("שָׁלוֹם مَرْحَبًا", "שלום مرحبا"),
            ("हिन्दी भाषा", "हिन्दी भाषा"),
            ("心臓は 血液", "心 臓 は 血 液"),
            ("한국어 문장", "한국어 문장"),
            ("  \u{301} . ", ""),
        ] {
            let expected: String = expected
                .chars()
                .flat_map(|c| {
                    let mut parts = Vec::new();
                    if is_unspaced(c) {
                        parts.push(c);
                    } else {
                        decompose_compatible(c, |part| parts.push(part));
                    }
                    parts
                })
                .collect();
            assert_eq!(words(raw).text, expected, "{raw}");
        }
    }

    #[test]
    fn runs_have_eight_words_and_short_texts_are_compared_as_a_whole() {
        let count = |raw: &str| words(raw).runs().count();
        assert_eq!(
            ["", "a b c", "a b c d", "a b c d e f g", "a b c d e f g h", "a b c d e f g h i"].map(count),
            [0, 0, 1, 1, 1, 2]
        );
        let (short, long) = (words("a b c d"), words("a b c d e f g h"));
        assert_ne!(short.runs().next().unwrap().hash, long.runs().next().unwrap().hash);
        assert_eq!(long.slice(2, 3), "c d e");
    }

    proptest! {
        #[test]
        fn the_rolling_hash_is_that_of_the_run_alone(raw in "[a-d ]{30,90}") {
            let all = words(&raw);
            for run in all.runs().filter(|_| all.count() >= RUN) {
                let alone = words(all.slice(run.start, RUN));
                prop_assert_eq!(alone.runs().next().unwrap().hash, run.hash);
            }
        }
    }
}
