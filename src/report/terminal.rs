//! The width of the terminal.

use std::io::IsTerminal as _;

/// The width of running text when stdout is not a terminal.
const TEXT_WIDTH: usize = 100;

/// Returns the width for tables: that of the terminal on stdout, else `$COLUMNS`, else unlimited, because a file or a
/// program would lose what is cut.
pub fn width() -> usize {
    known_width().unwrap_or(usize::MAX)
}

/// Returns the width for running text: that of the terminal on stdout, else `$COLUMNS`, else 100.
pub fn text_width() -> usize {
    known_width().unwrap_or(TEXT_WIDTH)
}

fn known_width() -> Option<usize> {
    let columns = || std::env::var("COLUMNS").ok()?.parse().ok().filter(|&n| n > 0);
    terminal_width().or_else(columns)
}

/// Wraps `text` to lines of at most [`text_width`], and indents all lines but the first by `indent`.
pub fn filled(text: &str, indent: &str) -> String {
    textwrap::fill(text, textwrap::Options::new(text_width()).subsequent_indent(indent))
}

/// Returns the width of the terminal on stdout, if there is one.
pub fn terminal_width() -> Option<usize> {
    let stdout = std::io::stdout();
    if !stdout.is_terminal() {
        return None;
    }
    let size = rustix::termios::tcgetwinsize(stdout).ok()?;
    (size.ws_col > 0).then(|| usize::from(size.ws_col))
}
