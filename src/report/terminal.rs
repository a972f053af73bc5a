//! How wide the terminal is.

use std::io::IsTerminal as _;

/// Columns that a table may use when stdout is no terminal.
const DEFAULT_WIDTH: usize = 100;

/// Columns of the terminal on stdout; else `$COLUMNS`; else 100.
pub fn width() -> usize {
    let stdout = std::io::stdout();
    if stdout.is_terminal()
        && let Ok(size) = rustix::termios::tcgetwinsize(stdout)
        && size.ws_col > 0
    {
        return usize::from(size.ws_col);
    }
    std::env::var("COLUMNS").ok().and_then(|columns| columns.parse().ok()).filter(|&n| n > 0).unwrap_or(DEFAULT_WIDTH)
}
