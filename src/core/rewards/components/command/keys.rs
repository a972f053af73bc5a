//! The keys of a `command` component.

use super::Command;
use crate::digest::Digest;
use crate::program::Argument;
use crate::rewards::component::{Kind, Measure};
use crate::rewards::remote::questions::{Extras, Sent, in_order};
use crate::rewards::{BuildError, Reward, Scope, Setup, TableContext};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What a program of yours says of it. It reads a JSON line for each completion, `{"id", "prompt", "completion", "text"
/// (the part that `scope` names), "reference", "answer"}`, `null` for what is not there, and writes one for each, in
/// order and flushed: `{"id" (the same), "value": number}` or `{"id", "missing": "why"}`. It runs as long as the stage;
/// questions that are equal but for their `id` must have equal answers.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CommandTable {
    /// The program and its arguments, e.g. `["python3", "rewards/units.py"]`; no shell reads them. An argument that is
    /// one of
    /// `files` becomes that file's absolute path.
    #[schemars(length(min = 1))]
    pub command: Vec<String>,
    /// The program's own files and those that it reads: scripts, data; patterns are allowed. Their content, not their
    /// place, is part of the stage's cache key.
    pub files: Vec<String>,
    /// Names of the variables of the environment that it is given, beside `PATH`, `HOME`, `USER`, `TMPDIR`, `TZ` and
    /// the locale's.
    pub env: Vec<String>,
    /// Seconds that a batch may take, the program's start included; what is not answered then is missing.
    #[schemars(range(max = 86400), extend("exclusiveMinimum" = 0))]
    pub timeout_s: f64,
    /// What a line has besides: `row`, all fields of the row; `step`, the training step; `group`, the completions of
    /// the row that are rated together, with the place of this one.
    pub send: Vec<Sent>,
}

/// A program that rates texts, with its settings.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CommandSpec {
    /// The program and its arguments.
    pub command: Vec<Argument>,
    /// The digests of the program's files, including the files that it reads.
    pub files: Vec<Digest>,
    /// The names of the environment variables that the program gets.
    pub env: Vec<String>,
    /// The time limit for a batch, in seconds; values without an answer by then are missing.
    pub timeout_s: f64,
    /// What is sent besides texts.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub send: Vec<Sent>,
}

impl Kind for CommandSpec {
    const NAME: &'static str = "command";
    const PAGE: &'static str = include_str!("../docs/command.md");
    const DEFAULTS: &'static str = r#"
scope = "completion" # a program can read tags
files = []
env = []
timeout_s = 120.0 # as long as a judge has
send = [] # most programs need texts alone
"#;

    type Table = CommandTable;

    fn resolve(table: &Self::Table, recipe: &mut dyn TableContext) -> Option<Self> {
        let CommandTable { command, files, env, timeout_s, send } = table;
        let (command, files) = recipe.program(command, files, env)?;
        Some(Self { command, files, env: env.clone(), timeout_s: *timeout_s, send: in_order(send) })
    }
}

impl Measure for CommandSpec {
    fn build(&self, _scope: &Scope, setup: &mut Setup<'_>) -> Result<Box<dyn Reward>, BuildError> {
        let extras = Extras::new(&self.send, setup.row_fields)?;
        let judges = setup.judges.access();
        Ok(Box::new(Command::new(self, extras, setup.file, judges.variable, judges.stop)?))
    }

    fn range(&self) -> Option<(f64, f64)> {
        None
    }

    fn files(&self) -> Vec<&Digest> {
        let words = self.command.iter().filter_map(|word| match word {
            Argument::File(digest) => Some(digest),
            Argument::Text(_) => None,
        });
        words.chain(&self.files).collect()
    }

    fn reads_the_row(&self) -> bool {
        true
    }
}
