//! How wide the terminal is.

use std::io::IsTerminal as _;

/// Columns of running text when stdout is not a terminal.
const TEXT_WIDTH: usize = 100;

/// Columns that a table may use: those of the terminal on stdout; else `$COLUMNS`; else any number, as a file or a program loses
/// what is cut.
pub fn width() -> usize {
    known_width().unwrap_or(usize::MAX)
}

/// Columns that running text fills: those of the terminal on stdout; else `$COLUMNS`; else 100.
pub fn text_width() -> usize {
    known_width().unwrap_or(TEXT_WIDTH)
}

fn known_width() -> Option<usize> {
    let columns = || std::env::var("COLUMNS").ok()?.parse().ok().filter(|&n| n > 0);
    terminal_width().or_else(columns)
}

/// `text` in lines of at most [`text_width`], those after the first `indent` deep.
pub fn filled(text: &str, indent: &str) -> String {
    textwrap::fill(text, textwrap::Options::new(text_width()).subsequent_indent(indent))
}

/// Columns of the terminal on stdout, if there is one.
pub fn terminal_width() -> Option<usize> {
    let stdout = std::io::stdout();
    if !stdout.is_terminal() {
        return None;
    }
    let size = rustix::termios::tcgetwinsize(stdout).ok()?;
    (size.ws_col > 0).then(|| usize::from(size.ws_col))
}
