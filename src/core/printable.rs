//! Makes untrusted text safe to print: a data set, a model, a program or a server must not control the terminal.

/// Returns `text` with escapes for its control characters and for characters that change the direction of writing. Line
/// ends and tabs are kept.
pub fn harmless(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        if steers(c) { out.extend(c.escape_default()) } else { out.push(c) }
    }
    out
}

/// Returns `text` with each such character replaced by one of the same length in bytes, so that positions are
/// unchanged.
pub fn harmless_in_place(text: &str) -> String {
    let stand_in = |c: char| match c.len_utf8() {
        1 => '?',
        2 => '¿',
        _ => char::REPLACEMENT_CHARACTER,
    };
    text.chars().map(|c| if steers(c) { stand_in(c) } else { c }).collect()
}

/// Returns the text of a log as a terminal would show it. Of a line that was overwritten repeatedly, only the last
/// state is kept. Characters that control the terminal are escaped.
pub fn harmless_log(text: &str) -> String {
    let last_state = |line: &str| {
        let states = line.trim_end_matches('\r').rsplit('\r');
        harmless(states.into_iter().next().unwrap_or_default())
    };
    text.split('\n').map(last_state).collect::<Vec<_>>().join("\n")
}

fn steers(c: char) -> bool {
    let is_bidirectional_control = matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    (c.is_control() && c != '\n' && c != '\t') || is_bidirectional_control
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_that_steers_a_terminal_comes_through() {
        let text = "a\tb\n\x1b]0;title\x07\u{9b}2J\u{202e}ä€";
        assert_eq!(harmless(text), "a\tb\n\\u{1b}]0;title\\u{7}\\u{9b}2J\\u{202e}ä€");
        let in_place = harmless_in_place(text);
        assert_eq!(in_place, "a\tb\n?]0;title?¿2J\u{fffd}ä€");
        assert_eq!(in_place.len(), text.len());
    }

    #[test]
    fn of_a_line_that_was_written_over_the_last_state_is_left() {
        assert_eq!(harmless_log("0%\r50%\r100%\r\ndone\r\n\x1b[1mbold"), "100%\ndone\n\\u{1b}[1mbold");
    }
}
