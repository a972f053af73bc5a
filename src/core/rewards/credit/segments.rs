//! The segments of a text.

use super::spec::Segmentation;
use std::ops::Range;
use unicode_segmentation::UnicodeSegmentation;

/// The characters that end a clause.
const CLAUSE_ENDS: [char; 7] = ['.', ',', ';', ':', '!', '?', '\n'];

/// Returns the segments of `text` as ranges of bytes, at most `most` of them, and the unions that they form: ranges of
/// segments. Adjacent segments are merged where there are too many. A segment without a letter or digit belongs to the
/// one before it.
pub(super) fn segments(text: &str, rule: Segmentation, most: usize) -> (Vec<Range<usize>>, Vec<Range<usize>>) {
    let found = match rule {
        Segmentation::Sentences => sentences(text),
        Segmentation::Clauses => clauses(text),
        Segmentation::Words(count) => words(text, count),
    };
    let larger = match rule {
        Segmentation::Sentences => paragraphs(text),
        Segmentation::Clauses | Segmentation::Words(_) => sentences(text),
    };
    let found = at_most(&found, most);
    let unions = unions(&found, &larger);
    (found, unions)
}

fn sentences(text: &str) -> Vec<Range<usize>> {
    spoken(text, text.split_sentence_bound_indices().map(|(start, part)| start..start + part.len()))
}

fn clauses(text: &str) -> Vec<Range<usize>> {
    let mut start = 0;
    let parts: Vec<Range<usize>> = text
        .split_inclusive(CLAUSE_ENDS)
        .map(|part| {
            start += part.len();
            start - part.len()..start
        })
        .collect();
    spoken(text, parts.into_iter())
}

fn paragraphs(text: &str) -> Vec<Range<usize>> {
    let mut start = 0;
    let parts: Vec<Range<usize>> = text
        .split("\n\n")
        .map(|part| {
            let range = start..start + part.len();
            start = range.end + 2;
            range
        })
        .collect();
    spoken(text, parts.into_iter())
}

fn words(text: &str, count: usize) -> Vec<Range<usize>> {
    let words: Vec<Range<usize>> =
        text.split_word_bound_indices().map(|(start, word)| start..start + word.len()).collect();
    let words = spoken(text, words.into_iter());
    words.chunks(count).map(|run| run[0].start..run[run.len() - 1].end).collect()
}

/// Keeps the parts with a letter or digit, without white space before them; others are added to the part before them.
fn spoken(text: &str, parts: impl Iterator<Item = Range<usize>>) -> Vec<Range<usize>> {
    let mut found: Vec<Range<usize>> = Vec::new();
    for part in parts {
        let own = &text[part.clone()];
        let part = part.start + (own.len() - own.trim_start().len())..part.end;
        match found.last_mut() {
            _ if text[part.clone()].contains(char::is_alphanumeric) => found.push(part),
            Some(before) => before.end = part.end,
            None => {}
        }
    }
    found
}

/// Merges adjacent segments, so that there are at most `most`.
fn at_most(found: &[Range<usize>], most: usize) -> Vec<Range<usize>> {
    let size = found.len().div_ceil(most.max(1)).max(1);
    found.chunks(size).map(|run| run[0].start..run[run.len() - 1].end).collect()
}

/// Returns the runs of segments that begin in the same larger part.
fn unions(segments: &[Range<usize>], larger: &[Range<usize>]) -> Vec<Range<usize>> {
    let part = |segment: &Range<usize>| larger.partition_point(|part| part.start <= segment.start);
    let mut found: Vec<Range<usize>> = Vec::new();
    for run in segments.chunk_by(|one, other| part(one) == part(other)) {
        let start = found.last().map_or(0, |last| last.end);
        found.push(start..start + run.len());
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn texts<'t>(text: &'t str, rule: &str) -> Vec<&'t str> {
        let rule = Segmentation::read(rule).unwrap();
        segments(text, rule, 60).0.into_iter().map(|range| text[range].trim()).collect()
    }

    #[test]
    fn a_text_is_cut_into_sentences_clauses_or_words() {
        let text = "The heart pumps, as a rule. It beats! \"Well\".";
        assert_eq!(texts(text, "sentences"), ["The heart pumps, as a rule.", "It beats!", "\"Well\"."]);
        assert_eq!(texts(text, "clauses"), ["The heart pumps,", "as a rule.", "It beats!", "\"Well\"."]);
        assert_eq!(texts("one two  three, four", "words:2"), ["one two", "three, four"]);
        assert_eq!(texts("... !", "sentences"), [""; 0]);
        assert!(Segmentation::read("words:0").is_none() && Segmentation::read("lines").is_none());
    }

    #[test]
    fn segments_of_one_larger_part_are_a_union() {
        let text = "One. Two.\n\nThree. Four. Five.";
        let (found, unions) = segments(text, Segmentation::Sentences, 60);
        assert_eq!((found.len(), unions), (5, vec![0..2, 2..5]));
        let (_, unions) = segments("One, two. Three", Segmentation::Clauses, 60);
        assert_eq!(unions, [0..2, 2..3]);
    }

    proptest! {
        #[test]
        fn segments_are_in_order_apart_and_few_enough(text in "[a-c .,\n]{0,80}", most in 1_usize..8, words in 1_usize..4) {
            for rule in [Segmentation::Sentences, Segmentation::Clauses, Segmentation::Words(words)] {
                let (found, unions) = segments(&text, rule, most);
                prop_assert!(found.len() <= most);
                prop_assert!(found.windows(2).all(|pair| pair[0].end <= pair[1].start));
                prop_assert!(found.iter().all(|range| text[range.clone()].contains(char::is_alphanumeric)));
                prop_assert_eq!(unions.iter().map(Range::len).sum::<usize>(), found.len());
            }
        }
    }
}
