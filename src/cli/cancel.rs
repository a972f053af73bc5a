//! `orchestrate cancel [RUN]`.

use super::context::Context;
use super::error::{CliError, Kind};
use super::find::{find_run, past_runs};
use super::output::Output;
use crate::history::{CancelError, PastRun};
use crate::stage::RunStatus;
use clap::Args;
use serde_json::json;
use std::io::Write as _;
use std::time::Duration;

/// How often the run is polled until it has ended.
const POLL_EVERY: Duration = Duration::from_millis(100);

/// Which run, and how fast.
#[derive(Debug, Args)]
#[command(after_help = "\
Works like Ctrl-C in the run's own terminal: its workers write their resume points and end, and
`orchestrate resume RUN` continues from there. It waits until the run has ended; Ctrl-C here ends only
the waiting.

Examples:
  orchestrate cancel                the run that is running
  orchestrate cancel 7Q4XZ1         the end (or the beginning) of a run's id
  orchestrate cancel latest --now   kill the workers at once; their last resume points remain

--json prints {\"run\",\"status\"}.")]
pub(super) struct CancelArgs {
    /// A run's id, the beginning or end of one, or `latest` [default: the one that is running]
    #[arg(value_name = "RUN")]
    run: Option<String>,
    /// Do not wait for resume points.
    #[arg(long)]
    now: bool,
}

pub(super) fn cancel(context: &Context, args: &CancelArgs) -> Result<(), CliError> {
    let runs = past_runs(context)?;
    let past = choose(&runs, args.run.as_deref())?;
    past.cancel(args.now).map_err(|error| refusal(past, &error))?;
    if !context.quiet {
        let how = if args.now { "ending" } else { "stopping: waiting for resume points (`--now` does not)" };
        let _ = writeln!(std::io::stderr(), "run {}: {how}", past.run);
    }
    let mut status = past.status_now();
    while status == RunStatus::Running {
        std::thread::sleep(POLL_EVERY);
        status = past.status_now();
    }
    let mut out = Output::stdout();
    if context.json {
        out.json(&json!({"run": past.run, "status": status}))?;
    } else {
        out.line(format!("run {}  {status}", past.run))?;
    }
    out.finish()
}

/// Returns the running run that the argument refers to.
fn choose<'a>(runs: &'a [PastRun], wanted: Option<&str>) -> Result<&'a PastRun, CliError> {
    let running: Vec<&PastRun> = runs.iter().filter(|past| past.status == RunStatus::Running).collect();
    let past = match (wanted, running.as_slice()) {
        (Some("latest"), [newest, ..]) | (None, [newest]) => newest,
        (Some("latest") | None, []) => {
            return Err(CliError::nothing("no run is running").hint("`orchestrate history` lists what ran"));
        }
        (None, several) => {
            let ids: Vec<&str> = several.iter().take(5).map(|past| past.run.as_str()).collect();
            return Err(CliError::new(Kind::Usage, format!("{} runs are running", several.len()))
                .hint(format!("name one of them: {}", ids.join(", "))));
        }
        (Some(wanted), _) => find_run(runs, wanted)?,
    };
    if past.status != RunStatus::Running {
        return Err(CliError::nothing(format!("run {} is not running: it ended `{}`", past.run, past.status))
            .hint("`orchestrate cancel` without a run stops the one that is running"));
    }
    Ok(past)
}

fn refusal(past: &PastRun, error: &CancelError) -> CliError {
    let message = format!("run {} cannot be stopped from here: {error}", past.run);
    match error {
        CancelError::OutOfSight { host, .. } => CliError::new(Kind::Usage, message)
            .hint(format!("on `{host}`: `orchestrate cancel {}`", past.run))
            .hint(format!("if that host is gone: `orchestrate resume {} --takeover`", past.run)),
        CancelError::Signal(_) => CliError::new(Kind::Internal, message).hint("the process may belong to another user"),
    }
}
