//! The parts of a completion that probes change, and the units of text.

use regex::Regex;
use std::sync::LazyLock;
use unicode_segmentation::UnicodeSegmentation as _;

static TAG: LazyLock<Regex> =
    LazyLock::new(|| Regex::new(r"</?([A-Za-z][A-Za-z0-9_-]*)>").expect("the pattern is a constant"));

/// Function words of English, which are not content words.
const FUNCTION_WORDS: &str = " a about above after against all also an and any are as at be because been before between both but by can could \
     did do does during for from had has have he her him his how i if in into is it its may might more most must no nor not of \
     on one only or other our over shall she should so some such than that the their them then there these they this \
     those through to under until up was we were what when where which while who whose why will with within without would you your ";

/// Returns `completion` with each text outside of tags replaced: by `answer` inside `<answer>`, else by `prose`. White
/// space around a text stays. `None` if nothing changes.
pub(super) fn rewritten(
    completion: &str,
    prose: impl Fn(&str) -> String,
    answer: impl Fn(&str) -> String,
) -> Option<String> {
    let mut result = String::with_capacity(completion.len());
    let mut in_answer = false;
    let mut add = |text: &str, in_answer: bool, tag: &str| {
        let inner = text.trim();
        if inner.is_empty() {
            result.push_str(text);
        } else {
            let start = text.len() - text.trim_start().len();
            result.push_str(&text[..start]);
            result.push_str(&if in_answer { answer(inner) } else { prose(inner) });
            result.push_str(&text[start + inner.len()..]);
        }
        result.push_str(tag);
    };
    let mut end = 0;
    for found in TAG.captures_iter(completion) {
        let tag = found.get(0).expect("group 0 is the match");
        add(&completion[end..tag.start()], in_answer, tag.as_str());
        if &found[1] == "answer" {
            in_answer = !tag.as_str().starts_with("</");
        }
        end = tag.end();
    }
    add(&completion[end..], in_answer, "");
    (result != completion).then_some(result)
}

/// Returns `completion` with every prose text replaced by `text`; `None` if nothing changes.
pub(super) fn replaced(completion: &str, text: &str) -> Option<String> {
    rewritten(completion, |_| text.to_owned(), str::to_owned)
}

/// Returns the sentences of `text` that have a letter or a digit, without white space around them.
pub(super) fn sentences(text: &str) -> Vec<&str> {
    text.split_sentence_bounds().map(str::trim).filter(|sentence| sentence.contains(char::is_alphanumeric)).collect()
}

/// Returns the words of `text` as they are written.
pub(super) fn words(text: &str) -> Vec<&str> {
    text.unicode_words().collect()
}

/// Returns the words of `text` that are not function words of English; all words if every word is one.
pub(super) fn content_words(text: &str) -> Vec<&str> {
    let all = words(text);
    let content: Vec<&str> =
        all.iter().copied().filter(|word| !FUNCTION_WORDS.contains(&format!(" {} ", word.to_lowercase()))).collect();
    if content.is_empty() { all } else { content }
}

/// Returns the words of `text` in lower case.
pub(super) fn folded_words(text: &str) -> Vec<String> {
    text.unicode_words().map(str::to_lowercase).collect()
}
