//! Colour on stderr, if the terminal supports it and `NO_COLOR` does not forbid it. No information depends on it.

use std::io::IsTerminal as _;

/// Colours words, or leaves them unchanged.
#[derive(Clone, Copy, Debug)]
pub(super) struct Paint {
    on: bool,
}

impl Paint {
    /// Reads the settings for stderr from the environment.
    pub(super) fn for_stderr() -> Self {
        let forbidden = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        let dumb = std::env::var_os("TERM").is_some_and(|term| term == "dumb");
        Self { on: std::io::stderr().is_terminal() && !forbidden && !dumb }
    }

    /// Colours a success.
    pub(super) fn green(self, text: &str) -> String {
        self.wrap("32", text)
    }

    /// Colours a failure.
    pub(super) fn red(self, text: &str) -> String {
        self.wrap("1;31", text)
    }

    /// Colours a warning.
    pub(super) fn yellow(self, text: &str) -> String {
        self.wrap("33", text)
    }

    /// Dims a detail.
    pub(super) fn dim(self, text: &str) -> String {
        self.wrap("2", text)
    }

    fn wrap(self, code: &str, text: &str) -> String {
        if self.on { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
    }
}
