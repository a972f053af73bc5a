//! `orchestrate logs RUN [STAGE]`.

use super::args::RunStagesArgs;
use super::context::Context;
use super::error::CliError;
use super::find::{find_run, find_stages, past_runs, stage_title};
use super::output::Output;
use crate::digest::Digest;
use crate::history::LoggedPlan;
use crate::printable::harmless_log;
use clap::Args;
use serde_json::json;
use std::path::PathBuf;

/// Whose log.
#[derive(Debug, Args)]
#[command(after_help = "\
Prints what the workers wrote to stdout and stderr. What they measured is in `orchestrate metrics`.

--json prints {\"run\",\"stage\",\"key\",\"path\",\"text\"}, one a line.

Examples:
  orchestrate logs latest
  orchestrate logs latest grpo")]
pub(super) struct LogsArgs {
    #[command(flatten)]
    of: RunStagesArgs,
}

pub(super) fn logs(context: &Context, args: &LogsArgs) -> Result<(), CliError> {
    let runs = past_runs(context)?;
    let past = find_run(&runs, &args.of.run)?;
    let plan = LoggedPlan::load(&past.log_dir)?;
    let mut out = Output::stdout();
    for stage in find_stages(&plan, args.of.stage.as_deref(), &args.of.variants)? {
        let Some(path) = log_of(context, &stage.key) else { continue };
        let text = String::from_utf8_lossy(&fs_err::read(&path)?).into_owned();
        if context.json {
            out.json(&json!({"run": past.run, "stage": stage.stage, "key": stage.key, "path": path, "text": text}))?;
        } else {
            out.line(format!("==> {} ({})", stage_title(&plan, stage), context.shown(&path)))?;
            out.line(harmless_log(text.trim_end()))?;
        }
    }
    out.finish()
}

/// Returns the log of the stage's worker, in its attempt directory or beside its checkpoint.
fn log_of(context: &Context, key: &Digest) -> Option<PathBuf> {
    let places = ["work", "cache"].map(|place| context.runs().join(place).join(key.as_str()).join("worker.log"));
    places.into_iter().find(|path| path.is_file())
}
