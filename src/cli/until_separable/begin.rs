//! The beginning of a search: what is checked before work starts.

use super::output::{missing, took};
use super::seeds::{ArmName, further_seeds, pattern, set_with};
use crate::cli::context::Context;
use crate::cli::error::{CliError, Kind};
use crate::cli::output::Output;
use crate::cli::plan::count;
use crate::cli::planning;
use crate::cli::run::SeedArgs;
use crate::evidence::SeedSearch;
use crate::history::{Invocation, SearchRound, without_seed};
use crate::plan::Plan;
use crate::recipe::{LoadedRecipe, Overrides};
use crate::report::seed_list;
use crate::run::{expected_seconds, stage_names};
use crate::suggestion::did_you_mean;
use crate::workspace::Workspace;
use serde_json::json;
use std::collections::{BTreeMap, BTreeSet};

/// A search that has not begun.
pub(in crate::cli) struct NewSearch {
    pub(in crate::cli) round: SearchRound,
    /// The plan with the largest number of seeds.
    largest: Plan,
}

/// Checks that seeds can be added to the arms of `recipes`, and returns the first round.
///
/// # Errors
/// A recipe sweeps no seeds, an arm has other seeds than the others, the arm is unknown, or it has too many seeds
/// already.
pub(in crate::cli) fn begin(
    context: &Context,
    arm: &str,
    args: &SeedArgs,
    (recipes, plan): (&[LoadedRecipe], &Plan),
    invocation: &Invocation,
) -> Result<NewSearch, CliError> {
    if let Some(recipe) = recipes.iter().find(|recipe| recipe.seeds.is_empty()) {
        let message = format!("`{}` sweeps no seeds, so none can be added", recipe.path.display());
        return Err(CliError::new(Kind::Usage, message)
            .hint("add `matrix = { seed = [1, 2, 3] }` to its `[sweep]`; `--until-separable` makes that list longer"));
    }
    let arms = arms(plan);
    known_arm(arm, &arms)?;
    known_stage(args.by.as_deref(), plan)?;
    let axis = axis(recipes);
    let first: Vec<u64> = {
        let seeds = arms.values().next().expect("an arm is known");
        if let Some(((_, other), other_seeds)) = arms.iter().find(|(_, other)| *other != seeds) {
            let message = format!("`{other}` has the seeds {}, another arm {}", listed(other_seeds), listed(seeds));
            return Err(CliError::new(Kind::Usage, message)
                .hint("a search needs arms that begin with the same seeds: see `sweep.exclude` and `--variant`"));
        }
        axis.iter().copied().filter(|seed| seeds.contains(seed)).collect()
    };
    let most = usize::from(args.max_seeds);
    if most < first.len() {
        let message =
            format!("`--max-seeds {most}` is less than the {} that the arms have", count(first.len(), "seed"));
        return Err(CliError::new(Kind::Usage, message)
            .hint(format!("give at least {}, or limit the seeds with `--variant seed=...`", first.len())));
    }
    let search = SeedSearch {
        baseline: arm.to_owned(),
        evaluation: args.by.clone(),
        first: if first.len() > 1 { first.len() } else { most.min(3) },
        seeds: first,
        most,
    };
    let round = SearchRound { search, round: 1, axis, set: invocation.set.clone() };
    // Every variant that a later round may need must exist.
    let seeds = further_seeds(&round, most - round.search.seeds.len());
    let patterns: Vec<String> =
        arms.keys().flat_map(|arm| round.search.seeds.iter().chain(&seeds).map(|seed| pattern(arm, *seed))).collect();
    let overrides = Overrides { set: set_with(&round, &seeds), env: invocation.env.clone() };
    let largest = planning::planned(context, &invocation.recipes, &overrides, &patterns)?.plan;
    Ok(NewSearch { largest: planning::only(largest, &invocation.only)?, round })
}

impl NewSearch {
    /// Prints how much the search may run at most.
    pub(in crate::cli) fn print_limit(&self, context: &Context) -> Result<(), CliError> {
        let workspace = Workspace::open(context.runs())?;
        let missing = missing(&self.largest, &workspace)?;
        let SeedSearch { seeds, most, baseline, .. } = &self.round.search;
        let seconds = expected_seconds(context.runs(), &self.largest, &missing);
        let mut out = Output::stdout();
        if context.json {
            out.json(&json!({
                "what": "search", "baseline": baseline, "seeds": seeds, "max_seeds": most,
                "stages_at_most": missing.len(), "seconds_at_most": seconds,
            }))?;
        } else {
            out.line(format!(
                "\nthis is round 1, with {}; later rounds add seeds to open arms, up to {most} an arm: at most {} to run{}",
                seed_list(seeds),
                count(missing.len(), "stage"),
                took(seconds)
            ))?;
        }
        out.finish()
    }
}

/// Returns the seeds of each arm of `plan`.
fn arms(plan: &Plan) -> BTreeMap<ArmName, BTreeSet<u64>> {
    let mut arms: BTreeMap<ArmName, BTreeSet<u64>> = BTreeMap::new();
    for variant in &plan.variants {
        let (name, seed) = without_seed(&variant.name);
        arms.entry((variant.recipe.clone(), name)).or_default().extend(seed);
    }
    arms
}

/// Returns the seeds of all recipes, each once.
fn axis(recipes: &[LoadedRecipe]) -> Vec<u64> {
    let mut axis = Vec::new();
    for &seed in recipes.iter().flat_map(|recipe| &recipe.seeds) {
        if !axis.contains(&seed) {
            axis.push(seed);
        }
    }
    axis
}

/// Fails if there is only one arm, or none called `wanted`.
fn known_arm(wanted: &str, arms: &BTreeMap<ArmName, BTreeSet<u64>>) -> Result<(), CliError> {
    let shown = |(recipe, name): &ArmName| if name.is_empty() { recipe.clone() } else { name.clone() };
    let names: Vec<String> = arms.keys().map(shown).collect();
    let is_wanted = |arm: &ArmName| {
        let name = shown(arm);
        let full = format!("{}/{name}", arm.0);
        // An arm with several evaluations of the same questions is called `ARM STAGE`.
        [&name, &full].iter().any(|name| wanted == *name || wanted.strip_prefix(name.as_str()).is_some_and(is_stage))
    };
    if !arms.keys().any(is_wanted) {
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        return Err(
            CliError::nothing(format!("no arm is called `{wanted}`")).hint(did_you_mean(wanted, "arms", &names))
        );
    }
    if arms.len() < 2 {
        return Err(CliError::nothing(format!("there is only one arm, `{}`", names.join("")))
            .hint("add variants to the recipe's sweep, or name several recipes; seeds of one variant are one arm"));
    }
    Ok(())
}

fn is_stage(rest: &str) -> bool {
    rest.starts_with(' ')
}

fn known_stage(wanted: Option<&str>, plan: &Plan) -> Result<(), CliError> {
    let Some(wanted) = wanted else { return Ok(()) };
    let names = stage_names(plan);
    if names.contains(wanted) {
        return Ok(());
    }
    let names: Vec<&str> = names.into_iter().collect();
    Err(CliError::nothing(format!("no stage is called `{wanted}`")).hint(did_you_mean(wanted, "stages", &names)))
}

fn listed(seeds: &BTreeSet<u64>) -> String {
    seeds.iter().map(u64::to_string).collect::<Vec<_>>().join(", ")
}
