//! Splitting of text into words.

use crate::rewards::RougeTokenizer;
use crate::rewards::text::stem::stemmed;
use regex::Regex;
use std::collections::HashMap;
use std::sync::LazyLock;

/// Words as `\w+` in Python's `re`: runs of letters, numbers and underscores.
///
/// The `regex` crate's own `\w` follows Unicode's UTS 18, which adds combining marks and joiners. From U+0300 on,
/// `char::is_alphanumeric` adds them too.
static UNICODE_WORD: LazyLock<Regex> =
    LazyLock::new(|| Regex::new(r"[\p{L}\p{N}_]+").expect("the pattern is a constant"));

/// Returns the words of `lowercase`, which must be in lower case.
pub(in crate::rewards) fn words(lowercase: &str, tokenizer: RougeTokenizer) -> Vec<&str> {
    match tokenizer {
        RougeTokenizer::RougeScore => split(lowercase, |c| c.is_ascii_lowercase() || c.is_ascii_digit()),
        RougeTokenizer::Unicode if lowercase.chars().all(|c| c < '\u{300}') => {
            split(lowercase, |c| c.is_alphanumeric() || c == '_')
        }
        RougeTokenizer::Unicode => UNICODE_WORD.find_iter(lowercase).map(|word| word.as_str()).collect(),
    }
}

/// Returns the runs of characters for which `is_word`.
fn split(text: &str, is_word: impl Fn(char) -> bool) -> Vec<&str> {
    let mut words = Vec::with_capacity(text.len() / 4);
    words.extend(text.split(|c| !is_word(c)).filter(|word| !word.is_empty()));
    words
}

/// Returns `text` in the form in which words are compared: in lower case and optionally with stems.
pub(in crate::rewards) fn folded(text: &str, stemming: bool) -> String {
    let lowercase = text.to_lowercase();
    if stemming { stemmed(&lowercase) } else { lowercase }
}

/// Returns `text` in lower case, with each run of white space as one space.
pub(in crate::rewards) fn normalized(text: &str) -> String {
    text.to_lowercase().split_whitespace().collect::<Vec<_>>().join(" ")
}

/// A numbering of the words of a reference, and of a candidate's words among them.
#[derive(Default)]
pub(in crate::rewards) struct Vocabulary<'a> {
    numbers: HashMap<&'a str, u32>,
}

impl<'a> Vocabulary<'a> {
    /// Numbers the words of a reference from 0 to below [`Vocabulary::len`], with equal numbers for equal words.
    ///
    /// New words are added.
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

    /// Numbers the words of a candidate in the same way; `u32::MAX` for a word that is not in the reference.
    pub(in crate::rewards) fn number(&self, lowercase: &str, tokenizer: RougeTokenizer) -> Vec<u32> {
        words(lowercase, tokenizer)
            .into_iter()
            .map(|word| self.numbers.get(word).copied().unwrap_or(u32::MAX))
            .collect()
    }

    /// The number of distinct words in the reference.
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
