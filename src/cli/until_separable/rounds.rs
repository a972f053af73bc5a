//! The rounds of a search, until every arm is decided.

use super::output::print;
use super::seeds::{ArmName, further_seeds, pattern, set_with};
use crate::cli::compare::baseline;
use crate::cli::context::Context;
use crate::cli::error::CliError;
use crate::cli::planning;
use crate::cli::run::{commit, run_once};
use crate::evidence::{Decision, SearchLevels, SearchProblem, SeedSearch};
use crate::history::{Invocation, LoggedPlan, PastRun, SearchRound, gather_answers, without_seed};
use crate::metric::short_name;
use crate::plan::Plan;
use crate::recipe::{LoadedRecipe, Overrides};
use crate::run::RunRequest;
use crate::workspace::Workspace;
use std::collections::BTreeSet;
use std::mem::ManuallyDrop;
use std::path::PathBuf;

/// A round that is planned.
pub(super) struct NextRound {
    pub(super) plan: Plan,
    pub(super) invocation: Invocation,
    recipes: Vec<LoadedRecipe>,
}

/// Goes on with the search whose newest round is `run`, until every arm is decided.
pub(in crate::cli) fn go_on(context: &Context, mut run: String, fail_fast: bool) -> Result<(), CliError> {
    let workspace = Workspace::open(context.runs())?;
    let mut levels: Option<SearchLevels> = None;
    loop {
        let Some(past) = PastRun::named(context.runs(), &run)? else {
            return Err(CliError::nothing(format!("the log of run {run} is gone")));
        };
        let Some(round) = &past.invocation.seed_search else { return Ok(()) };
        let evidence = gather_answers(&workspace, &[&past])?;
        let baseline = baseline(&evidence, Some(&round.search.baseline))?;
        let search = SeedSearch { baseline, ..round.search.clone() };
        let levels = levels.get_or_insert_with(|| SearchLevels::new(&search));
        let state = search.look(&evidence, levels).map_err(|problem| refusal(&search, problem))?;
        let open = |name: &str| state.arms.iter().any(|arm| arm.arm == name && arm.decision == Decision::Open);
        let mut growing: BTreeSet<ArmName> = BTreeSet::new();
        for arm in evidence.arms.iter().filter(|arm| arm.name == search.baseline || open(&arm.name)) {
            let variants = arm.trials.iter().filter_map(|trial| trial.variant.split_once('/'));
            growing.extend(variants.map(|(recipe, name)| (recipe.to_owned(), without_seed(name).0)));
        }
        let next = if state.add == 0 { None } else { Some(next_round(context, &past, round, state.add, &growing)?) };
        print(context, &past.run, round, &search, &state, next.as_ref(), &workspace)?;
        let Some(NextRound { plan, invocation, recipes }) = next else { return Ok(()) };
        let request = ManuallyDrop::new(RunRequest {
            plan,
            jobs: invocation.jobs.map(usize::from).or(recipes.iter().filter_map(|recipe| recipe.runtime.jobs).max()),
            invocation,
            files: recipes.into_iter().flat_map(|recipe| recipe.files).collect(),
            fail_fast,
            forced: BTreeSet::new(),
        });
        run = run_once(context, &request)?;
    }
}

/// Plans the round after `past`, with the recipes as they were: the same variants, and `add` seeds more for the arms
/// `growing`.
fn next_round(
    context: &Context,
    past: &PastRun,
    round: &SearchRound,
    add: usize,
    growing: &BTreeSet<ArmName>,
) -> Result<NextRound, CliError> {
    let invocation = &past.invocation;
    let seeds = further_seeds(round, add);
    let there = LoggedPlan::load(&past.log_dir)?.variants;
    let there = there.iter().map(|variant| {
        let (name, seed) = without_seed(&variant.name);
        pattern(&(variant.recipe.clone(), name), seed.unwrap_or_default())
    });
    let added = growing.iter().flat_map(|arm| seeds.iter().map(|seed| pattern(arm, *seed)));
    let variants: Vec<String> = there.chain(added).collect();
    let set = set_with(round, &seeds);
    let stored: Vec<PathBuf> = invocation.recipes.iter().map(|path| past.log_dir.join("recipes").join(path)).collect();
    let overrides = Overrides { set: set.clone(), env: invocation.env.clone() };
    let planned = planning::planned(context, &stored, &overrides, &variants)?;
    let plan = planning::only(planned.plan, &invocation.only)?;
    let mut next = SearchRound { round: round.round + 1, ..round.clone() };
    next.search.seeds.extend(seeds);
    let invocation = Invocation {
        recipes: stored,
        sources: invocation.sources_by_copy(&past.log_dir),
        set,
        variants,
        commit: commit(context.project()),
        resumes: None,
        forced: Vec::new(),
        seed_search: Some(next),
        ..invocation.clone()
    };
    Ok(NextRound { plan, invocation, recipes: planned.recipes })
}

fn refusal(search: &SeedSearch, problem: SearchProblem) -> CliError {
    match problem {
        SearchProblem::NoMetric => CliError::nothing("no metric can decide: none has a known direction in all arms")
            .hint("set `compare.metric` in the recipe, and `compare.higher` or `compare.lower`"),
        SearchProblem::NoEvaluation { metric, known } => {
            let of = short_name(&metric);
            let error = match &search.evaluation {
                Some(wanted) => format!("`{wanted}` does not measure `{of}` on `{}`", search.baseline),
                None => format!("no evaluation measures `{of}` on `{}`", search.baseline),
            };
            let known: Vec<String> = known.iter().map(|name| format!("`{name}`")).collect();
            CliError::nothing(error).hint(if known.is_empty() {
                "the baseline needs an evaluation of its own".to_owned()
            } else {
                format!("`--by` is one of {}", known.join(", "))
            })
        }
    }
}
