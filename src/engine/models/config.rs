//! Reading of `config.json`, with the errors of a stage.

use crate::error::{StageError, StageResult};
use orchestrate_core::architecture::{ConfigError, DecoderConfig};
use std::path::Path;

/// Reads the `config.json` of the Hugging Face directory `dir`.
///
/// # Errors
/// See [`DecoderConfig::read`].
pub fn load_config(dir: &Path) -> StageResult<DecoderConfig> {
    DecoderConfig::read(dir).map_err(|error| match error {
        ConfigError::Io { path, source } => StageError::io(&path, &source),
        ConfigError::Unsupported(message) => StageError::input(message),
    })
}
