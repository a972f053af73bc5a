//! How wide the terminal is.

use std::io::IsTerminal as _;

/// Columns that a table may use when stdout is no terminal.
const DEFAULT_WIDTH: usize = 100;

/// Columns of the terminal on stdout; else `$COLUMNS`; else 100.
pub fn width() -> usize {
    let columns = || std::env::var("COLUMNS").ok()?.parse().ok().filter(|&n| n > 0);
    terminal_width().or_else(columns).unwrap_or(DEFAULT_WIDTH)
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
