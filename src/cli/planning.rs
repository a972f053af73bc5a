//! From recipes on the command line to a plan and what the cache says of it.

use super::context::Context;
use super::error::CliError;
use crate::cache::{Cache, FileDigests};
use crate::orchestrate::{limited, miss_reasons, stage_names, stages_named, unknown_stages};
use crate::plan::Plan;
use crate::recipe::{self, LoadedRecipe, Overrides};
use crate::report::StageStatus;
use std::path::PathBuf;

/// Recipes, loaded and planned.
pub(super) struct Planned {
    pub(super) recipes: Vec<LoadedRecipe>,
    pub(super) plan: Plan,
}

/// Loads `recipes` and plans them; digests of files that have not changed are remembered from the last time.
pub(super) fn planned(context: &Context, recipes: &[PathBuf], overrides: &Overrides) -> Result<Planned, CliError> {
    let mut digests = FileDigests::open(context.runs());
    let recipes = recipe::load(context.project(), recipes, overrides, &mut digests)?;
    digests.save()?;
    let plan = Plan::build(&recipes);
    Ok(Planned { recipes, plan })
}

/// The part of `plan` that leads to the stages named `only`; all of it if there are none.
pub(super) fn only(plan: Plan, only: &[String]) -> Result<Plan, CliError> {
    if only.is_empty() {
        return Ok(plan);
    }
    if let Some(unknown) = unknown_stages(&plan, only).first() {
        let known: Vec<String> = stage_names(&plan).iter().map(|name| format!("`{name}`")).collect();
        return Err(CliError::nothing(format!("no stage is called `{unknown}`"))
            .hint(format!("the stages are {}", known.join(", "))));
    }
    Ok(limited(&plan, &stages_named(&plan, only)))
}

/// What the cache says of each stage.
pub(super) fn statuses(plan: &Plan, cache: &Cache) -> Result<Vec<StageStatus>, CliError> {
    let mut statuses = Vec::with_capacity(plan.stages.len());
    let mut cached = None;
    for stage in &plan.stages {
        if cache.contains(&stage.key) {
            statuses.push(StageStatus { hit: true, reasons: Vec::new() });
            continue;
        }
        if cached.is_none() {
            cached = Some(cache.key_documents()?);
        }
        let reasons = match cache.newest_resume_step(&stage.key) {
            Some(step) => vec![format!("interrupted, goes on after step {step}")],
            None => miss_reasons(&stage.key_json, cached.as_deref().unwrap_or_default()),
        };
        statuses.push(StageStatus { hit: false, reasons });
    }
    Ok(statuses)
}
