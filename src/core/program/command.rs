//! What a program is started with.

use crate::digest::{ContentChanged, Digest};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;
use thiserror::Error;

/// The variables of this program's environment that every program has beside those it names.
pub(super) const ENVIRONMENT: &[&str] = &["PATH", "HOME", "USER", "TMPDIR", "TZ", "LANG", "LC_ALL", "LC_CTYPE"];

/// Why a program cannot be set up.
#[derive(Debug, Error)]
pub enum ProgramError {
    /// The environment lacks a variable that it names.
    #[error("the environment variable `{variable}`, which its `env` names, is not set")]
    NoVariable {
        /// Name of the variable.
        variable: String,
    },
    /// The place of one of its files is unknown.
    #[error("the assignment names no path for its file with the digest {}", digest.short())]
    NoFile {
        /// Digest of the file.
        digest: Digest,
    },
}

impl ProgramError {
    /// What to do about it.
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
    /// As it is.
    Text(String),
    /// The path of the file with this digest.
    File(Digest),
}

/// A program with what it is made of and what it is given.
#[derive(Clone, Debug)]
pub struct Program {
    words: Vec<Argument>,
    files: BTreeMap<Digest, PathBuf>,
    /// What its `env` names, with its values.
    environment: Vec<(String, String)>,
}

impl Program {
    /// The program of `words` and `files`: `place` says where its files lie, `variable` the values of the variables `env`.
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

    /// The command to start.
    pub fn command(&self) -> Command {
        let mut words = self.words.iter().map(|word| match word {
            Argument::Text(text) => PathBuf::from(text),
            Argument::File(digest) => self.files[digest].clone(),
        });
        let mut command = Command::new(words.next().expect("a command has a first word"));
        let inherited = ENVIRONMENT.iter().filter_map(|name| Some((name, std::env::var_os(name)?)));
        command.args(words).env_clear().envs(inherited).envs(self.environment.iter().cloned());
        // Python keeps what is written to a pipe or a file until there is much of it: nobody could follow it
        command.env("PYTHONUNBUFFERED", "1");
        command
    }

    /// The cache key names the contents of files: others would be cached under a wrong name.
    pub fn check_files(&self, mut digest_of: impl FnMut(&Path) -> io::Result<Digest>) -> Result<(), ContentChanged> {
        for (digest, path) in &self.files {
            ContentChanged::check(digest, path, digest_of(path))?;
        }
        Ok(())
    }
}
