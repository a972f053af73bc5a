//! `orchestrate resume [RUN]`.

use super::args::DispatchArgs;
use super::context::Context;
use super::error::{CliError, Kind};
use super::find::{find_run, past_runs};
use super::planning;
use super::run::{commit, execute};
use crate::history::{Invocation, Liveness, resumable};
use crate::run::RunRequest;
use crate::stage::RunStatus;
use clap::Args;
use std::io::Write as _;
use std::path::PathBuf;

/// Which run to go on with, and how.
#[derive(Debug, Args)]
#[command(after_help = "\
Plans the recipes as they were when the run began, with the same --set, --variant and --only. A new run with
its own id does what is missing. Committed stages are cached; an interrupted stage continues after its newest
resume point.

--json prints what `run --json` does.

Examples:
  orchestrate resume              the newest run that was interrupted or failed
  orchestrate resume 01KAB3       this run
  orchestrate resume 01KAB3 --takeover
                                  a run of a machine that is gone; make sure that
                                  the run has ended, as two machines would both
                                  do its work")]
pub(super) struct ResumeArgs {
    /// A run's id, or the beginning of one [default: the newest that was interrupted or failed]
    #[arg(value_name = "RUN")]
    run: Option<String>,
    /// Declare dead a RUN of another machine, and continue it
    #[arg(long, requires = "run")]
    takeover: bool,
    #[command(flatten)]
    dispatch: DispatchArgs,
}

pub(super) fn resume(context: &Context, args: &ResumeArgs) -> Result<(), CliError> {
    let runs = past_runs(context)?;
    let past = match &args.run {
        Some(wanted) => find_run(&runs, wanted)?,
        None => resumable(&runs).ok_or_else(|| {
            CliError::nothing("no run was interrupted or failed")
                .hint("`orchestrate history` lists what ran; `orchestrate run RECIPE` runs a recipe")
        })?,
    };
    if past.status == RunStatus::Running {
        match past.liveness() {
            Liveness::Unknown if args.takeover => past.take_over()?,
            Liveness::Unknown => {
                let host = past.process.as_ref().map_or("another host", |process| process.host.as_str());
                let message =
                    format!("run {} was started on `{host}`, and its state is not visible from here", past.run);
                let hint = format!("if it is dead: `orchestrate resume {} --takeover`", past.run);
                return Err(CliError::new(Kind::Usage, message).hint(hint));
            }
            Liveness::Alive | Liveness::Ended => {
                return Err(CliError::new(Kind::Usage, format!("run {} is still running", past.run))
                    .hint(format!("`orchestrate cancel {}` stops it", past.run)));
            }
        }
    }
    if !context.quiet {
        let _ = writeln!(std::io::stderr(), "going on with run {} ({})", past.run, past.status);
    }
    let invocation = &past.invocation;
    for source in invocation.changed_sources(&past.log_dir) {
        let source = context.shown(&source);
        let _ = writeln!(
            std::io::stderr(),
            "warning: `{source}` has changed since; this run continues with the recipe as it was\n\
             hint: `orchestrate run` runs it as it is now; unchanged stages are cached"
        );
    }
    let stored: Vec<PathBuf> = invocation.recipes.iter().map(|path| past.log_dir.join("recipes").join(path)).collect();
    let planned = planning::planned(context, &stored, &invocation.overrides(), &invocation.variants)?;
    let plan = planning::only(planned.plan, &invocation.only)?;
    let still_forced = past.still_forced()?;
    let is_forced = |stage: &usize| still_forced.contains(&plan.stages[*stage].key);
    let forced = (0..plan.stages.len()).filter(is_forced).collect();
    let jobs = args.dispatch.jobs.or(invocation.jobs);
    let recipe_jobs = planned.recipes.iter().filter_map(|recipe| recipe.runtime.jobs).max();
    let request = RunRequest {
        plan,
        invocation: Invocation {
            recipes: stored,
            sources: invocation.sources_by_copy(&past.log_dir),
            commit: commit(context.project()),
            jobs,
            resumes: Some(past.run.clone()),
            forced: still_forced,
            ..invocation.clone()
        },
        files: planned.recipes.into_iter().flat_map(|recipe| recipe.files).collect(),
        jobs: jobs.map(usize::from).or(recipe_jobs),
        fail_fast: args.dispatch.fail_fast,
        forced,
    };
    execute(context, &request)
}
