//! `orchestrate run RECIPE...`.

use super::args::{DispatchArgs, RecipeArgs};
use super::context::{Context, block_on};
use super::error::CliError;
use super::overlap::{self, Wanted};
use super::planning::{self, Planned};
use super::{show_data, summary, until_separable};
use crate::digest::Digest;
use crate::exec::{LocalExecutor, WorkerBinary};
use crate::history::{Invocation, remember_inputs};
use crate::recipe::Overrides;
use crate::report::Progress;
use crate::run::{RunRequest, RunSummary, stages_named, titles};
use crate::workspace::Workspace;
use clap::Args;
use std::collections::{BTreeMap, HashSet};
use std::mem::ManuallyDrop;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// What to run, and how.
#[derive(Debug, Args)]
#[command(after_help = "\
Stages whose result is in the cache are not run again; a stage that several variants share is run
once. Ctrl-C stops after the resume points are written (twice: at once), and `orchestrate resume`
continues from there.

--json prints {\"run\",\"stage\",\"kind\",\"variant\":[..],\"key\",\"status\",\"seconds\"}, one a line, when the run has
ended; an `eval` stage also has \"data_set\", \"out_of_domain\" and \"components\":{NAME:\"trained\"|\"held_out\"}.

Examples:
  orchestrate run recipes/demo.toml
  orchestrate run recipes/*.toml -j 2
  orchestrate run recipes/demo.toml --dry-run
  orchestrate run recipes/demo.toml --set stages.grpo.steps=20 --only grpo
  orchestrate run recipes/grid.toml --variant rouge --variant 'semantic,seed=1'
  orchestrate run recipes/grid.toml --until-separable sft --max-seeds 10

With --until-separable, each round is a run; --json prints its stages, and then {\"what\":\"round\",\"round\",\"run\",
\"evaluation\",\"metric\",\"baseline\",\"seeds\",\"max_seeds\",\"arms\":[{\"arm\",\"decision\":\"better\"|\"worse\"|\"higher\"|\"lower\"|
\"open\"|\"given_up\"|\"not_separable\",\"seeds\",\"reason\",\"difference\",\"interval\",\"p_value\",\"level\",\"needs_more_seeds\"}],
\"next\":{\"seeds\",\"stages\",\"seconds\",\"judge_calls\"}|null}.")]
pub(super) struct RunArgs {
    #[command(flatten)]
    recipes: RecipeArgs,
    #[command(flatten)]
    dispatch: DispatchArgs,
    /// Show what would run, and run nothing.
    #[arg(short = 'n', long)]
    dry_run: bool,
    /// Only this stage and what it needs; can be repeated.
    #[arg(long, value_name = "STAGE")]
    only: Vec<String>,
    /// Run stages again although they are cached: those named by `--only`, else all. A result stays until the new one
    /// takes its place.
    #[arg(long)]
    force: bool,
    /// Add seeds until every other arm is separable from ARM, or more seeds would not help. ARM is a variant's name
    /// without its seed.
    #[arg(long, value_name = "ARM", conflicts_with = "force")]
    until_separable: Option<String>,
    #[command(flatten)]
    seeds: SeedArgs,
}

/// How seeds are added.
#[derive(Debug, Args)]
pub(super) struct SeedArgs {
    /// The largest number of seeds of an arm with `--until-separable`.
    #[arg(long, value_name = "N", default_value_t = 10, requires = "until_separable",
          value_parser = clap::value_parser!(u16).range(2..=100))]
    pub(super) max_seeds: u16,
    /// The evaluation that decides with `--until-separable` [default: the first one with the primary metric]
    #[arg(long, value_name = "STAGE", requires = "until_separable")]
    pub(super) by: Option<String>,
}

pub(super) fn run(context: &Context, args: &RunArgs) -> Result<(), CliError> {
    let overrides = Overrides::with_process_environment(args.recipes.set.clone());
    let mut invocation = Invocation {
        recipes: args.recipes.recipes.clone(),
        sources: BTreeMap::new(),
        set: args.recipes.set.clone(),
        env: overrides.env.iter().filter(|(name, _)| name.starts_with("ORCHESTRATE_")).map(owned).collect(),
        variants: args.recipes.variants.clone(),
        only: args.only.clone(),
        commit: commit(context.project()),
        jobs: args.dispatch.jobs,
        resumes: None,
        forced: Vec::new(),
        seed_search: None,
    };
    let Planned { recipes, plan } =
        planning::planned(context, &args.recipes.recipes, &overrides, &args.recipes.variants)?;
    let plan = planning::only(plan, &args.only)?;
    let search = args.until_separable.as_ref();
    let search = search
        .map(|arm| until_separable::begin(context, arm, &args.seeds, (&recipes, &plan), &invocation))
        .transpose()?;
    if args.dry_run {
        let workspace = Workspace::open(context.runs())?;
        let overlaps = overlap::compared(context, &plan, Wanted::Quick)?;
        overlaps.refuse(context)?;
        super::plan::show(context, &plan, &planning::statuses(context, &plan, &workspace)?, &overlaps)?;
        return search.map_or(Ok(()), |search| search.print_limit(context));
    }
    invocation.seed_search = search.map(|search| search.round);
    let forced = match (args.force, args.only.is_empty()) {
        (false, _) => [].into(),
        (true, true) => (0..plan.stages.len()).collect(),
        (true, false) => stages_named(&plan, &args.only),
    };
    invocation.forced = forced.iter().map(|&stage| plan.stages[stage].key.clone()).collect();
    let jobs = args.dispatch.jobs.map(usize::from);
    // Keeps the request until the process ends: freeing thousands of stages one by one would take long.
    let request = ManuallyDrop::new(RunRequest {
        jobs: jobs.or(recipes.iter().filter_map(|recipe| recipe.runtime.jobs).max()),
        files: recipes.into_iter().flat_map(|recipe| recipe.files).collect(),
        plan,
        invocation,
        fail_fast: args.dispatch.fail_fast,
        forced,
    });
    execute(context, &request)
}

/// Returns the checked-out commit of `project`, with `+` where files differ from it; `None` outside a Git repository.
pub(super) fn commit(project: &Path) -> Option<String> {
    let git = |arguments: &[&str]| {
        let output = Command::new("git").arg("-C").arg(project).args(arguments).stderr(Stdio::null()).output().ok()?;
        output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
    };
    let commit = git(&["rev-parse", "--short=12", "HEAD"])?;
    let is_changed = git(&["status", "--porcelain", "--untracked-files=no"])?;
    Some(if is_changed.is_empty() { commit } else { commit + "+" })
}

fn owned((name, value): (&String, &String)) -> (String, String) {
    (name.clone(), value.clone())
}

/// Runs `request` and prints a summary, for this command and `resume`. Goes on with the rounds of a search for seeds.
pub(super) fn execute(context: &Context, request: &RunRequest) -> Result<(), CliError> {
    let run = run_once(context, request)?;
    match &request.invocation.seed_search {
        Some(_) => until_separable::go_on(context, run, request.fail_fast),
        None => Ok(()),
    }
}

/// Runs `request`, prints a summary, and returns the run's id.
pub(super) fn run_once(context: &Context, request: &RunRequest) -> Result<String, CliError> {
    let finished = dispatched(context, request)?;
    summary::print(context, request, &Workspace::open(context.runs())?, &finished)?;
    Ok(finished.run.clone())
}

/// Runs `request`, with progress on stderr.
pub(super) fn dispatched(context: &Context, request: &RunRequest) -> Result<RunSummary, CliError> {
    let workspace = Workspace::open(context.runs())?;
    let plan = &request.plan;
    // Results are verified later, when their stages' turns come.
    let cached: HashSet<Digest> = workspace.keys()?.into_iter().collect();
    let is_missing = |index: &usize| request.forced.contains(index) || !cached.contains(&plan.stages[*index].key);
    let missing: Vec<usize> = (0..plan.stages.len()).filter(is_missing).collect();
    planning::refuse_too_large(missing.iter().map(|&index| &plan.stages[index]))?;
    planning::warn_busy_gpus(missing.iter().map(|&index| &plan.stages[index]));
    overlap::refuse_overlap(context, plan)?;
    // Without a worker the run must not begin.
    let needs_worker = missing.iter().any(|&index| plan.stages[index].program.is_none());
    let worker = needs_worker.then(WorkerBinary::find).transpose()?;
    if let Some(worker) = &worker {
        show_data::refuse_data(context, worker, plan, missing.iter().map(|&index| &plan.stages[index]))?;
    }
    remember_inputs(&workspace, context.project(), plan, missing.iter().copied());
    let mut progress = Progress::new(context.progress_mode(), titles(plan));
    let runs: PathBuf = context.runs().to_owned();
    let mut executor = LocalExecutor::new(worker);
    block_on(async {
        Ok(crate::run::run(request, &workspace, &runs, &mut executor, &mut |update| progress.update(update)).await?)
    })
}
