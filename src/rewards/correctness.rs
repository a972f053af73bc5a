//! `correctness`: 1 when the answer is right, else 0.

use super::explain::excerpt;
use super::{Reward, RewardError, Sample, Verdict};

/// The component.
///
/// When the row's answer is a single letter, the first letter that stands alone in the text is compared with it, so that
/// `B`, `(b)` and `B) the heart` are the same answer; else the whole text is. Upper and lower case are the same.
pub(super) struct Correctness;

impl Reward for Correctness {
    fn rate(&mut self, samples: &[Sample<'_>], texts: &[Option<&str>]) -> Result<Vec<Verdict>, RewardError> {
        Ok(samples.iter().zip(texts).map(|(sample, text)| rate_one(sample.answer, *text)).collect())
    }

    fn explain(&mut self, sample: &Sample<'_>, text: Option<&str>) -> Option<String> {
        let (answer, text) = (sample.answer?.trim(), text?);
        let is_letter = answer.chars().count() == 1 && answer.chars().all(char::is_alphabetic);
        Some(match choice_letter(text) {
            _ if !is_letter => format!("compared whole with the row's answer {}", excerpt(answer)),
            Some(letter) => format!("the letter is `{letter}`, the row's answer `{answer}`"),
            None => format!("no letter stands alone, the row's answer is `{answer}`"),
        })
    }
}

fn rate_one(answer: Option<&str>, text: Option<&str>) -> Verdict {
    let Some(answer) = answer.map(str::trim).filter(|answer| !answer.is_empty()) else {
        return Verdict::Missing("the row has no answer".to_owned());
    };
    let Some(text) = text else {
        return Verdict::Value(0.0);
    };
    let mut letters = answer.chars();
    let right = match (letters.next(), letters.next()) {
        (Some(letter), None) if letter.is_alphabetic() => {
            choice_letter(text).is_some_and(|choice| choice.to_lowercase().eq(letter.to_lowercase()))
        }
        _ => text.trim().to_lowercase() == answer.to_lowercase(),
    };
    Verdict::binary(right)
}

/// The first letter that stands alone: no part of a word, a contraction (`I'm`) or a compound (`B-cell`).
fn choice_letter(text: &str) -> Option<char> {
    let chars: Vec<char> = text.chars().collect();
    let in_word = |i: usize| chars.get(i).is_some_and(|c| c.is_alphanumeric() || *c == '_');
    let joins = |i: usize| chars.get(i).is_some_and(|c| matches!(c, '\'' | '\u{2019}' | '-'));
    let joined_before = |i: usize| i >= 1 && (in_word(i - 1) || (i >= 2 && joins(i - 1) && in_word(i - 2)));
    let joined_after = |i: usize| in_word(i + 1) || (joins(i + 1) && in_word(i + 2));
    (0..chars.len()).find(|&i| chars[i].is_alphabetic() && !joined_before(i) && !joined_after(i)).map(|i| chars[i])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rewards::testing::{rate_one, sample};
    use proptest::prelude::*;

    fn rate(answer: &str, text: &str) -> Verdict {
        rate_one(&mut Correctness, Sample { answer: Some(answer), ..sample(text) }, Some(text))
    }

    #[test]
    fn the_first_letter_standing_alone_is_the_choice() {
        for right in
            ["B", "b", " B) heart", "(B)", "**B**", "Answer: B, not C", "option B.", "I'm sure it is B", "T-cells: B"]
        {
            assert_eq!(rate("B", right), Verdict::Value(1.0), "{right:?}");
        }
        for wrong in ["C", "C, not B", "", "Because", "B2", "éB"] {
            assert_eq!(rate("B", wrong), Verdict::Value(0.0), "{wrong:?}");
        }
    }

    #[test]
    fn an_answer_that_is_no_letter_is_compared_whole() {
        assert_eq!(rate("Left Ventricle", " left ventricle\n"), Verdict::Value(1.0));
        assert_eq!(rate("left ventricle", "the left ventricle"), Verdict::Value(0.0));
        assert_eq!(rate("4", "4"), Verdict::Value(1.0));
        assert_eq!(rate("4", "40"), Verdict::Value(0.0));
    }

    #[test]
    fn a_row_without_an_answer_is_missing_and_a_completion_without_one_is_wrong() {
        assert!(matches!(rate_one(&mut Correctness, sample("B"), Some("B")), Verdict::Missing(_)));
        assert!(matches!(rate(" ", "B"), Verdict::Missing(_)));
        let row = Sample { answer: Some("B"), ..sample("") };
        assert_eq!(rate_one(&mut Correctness, row, None), Verdict::Value(0.0));
    }

    proptest! {
        #[test]
        fn is_0_or_1_for_any_text(text in any::<String>(), answer in "\\PC{1,3}") {
            let verdict = rate(&answer, &text);
            let expected = [Verdict::binary(false), Verdict::binary(true)];
            prop_assert!(expected.contains(&verdict) || answer.trim().is_empty());
        }
    }
}
