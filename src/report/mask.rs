//! Formats a text with its loss mask.

use crate::printable::harmless;
use std::io::IsTerminal as _;

/// The maximum number of characters of a span. The middle of a longer span is left out.
const SHOWN: usize = 1200;

/// Formats `spans` as one text. Spans that carry loss are green and underlined on a terminal with colours, and
/// otherwise within `⟦ ⟧`. Control characters are escaped.
pub fn masked<'a>(spans: impl IntoIterator<Item = (&'a str, bool)>) -> String {
    let forbidden = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    let dumb = std::env::var_os("TERM").is_some_and(|term| term == "dumb");
    paint(spans, std::io::stdout().is_terminal() && !forbidden && !dumb)
}

fn paint<'a>(spans: impl IntoIterator<Item = (&'a str, bool)>, colour: bool) -> String {
    let mut out = String::new();
    for (text, trained) in spans {
        let text = harmless(&shortened(text));
        match (trained, colour) {
            (false, _) => out += &text,
            (true, false) => out.extend(["⟦", &text, "⟧"]),
            // Colours are set line by line, so that a pager keeps them.
            (true, true) => {
                let lines: Vec<String> = text.split('\n').map(|line| format!("\x1b[4;32m{line}\x1b[0m")).collect();
                out += &lines.join("\n");
            }
        }
    }
    out
}

fn shortened(text: &str) -> String {
    let count = text.chars().count();
    if count <= SHOWN {
        return text.to_owned();
    }
    let head: String = text.chars().take(SHOWN / 2).collect();
    let tail: String = text.chars().skip(count - SHOWN / 2).collect();
    format!("{head} [… {} characters …] {tail}", count - SHOWN)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SPANS: [(&str, bool); 3] = [("ask\n", false), ("tell\nmore", true), ("\x1b[2J", false)];

    #[test]
    fn what_carries_loss_stands_out_with_and_without_colour() {
        assert_eq!(paint(SPANS, false), "ask\n⟦tell\nmore⟧\\u{1b}[2J");
        assert_eq!(paint(SPANS, true), "ask\n\x1b[4;32mtell\x1b[0m\n\x1b[4;32mmore\x1b[0m\\u{1b}[2J");
    }

    #[test]
    fn the_middle_of_a_long_text_is_left_out() {
        let long = "ä".repeat(SHOWN + 7);
        let shown = paint([(long.as_str(), false)], false);
        assert!(shown.contains("[… 7 characters …]") && shown.chars().count() < SHOWN + 40);
    }
}
