//! The command, files and environment with which a program is started.

use crate::digest::{ContentChanged, Digest};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;
use thiserror::Error;

/// The environment variables that every program inherits besides those it names.
pub(super) const ENVIRONMENT: &[&str] = &["PATH", "HOME", "USER", "TMPDIR", "TZ", "LANG", "LC_ALL", "LC_CTYPE"];

/// The reason why a program cannot be set up.
#[derive(Debug, Error)]
pub enum ProgramError {
    /// The environment lacks a variable that the program's `env` names.
    #[error("the environment variable `{variable}`, which its `env` names, is not set")]
    NoVariable {
        /// The name of the variable.
        variable: String,
    },
    /// The place of one of its files is unknown.
    #[error("the assignment names no path for its file with the digest {}", digest.short())]
    NoFile {
        /// The digest of the file.
        digest: Digest,
    },
}

impl ProgramError {
    /// Returns advice about the error.
    pub fn hint(&self) -> &'static str {
        match self {
            Self::NoVariable { .. } => "set it where `orchestrate` is started, or take it out of `env`",
            Self::NoFile { .. } => "run `orchestrate run` to plan again",
        }
    }
}

/// A word of a command.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Argument {
    /// A literal text.
    Text(String),
    /// The path of the file with this digest.
    File(Digest),
}

/// A program with its files and its environment.
#[derive(Clone, Debug)]
pub struct Program {
    words: Vec<Argument>,
    files: BTreeMap<Digest, PathBuf>,
    /// The variables that its `env` names, with their values.
    environment: Vec<(String, String)>,
}

impl Program {
    /// Creates the program of `words` and `files`. `place` returns the paths of files, and `variable` the values of the
    /// variables `env`.
    pub fn new(
        words: &[Argument],
        files: &[Digest],
        env: &[String],
        place: &dyn Fn(&Digest) -> Option<PathBuf>,
        variable: &dyn Fn(&str) -> Option<String>,
    ) -> Result<Self, ProgramError> {
        let file = |digest: &Digest| {
            let path = place(digest).ok_or_else(|| ProgramError::NoFile { digest: digest.clone() })?;
            Ok((digest.clone(), path))
        };
        let set = |name: &String| {
            let value = variable(name).ok_or_else(|| ProgramError::NoVariable { variable: name.clone() })?;
            Ok((name.clone(), value))
        };
        Ok(Self {
            words: words.to_vec(),
            files: files.iter().map(file).collect::<Result<_, _>>()?,
            environment: env.iter().map(set).collect::<Result<_, _>>()?,
        })
    }

    /// Returns the command to start.
    pub fn command(&self) -> Command {
        let mut words = self.words.iter().map(|word| match word {
            Argument::Text(text) => PathBuf::from(text),
            Argument::File(digest) => self.files[digest].clone(),
        });
        let mut command = Command::new(words.next().expect("a command has a first word"));
        let inherited = ENVIRONMENT.iter().filter_map(|name| Some((name, std::env::var_os(name)?)));
        command.args(words).env_clear().envs(inherited).envs(self.environment.iter().cloned());
        // Python buffers output to pipes and files, which would delay the log.
        command.env("PYTHONUNBUFFERED", "1");
        command
    }

    /// Compares the program's files with their digests, because the cache key names their contents.
    pub fn check_files(&self, mut digest_of: impl FnMut(&Path) -> io::Result<Digest>) -> Result<(), ContentChanged> {
        for (digest, path) in &self.files {
            ContentChanged::check(digest, path, digest_of(path))?;
        }
        Ok(())
    }
}
