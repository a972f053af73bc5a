//! Explanations of values in words, for users. Training does not use them.

use crate::rewards::text::words::words;
use crate::rewards::{RougeTokenizer, Scope};

/// The number of characters of a text that an explanation shows.
const SHOWN: usize = 160;
/// The largest table for the words of a common subsequence: 2000 words against 2000.
const CELLS: usize = 4_000_000;

/// Returns the beginning of `text` on one line, in backticks.
pub(in crate::rewards) fn excerpt(text: &str) -> String {
    let mut line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    if let Some((end, _)) = line.char_indices().nth(SHOWN) {
        line.truncate(end);
        line.push('…');
    }
    format!("`{line}`")
}

/// Returns a range of numbers in words.
pub(in crate::rewards) fn wanted(fewest: Option<usize>, most: Option<usize>) -> String {
    match (fewest, most) {
        (Some(fewest), Some(most)) => format!("{fewest} to {most}"),
        (Some(fewest), None) => format!("at least {fewest}"),
        (None, Some(most)) => format!("at most {most}"),
        (None, None) => "any number".to_owned(),
    }
}

/// Returns a description of the `text` that a component with this `scope` reads.
pub(in crate::rewards) fn looked_at(scope: &Scope, text: Option<&str>) -> String {
    let tag = match scope {
        Scope::Completion => return "looks at the whole completion".to_owned(),
        Scope::Think => "think",
        Scope::Answer => "answer",
        Scope::Explanation => "explanation",
        Scope::Tag(name) => name,
    };
    match text {
        Some("") => format!("<{tag}> is empty"),
        Some(text) => format!("<{tag}> holds {}", excerpt(text)),
        None if *scope == Scope::Explanation => {
            "there is no closed <explanation>, nor text outside <think> and <answer>".to_owned()
        }
        None => format!("there is no <{tag}>...</{tag}>"),
    }
}

/// Returns the first deviation of `text` from having each tag once, in order, closed, with only white space around
/// them.
///
/// `None` if the text has that form.
pub(in crate::rewards) fn tag_fault(text: &str, tags: &[String]) -> Option<String> {
    let mut rest = text;
    let mut before = "at the beginning".to_owned();
    for tag in tags {
        let (opening, closing) = (format!("<{tag}>"), format!("</{tag}>"));
        for part in [&opening, &closing] {
            match text.matches(part.as_str()).count() {
                0 => return Some(format!("{part} is missing")),
                1 => {}
                count => return Some(format!("{part} occurs {count} times")),
            }
        }
        let Some((between, after)) = rest.split_once(&opening) else {
            return Some(format!("{opening} is not in its place: the order is {}", order(tags)));
        };
        if !between.trim().is_empty() {
            return Some(format!("text {before}, before {opening}: {}", excerpt(between)));
        }
        let Some((_, after)) = after.split_once(&closing) else {
            return Some(format!("{closing} comes before {opening}"));
        };
        rest = after;
        before = format!("after {closing}");
    }
    (!rest.trim().is_empty()).then(|| format!("text {before}: {}", excerpt(rest)))
}

fn order(tags: &[String]) -> String {
    tags.iter().map(|tag| format!("<{tag}>")).collect::<Vec<_>>().join(" ")
}

/// Returns the words of a longest common subsequence of both texts, and the number of words of each text.
///
/// The words are left out where the texts are too long.
pub(in crate::rewards) fn common_subsequence(candidate: &str, reference: &str, tokenizer: RougeTokenizer) -> String {
    let (candidate, reference) = (candidate.to_lowercase(), reference.to_lowercase());
    let (a, b) = (words(&candidate, tokenizer), words(&reference, tokenizer));
    let lengths = format!("the reference has {} words, the text {}", b.len(), a.len());
    if a.len().saturating_mul(b.len()) > CELLS {
        return lengths;
    }
    let matched = matched(&a, &b);
    if matched.is_empty() {
        return format!("no word matches; {lengths}");
    }
    format!("{} words match in order: {}; {lengths}", matched.len(), excerpt(&matched.join(" ")))
}

/// Returns a longest common subsequence, by the textbook algorithm with the full table.
fn matched<'a>(a: &[&'a str], b: &[&str]) -> Vec<&'a str> {
    let width = b.len() + 1;
    let mut table = vec![0_u32; (a.len() + 1) * width]; // lengths for the suffixes from (i, j) on
    for (i, word) in a.iter().enumerate().rev() {
        for (j, other) in b.iter().enumerate().rev() {
            table[i * width + j] = if word == other {
                table[(i + 1) * width + j + 1] + 1
            } else {
                table[(i + 1) * width + j].max(table[i * width + j + 1])
            };
        }
    }
    let (mut i, mut j, mut found) = (0, 0, Vec::new());
    while i < a.len() && j < b.len() {
        if a[i] == b[j] {
            found.push(a[i]);
            i += 1;
            j += 1;
        } else if table[(i + 1) * width + j] >= table[i * width + j + 1] {
            i += 1;
        } else {
            j += 1;
        }
    }
    found
}

/// Returns the runs of `n` words that both texts have, and the number of runs of each text.
pub(in crate::rewards) fn common_ngrams(
    candidate: &str,
    reference: &str,
    n: usize,
    tokenizer: RougeTokenizer,
) -> String {
    let (candidate, reference) = (candidate.to_lowercase(), reference.to_lowercase());
    let grams = |text| words(text, tokenizer).windows(n).map(|run| run.join(" ")).collect::<Vec<String>>();
    let (of_text, mut left) = (grams(&candidate), grams(&reference));
    let lengths = format!("the reference has {}, the text {}", left.len(), of_text.len());
    let mut matched = Vec::new();
    for gram in of_text {
        if let Some(at) = left.iter().position(|other| *other == gram) {
            left.swap_remove(at);
            matched.push(gram);
        }
    }
    if matched.is_empty() {
        return format!("no run of {n} words matches; {lengths}");
    }
    format!("{} runs of {n} words match: {}; {lengths}", matched.len(), excerpt(&matched.join(", ")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rewards::text::lcs::longest_common_subsequence;
    use crate::rewards::text::words::Vocabulary;
    use proptest::prelude::*;

    fn fault(text: &str) -> Option<String> {
        tag_fault(text, &["think".to_owned(), "answer".to_owned()])
    }

    #[test]
    fn a_fault_names_the_tag_and_what_is_wrong_with_it() {
        assert_eq!(fault(" <think>a</think>\n<answer>B</answer>\n"), None);
        for (text, expected) in [
            ("B", "<think> is missing"),
            ("<think>a</think><answer>B", "</answer> is missing"),
            ("<think>a</think><answer>B</answer><answer>C</answer>", "<answer> occurs 2 times"),
            ("so <think>a</think><answer>B</answer>", "text at the beginning, before <think>: `so`"),
            ("<think>a</think> so\n<answer>B</answer>", "text after </think>, before <answer>: `so`"),
            ("<think>a</think><answer>B</answer> and more", "text after </answer>: `and more`"),
            ("<think>a<answer>B</answer></think>", "<answer> is not in its place: the order is <think> <answer>"),
            ("<think>a</answer></think><answer>B", "</answer> comes before <answer>"),
            ("<answer>B</answer><think>a</think>", "text at the beginning, before <think>: `<answer>B</answer>`"),
        ] {
            assert_eq!(fault(text).as_deref(), Some(expected), "{text}");
        }
    }

    #[test]
    fn matched_words_stand_in_their_order() {
        let found = common_subsequence(
            "The heart, it pumps the blood",
            "Blood: the heart pumps blood.",
            RougeTokenizer::Unicode,
        );
        assert_eq!(found, "4 words match in order: `the heart pumps blood`; the reference has 5 words, the text 6");
        let none = common_subsequence("so", "heart", RougeTokenizer::Unicode);
        assert_eq!(none, "no word matches; the reference has 1 words, the text 1");
        let long = "a ".repeat(2001);
        assert_eq!(
            common_subsequence(&long, &long, RougeTokenizer::Unicode),
            "the reference has 2001 words, the text 2001"
        );
    }

    #[test]
    fn matched_runs_are_counted_as_often_as_both_have_them() {
        let found = common_ngrams("a b a b a", "b a b", 2, RougeTokenizer::Unicode);
        assert_eq!(found, "2 runs of 2 words match: `a b, b a`; the reference has 2, the text 4");
    }

    #[test]
    fn a_scope_that_is_not_there_is_reported() {
        assert_eq!(looked_at(&Scope::Think, None), "there is no <think>...</think>");
        assert_eq!(looked_at(&Scope::Tag("why".to_owned()), Some("so\n it is")), "<why> holds `so it is`");
        assert_eq!(looked_at(&Scope::Answer, Some("")), "<answer> is empty");
        assert_eq!(excerpt(&"ä".repeat(200)), format!("`{}…`", "ä".repeat(160)));
    }

    proptest! {
        #[test]
        fn as_many_words_match_as_the_component_counts(a in "[abc ]{0,60}", b in "[abcd ]{0,60}") {
            let mut vocabulary = Vocabulary::default();
            let reference = vocabulary.learn(&b, RougeTokenizer::Unicode);
            let candidate = vocabulary.number(&a, RougeTokenizer::Unicode);
            let expected = longest_common_subsequence(&reference, &candidate, vocabulary.len());
            let (a, b) = (words(&a, RougeTokenizer::Unicode), words(&b, RougeTokenizer::Unicode));
            prop_assert_eq!(matched(&a, &b).len(), expected);
        }
    }
}
