//! Stdout, where data goes.

use super::error::CliError;
use std::io::{self, BufWriter, StdoutLock, Write};

/// Buffered stdout; a reader that went away is [`CliError::broken_pipe`], which is quiet.
pub(super) struct Output {
    out: BufWriter<StdoutLock<'static>>,
}

impl Output {
    pub(super) fn stdout() -> Self {
        Self { out: BufWriter::new(io::stdout().lock()) }
    }

    /// Writes a line.
    pub(super) fn line(&mut self, text: impl AsRef<str>) -> Result<(), CliError> {
        writeln!(self.out, "{}", text.as_ref()).map_err(|error| CliError::stdout(&error))
    }

    /// Writes a value as one line of JSON.
    pub(super) fn json(&mut self, value: &serde_json::Value) -> Result<(), CliError> {
        writeln!(self.out, "{value}").map_err(|error| CliError::stdout(&error))
    }

    /// Writes bytes as they are.
    pub(super) fn bytes(&mut self, bytes: &[u8]) -> Result<(), CliError> {
        self.out.write_all(bytes).map_err(|error| CliError::stdout(&error))
    }

    /// Hands everything to the reader.
    pub(super) fn finish(mut self) -> Result<(), CliError> {
        self.out.flush().map_err(|error| CliError::stdout(&error))
    }
}
