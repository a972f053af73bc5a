//! Stdout, for data.

use super::error::CliError;
use std::io::{self, BufWriter, StdoutLock, Write};

/// Buffered stdout. If the reader closed the pipe, the error is [`CliError::broken_pipe`], which is not reported.
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

    /// Writes bytes unchanged.
    pub(super) fn bytes(&mut self, bytes: &[u8]) -> Result<(), CliError> {
        self.out.write_all(bytes).map_err(|error| CliError::stdout(&error))
    }

    /// Flushes the output.
    pub(super) fn finish(mut self) -> Result<(), CliError> {
        self.out.flush().map_err(|error| CliError::stdout(&error))
    }
}
