//! Formats long texts beside each other, or below a name.

use textwrap::core::display_width;

/// The separator of the columns.
const RULE: &str = " │ ";
/// The width of the names, in columns.
const INDENT: usize = 10;
/// The minimum width of readable text, in columns.
const NARROWEST: usize = 16;

/// Formats `left` and `right`, each a heading and a text, in two columns that together are at most `width` wide. Lines
/// are wrapped at words; no text is lost.
pub fn side_by_side(left: (&str, &str), right: (&str, &str), width: usize) -> String {
    let column = (width.saturating_sub(display_width(RULE)) / 2).max(NARROWEST);
    let wrapped = |(heading, text): (&str, &str)| {
        let text = text.trim_end().replace('\t', "    ");
        let mut lines = vec![heading.to_owned(), "─".repeat(column)];
        lines.extend(textwrap::wrap(&text, column).into_iter().map(std::borrow::Cow::into_owned));
        lines
    };
    let (left, right) = (wrapped(left), wrapped(right));
    let rows = (0..left.len().max(right.len())).map(|row| {
        let cell = |lines: &[String]| lines.get(row).cloned().unwrap_or_default();
        let (left, right) = (cell(&left), cell(&right));
        let gap = " ".repeat(column.saturating_sub(display_width(&left)));
        format!("{left}{gap}{RULE}{right}").trim_end().to_owned()
    });
    rows.collect::<Vec<_>>().join("\n")
}

/// Formats `text` after `name`, with further lines below its first, wrapped at words if there is a `width`.
pub fn indented(name: &str, text: &str, width: Option<usize>) -> String {
    let room = width.map(|width| width.saturating_sub(INDENT + 2).max(NARROWEST));
    let lines = room.map(|room| textwrap::wrap(text, room).join("\n"));
    let text = lines.as_deref().unwrap_or(text).replace('\n', &format!("\n{:INDENT$}  ", ""));
    format!("{name:>INDENT$}  {text}")
}

#[cfg(test)]
mod tests {
    use super::*;

    const LEFT: &str = "<think>The heart pumps blood through the body.</think>\n<answer>B</answer>";

    #[test]
    fn texts_are_wrapped_at_words_into_two_columns() {
        insta::assert_snapshot!(side_by_side(("completion", LEFT), ("reference", "It pumps blood."), 51), @r"
        completion               │ reference
        ──────────────────────── │ ────────────────────────
        <think>The heart pumps   │ It pumps blood.
        blood through the        │
        body.</think>            │
        <answer>B</answer>       │
        ");
    }

    #[test]
    fn a_text_stands_below_its_name_and_is_wrapped_for_a_terminal_only() {
        assert_eq!(indented("answer", "one two\nthree", None), "    answer  one two\n            three");
        assert_eq!(indented("answer", "one two three four", Some(29)), "    answer  one two three\n            four");
    }

    #[test]
    fn no_line_is_too_wide_whatever_the_text() {
        let long = "x".repeat(70) + " 心臓は血液を送り出すポンプである \tend";
        for width in [35, 80, 81, 140] {
            let drawn = side_by_side(("completion", &long), ("reference", LEFT), width);
            assert!(drawn.lines().all(|line| display_width(line) <= width), "{width}:\n{drawn}");
            assert_eq!(drawn.matches('x').count(), 70, "{drawn}");
        }
        assert!(side_by_side(("a", "b"), ("c", "d"), 3).contains('b'), "a terminal that is too narrow");
    }
}
