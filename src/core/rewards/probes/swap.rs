//! The exchange of numbers and option letters.

use super::prose::rewritten;
use regex::Regex;
use std::collections::BTreeMap;
use std::sync::LazyLock;

static NUMBER: LazyLock<Regex> = LazyLock::new(|| Regex::new(r"\d+(?:[.,]\d+)*").expect("the pattern is a constant"));

/// Returns `completion` with its distinct numbers in rotated places and with the option letters A and B, C and D, E and
/// F, and G and H exchanged. A number that stands alone gets another first digit. `None` if it has neither.
pub(super) fn swapped(completion: &str) -> Option<String> {
    let mut numbers: Vec<&str> = Vec::new();
    for number in NUMBER.find_iter(completion) {
        if !numbers.contains(&number.as_str()) {
            numbers.push(number.as_str());
        }
    }
    let exchanged: BTreeMap<&str, String> = match numbers[..] {
        [number] => [(number, other_number(number))].into(),
        _ => (0..numbers.len()).map(|i| (numbers[i], numbers[(i + 1) % numbers.len()].to_owned())).collect(),
    };
    let change = |text: &str, is_answer: bool| {
        let text = NUMBER.replace_all(text, |found: &regex::Captures<'_>| exchanged[&found[0]].clone());
        exchanged_letters(&text, is_answer)
    };
    rewritten(completion, |text| change(text, false), |text| change(text, true))
}

fn other_number(number: &str) -> String {
    let first = number.as_bytes()[0] - b'0';
    format!("{}{}", first % 9 + 1, &number[1..])
}

/// Exchanges single letters from A to H. Upper case counts as an option unless it may begin a phrase, as in `A heart`.
/// Lower case counts in brackets and at the beginning of an answer.
fn exchanged_letters(text: &str, is_answer: bool) -> String {
    let chars: Vec<char> = text.chars().collect();
    let first_word = chars.iter().position(|c| c.is_alphanumeric());
    let is_part = |index: Option<usize>| {
        index.and_then(|index| chars.get(index)).is_some_and(|c| c.is_alphanumeric() || matches!(c, '\'' | '\u{2019}'))
    };
    let change = |(index, &letter): (usize, &char)| {
        if !matches!(letter, 'A'..='H' | 'a'..='h') || is_part(index.checked_sub(1)) || is_part(Some(index + 1)) {
            return letter;
        }
        let at = |index: usize| chars.get(index).copied().unwrap_or(' ');
        let in_brackets = index > 0 && at(index - 1) == '(' && at(index + 1) == ')';
        let begins_phrase = at(index + 1) == ' ' && at(index + 2).is_lowercase();
        let is_option = in_brackets
            || (is_answer && first_word == Some(index))
            || (letter.is_ascii_uppercase() && !(letter == 'A' && begins_phrase));
        if is_option { other_letter(letter) } else { letter }
    };
    chars.iter().enumerate().map(change).collect()
}

/// Returns the other letter of the pair: `a` for `b`, `C` for `D`.
fn other_letter(letter: char) -> char {
    let first = if letter.is_ascii_uppercase() { b'A' } else { b'a' };
    char::from(first + ((letter as u8 - first) ^ 1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_letters_change_places() {
        for (text, expected) in [
            (
                "<think>2 and 3 make 5.0, 3 twice</think><answer>5.0</answer>",
                "<think>3 and 5.0 make 2, 5.0 twice</think><answer>2</answer>",
            ),
            ("12 ml", "22 ml"),
            ("9", "1"),
            (
                "<think>A heart is B, not (c).</think><answer>(b) heart</answer>",
                "<think>A heart is A, not (d).</think><answer>(a) heart</answer>",
            ),
            ("<answer>d</answer>", "<answer>c</answer>"),
            ("The answer is A.", "The answer is B."),
            ("Vitamin D's role; I said C", "Vitamin D's role; I said D"),
        ] {
            assert_eq!(swapped(text).as_deref(), Some(expected), "{text}");
        }
        assert_eq!(swapped("<think>the heart</think><answer>heart</answer>"), None);
    }
}
