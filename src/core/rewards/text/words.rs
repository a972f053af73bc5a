//! How text is split into words.

use crate::rewards::RougeTokenizer;
use crate::rewards::text::stem::stemmed;
use regex::Regex;
use std::collections::HashMap;
use std::sync::LazyLock;

/// What `\w+` is in Python's `re`: runs of letters, numbers and underscores. (The `regex` crate's own `\w` follows
/// Unicode's UTS 18, which adds combining marks and joiners; so does `char::is_alphanumeric`, from U+0300 on.)
static UNICODE_WORD: LazyLock<Regex> =
    LazyLock::new(|| Regex::new(r"[\p{L}\p{N}_]+").expect("the pattern is a constant"));

/// The words of `lowercase`, a text that was lowercased.
pub(in crate::rewards) fn words(lowercase: &str, tokenizer: RougeTokenizer) -> Vec<&str> {
    match tokenizer {
        RougeTokenizer::RougeScore => split(lowercase, |c| c.is_ascii_lowercase() || c.is_ascii_digit()),
        RougeTokenizer::Unicode if lowercase.chars().all(|c| c < '\u{300}') => {
            split(lowercase, |c| c.is_alphanumeric() || c == '_')
        }
        RougeTokenizer::Unicode => UNICODE_WORD.find_iter(lowercase).map(|word| word.as_str()).collect(),
    }
}

/// Runs of characters that belong to words.
fn split(text: &str, is_word: impl Fn(char) -> bool) -> Vec<&str> {
    let mut words = Vec::with_capacity(text.len() / 4);
    words.extend(text.split(|c| !is_word(c)).filter(|word| !word.is_empty()));
    words
}

/// `text` as its words are compared: in lower case and, if asked for, as stems.
pub(in crate::rewards) fn folded(text: &str, stemming: bool) -> String {
    let lowercase = text.to_lowercase();
    if stemming { stemmed(&lowercase) } else { lowercase }
}

/// Lowercase, with one space for any white space.
pub(in crate::rewards) fn normalized(text: &str) -> String {
    text.to_lowercase().split_whitespace().collect::<Vec<_>>().join(" ")
}

/// Numbers for the words of a reference, and with them for those of a candidate.
#[derive(Default)]
pub(in crate::rewards) struct Vocabulary<'a> {
    numbers: HashMap<&'a str, u32>,
}

impl<'a> Vocabulary<'a> {
    /// The words of a reference as numbers from 0 to below [`Vocabulary::len`], equal where the words are; new words are
    /// taken in.
    pub(in crate::rewards) fn learn(&mut self, lowercase: &'a str, tokenizer: RougeTokenizer) -> Vec<u32> {
        let words = words(lowercase, tokenizer);
        self.numbers.reserve(words.len());
        let mut next = u32::try_from(self.numbers.len()).expect("a text has fewer words");
        let number = |word| {
            *self.numbers.entry(word).or_insert_with(|| {
                next += 1;
                next - 1
            })
        };
        words.into_iter().map(number).collect()
    }

    /// The same numbers for the words of a candidate; `u32::MAX` for a word that the reference has not.
    pub(in crate::rewards) fn number(&self, lowercase: &str, tokenizer: RougeTokenizer) -> Vec<u32> {
        words(lowercase, tokenizer)
            .into_iter()
            .map(|word| self.numbers.get(word).copied().unwrap_or(u32::MAX))
            .collect()
    }

    /// Different words in the reference.
    pub(in crate::rewards) fn len(&self) -> usize {
        self.numbers.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn unicode_words_keep_accents_digits_and_underscores() {
        assert_eq!(
            words("l'ossigeno è_4 perché naïve², x", RougeTokenizer::Unicode),
            ["l", "ossigeno", "è_4", "perché", "naïve²", "x"]
        );
        assert_eq!(words("cell-wall co2_a", RougeTokenizer::Unicode), ["cell", "wall", "co2_a"]);
    }

    #[test]
    fn combining_marks_end_a_unicode_word_as_in_python() {
        assert_eq!(words("e\u{301}lan", RougeTokenizer::Unicode), ["e", "lan"]);
    }

    #[test]
    fn rouge_score_words_are_ascii_letters_and_digits() {
        assert_eq!(words("perché naïve co2_a", RougeTokenizer::RougeScore), ["perch", "na", "ve", "co2", "a"]);
    }

    proptest! {
        #[test]
        fn european_text_is_cut_the_same_with_and_without_the_regular_expression(text in "[ -~\\n\u{a0}-\u{2ff}]*") {
            let lowercase = text.to_lowercase();
            let by_regex: Vec<&str> = UNICODE_WORD.find_iter(&lowercase).map(|word| word.as_str()).collect();
            prop_assert_eq!(words(&lowercase, RougeTokenizer::Unicode), by_regex);
        }
    }
}
