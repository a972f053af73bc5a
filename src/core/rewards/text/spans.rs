//! The part of a completion that a component reads.

use crate::rewards::Scope;
use std::borrow::Cow;
use std::ops::Range;

/// Returns the part of `completion` that `scope` names, without surrounding white space.
///
/// For a tag, it is the text of the first `<tag>...</tag>`. `None` when the tag is absent or not closed, as after
/// truncation by the length limit. For [`Scope::Explanation`] without `<explanation>`, it is the text outside `<think>`
/// and `<answer>`, with its pieces joined by a space. `None` when that text is empty. Tags are case-sensitive.
pub fn span<'a>(completion: &'a str, scope: &Scope) -> Option<Cow<'a, str>> {
    match scope {
        Scope::Completion => Some(Cow::Borrowed(completion.trim())),
        Scope::Think => tagged(completion, "think").map(Cow::Borrowed),
        Scope::Answer => tagged(completion, "answer").map(Cow::Borrowed),
        Scope::Tag(name) => tagged(completion, name).map(Cow::Borrowed),
        Scope::Explanation if completion.contains("<explanation>") => {
            tagged(completion, "explanation").map(Cow::Borrowed)
        }
        Scope::Explanation => outside(completion, &["think", "answer"]),
    }
}

/// Returns the bytes of `completion` that [`span`] returns; `None` where there is no text, or where it is in pieces.
pub fn place(completion: &str, scope: &Scope) -> Option<Range<usize>> {
    let Cow::Borrowed(part) = span(completion, scope)? else { return None };
    let start = part.as_ptr() as usize - completion.as_ptr() as usize;
    Some(start..start + part.len())
}

/// Returns the trimmed text of the first `<tag>...</tag>`.
fn tagged<'a>(text: &'a str, tag: &str) -> Option<&'a str> {
    let (_, rest) = text.split_once(&format!("<{tag}>"))?;
    let (inside, _) = rest.split_once(&format!("</{tag}>"))?;
    Some(inside.trim())
}

/// Returns the text outside all `tags`; an unclosed tag reaches to the end.
fn outside<'a>(text: &'a str, tags: &[&str]) -> Option<Cow<'a, str>> {
    let mut pieces = Vec::new();
    let mut rest = text;
    loop {
        let opening = tags.iter().filter_map(|tag| Some((rest.find(&format!("<{tag}>"))?, tag))).min();
        let Some((start, tag)) = opening else {
            pieces.push(rest.trim());
            break;
        };
        pieces.push(rest[..start].trim());
        match rest[start..].split_once(&format!("</{tag}>")) {
            Some((_, after)) => rest = after,
            None => break,
        }
    }
    pieces.retain(|piece| !piece.is_empty());
    match pieces.as_slice() {
        [] => None,
        [only] => Some(Cow::Borrowed(only)),
        several => Some(Cow::Owned(several.join(" "))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_first_closed_tag_counts_and_is_trimmed() {
        let text = "<think> a\nb </think><answer>B</answer><answer>C</answer>";
        assert_eq!(span(text, &Scope::Think).as_deref(), Some("a\nb"));
        assert_eq!(span(text, &Scope::Answer).as_deref(), Some("B"));
        assert_eq!(span(text, &Scope::Tag("note".into())), None);
        assert_eq!(span("x<note></note>", &Scope::Tag("note".into())).as_deref(), Some(""));
        assert_eq!(span("  x \n", &Scope::Completion).as_deref(), Some("x"));
    }

    #[test]
    fn a_tag_cut_by_the_length_limit_has_no_span() {
        assert_eq!(span("<think>because the", &Scope::Think), None);
        assert_eq!(span("<think>because the", &Scope::Explanation), None);
        assert_eq!(span("<think>a</think><explanation>because", &Scope::Explanation), None);
    }

    #[test]
    fn a_closing_tag_before_the_opening_one_does_not_close_it() {
        assert_eq!(span("</think> x <think> y", &Scope::Think), None);
    }

    #[test]
    fn an_explanation_tag_wins_over_the_text_outside() {
        let text = "well <explanation>why</explanation> <think>a</think> so";
        assert_eq!(span(text, &Scope::Explanation).as_deref(), Some("why"));
    }

    #[test]
    fn without_its_tag_the_explanation_stands_outside_think_and_answer() {
        let explanation = |text| span(text, &Scope::Explanation).map(Cow::into_owned);
        assert_eq!(explanation("<think>a</think> because b <answer>C</answer>").as_deref(), Some("because b"));
        assert_eq!(
            explanation("first <think>a</think> then <answer>C</answer> last").as_deref(),
            Some("first then last")
        );
        assert_eq!(explanation("said <answer>C").as_deref(), Some("said"));
        assert_eq!(explanation("plain").as_deref(), Some("plain"));
        assert_eq!(explanation("<think>a</think> <answer>C</answer>"), None);
        assert_eq!(explanation(""), None);
    }

    #[test]
    fn a_place_is_where_the_text_is() {
        let text = "so <think> a heart </think> b";
        assert_eq!(&text[place(text, &Scope::Think).unwrap()], "a heart");
        assert_eq!(place(text, &Scope::Completion), Some(0..text.len()));
        assert_eq!(place(text, &Scope::Answer), None);
        assert_eq!(place("a <think>b</think> c", &Scope::Explanation), None, "it is in two pieces");
    }

    proptest! {
        #[test]
        fn whatever_is_put_into_a_tag_comes_out(before in "[^<]*", inside in "[^<]*", after in ".*") {
            let text = format!("{before}<think>{inside}</think>{after}");
            prop_assert_eq!(span(&text, &Scope::Think).unwrap(), inside.trim());
        }
    }
}
