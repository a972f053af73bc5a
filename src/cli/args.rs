//! Arguments that several commands share, and parsers of values. This module reads no files.

use crate::workspace::DeviceChoice;
use clap::Args;
use clap::builder::{PossibleValuesParser, TypedValueParser};
use std::path::PathBuf;
use std::str::FromStr;
use strum::VariantArray;

/// Flags that every command takes.
#[derive(Clone, Debug, Args)]
pub(super) struct GlobalArgs {
    /// Work in DIR, the project directory, as if started there.
    #[arg(short = 'C', long = "directory", value_name = "DIR", global = true)]
    pub(super) directory: Option<PathBuf>,
    /// Keep results and logs in DIR [default: runs]
    #[arg(long, value_name = "DIR", global = true)]
    pub(super) runs_dir: Option<PathBuf>,
    /// Print one JSON object a line instead of tables.
    #[arg(long, global = true)]
    pub(super) json: bool,
    /// Show failures and warnings only.
    #[arg(short, long, global = true, conflicts_with = "verbose")]
    pub(super) quiet: bool,
    /// Show more: whole keys, causes of errors.
    #[arg(short, long, global = true)]
    pub(super) verbose: bool,
}

/// A run of the past, and some of its stages.
#[derive(Clone, Debug, Args)]
pub(super) struct RunStagesArgs {
    /// A run's id, the beginning or end of one, or `latest`.
    #[arg(value_name = "RUN", default_value = "latest")]
    pub(super) run: String,
    /// Only this stage.
    #[arg(value_name = "STAGE")]
    pub(super) stage: Option<String>,
    /// Only stages of the variants whose names have these parts, e.g. `rouge`, `seed=1` or `rouge,seed=*`; can be
    /// repeated.
    #[arg(long = "variant", value_name = "PATTERN")]
    pub(super) variants: Vec<String>,
}

/// Recipes and what is changed in them.
#[derive(Clone, Debug, Args)]
pub(super) struct RecipeArgs {
    /// Recipe files.
    #[arg(value_name = "RECIPE", required = true)]
    pub(super) recipes: Vec<PathBuf>,
    /// Change a key of every recipe, e.g. `--set stages.grpo.steps=20`; can be repeated.
    #[arg(long = "set", value_name = "KEY=VALUE")]
    pub(super) set: Vec<String>,
    /// Only the variants whose names have these parts, e.g. `rouge`, `seed=1` or `rouge,seed=*`; can be repeated.
    #[arg(long = "variant", value_name = "PATTERN")]
    pub(super) variants: Vec<String>,
}

/// How a plan is run.
#[derive(Clone, Debug, Args)]
pub(super) struct DispatchArgs {
    /// Largest number of stages that run at the same time, if the machine has room for them [default: the recipe's
    /// `runtime.jobs`, else one on each GPU, or one]
    #[arg(short, long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    pub(super) jobs: Option<u16>,
    /// After a failure, go on with the stages that do not need the failed one (the default).
    #[arg(short, long, conflicts_with = "fail_fast")]
    pub(super) keep_going: bool,
    /// After a failure, start nothing more.
    #[arg(long)]
    pub(super) fail_fast: bool,
}

/// Creates a parser for the words of `T`.
pub(super) fn word<T>() -> impl TypedValueParser<Value = T>
where
    T: VariantArray + Into<&'static str> + FromStr + Copy + Send + Sync + 'static,
{
    let words = T::VARIANTS.iter().map(|&word| -> &'static str { word.into() });
    PossibleValuesParser::new(words).map(|text| text.parse().ok().expect("a possible value is a word"))
}

/// Parses `auto`, `cpu` or `cuda:N`.
pub(super) fn device(text: &str) -> Result<DeviceChoice, String> {
    DeviceChoice::named(text).ok_or_else(|| "known devices are `auto`, `cpu`, `cuda:0`, `cuda:1`, ...".to_owned())
}

/// Parses a positive integer.
pub(super) fn at_least_one(text: &str) -> Result<usize, String> {
    text.parse().ok().filter(|&n| n > 0).ok_or_else(|| "a whole number from 1 on".to_owned())
}
