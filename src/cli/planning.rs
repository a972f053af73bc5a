//! Loads and plans the recipes of the command line, and looks up the stages in the cache.

use super::context::Context;
use super::error::{CliError, Kind};
use super::find::VariantFilter;
use crate::digest::Digest;
use crate::history::{CachedResults, newest_resume_step};
use crate::hub::{Hub, HubEnvironment, HubError, HubStep};
use crate::plan::{Plan, PlannedStage};
use crate::recipe::{self, HubFiles, HubReference, HubRefusal, Inputs, LoadedRecipe, Overrides};
use crate::report::{Downloads, PlannedStatus, ProgressMode};
use crate::run::{TooLarge, busy_gpus, limited, plan_memory, stage_names, stages_named, too_large, unknown_stages};
use crate::stage::written_name;
use crate::workspace::{FileDigests, Lookup, Workspace};
use std::collections::BTreeSet;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

/// Digests of a recipe's files, with a cache of known ones, and its files on the hub.
struct ProjectFiles {
    digests: FileDigests,
    /// Absent until a recipe refers to the hub.
    hub: Option<Hub<'static>>,
    mode: ProgressMode,
}

impl Inputs for ProjectFiles {
    fn directory(&mut self, path: &Path) -> io::Result<Digest> {
        self.digests.model_directory(path)
    }

    fn file(&mut self, path: &Path) -> io::Result<Digest> {
        self.digests.file(path)
    }

    fn hub(&mut self, reference: &HubReference) -> Result<HubFiles, HubRefusal> {
        let refusal = |error: HubError| HubRefusal { message: error.to_string(), help: error.hint() };
        let hub = match &mut self.hub {
            Some(hub) => hub,
            None => self.hub.insert(hub(self.mode).map_err(refusal)?),
        };
        let snapshot = hub.snapshot(reference).map_err(refusal)?;
        Ok(HubFiles { directory: snapshot.directory, files: snapshot.files })
    }
}

/// Creates the hub of this process's environment, with its downloads on stderr.
fn hub(mode: ProgressMode) -> Result<Hub<'static>, HubError> {
    let mut downloads = Downloads::new(mode);
    let show = move |step: HubStep<'_>| match step {
        HubStep::Waiting { file } => downloads.note(&format!("waiting for another process, which downloads `{file}`")),
        HubStep::Begun { repo, file, bytes, here } => downloads.begin(format!("{repo}/{file}"), bytes, here),
        HubStep::Received(bytes) => downloads.advance(bytes),
        HubStep::Ended => downloads.end(),
    };
    Ok(Hub::new(HubEnvironment::of_process()?, show))
}

/// Reports the commit of each branch, so that the user can pin it.
fn tell_commits(hub: &Hub<'_>, mode: ProgressMode) {
    let mut notes = Downloads::new(mode);
    for (reference, snapshot) in hub.found().filter(|(reference, _)| !reference.is_pinned()) {
        let pinned = reference.pinned_to(&snapshot.commit);
        notes.note(&match &snapshot.not_asked {
            None => format!("note: `{reference}` is now `{pinned}`; write that to keep this version"),
            Some(reason) => format!("note: {reason}; using the last known version of `{reference}`, `{pinned}`"),
        });
    }
}

/// Recipes, loaded and planned.
pub(super) struct Planned {
    pub(super) recipes: Vec<LoadedRecipe>,
    pub(super) plan: Plan,
}

/// Loads `recipes` and plans them. Files on the hub are downloaded first, because cache keys contain their digests.
/// Digests of unchanged files are cached.
///
/// With patterns in `variants`, only the variants that one of them matches are kept.
pub(super) fn planned(
    context: &Context,
    recipes: &[PathBuf],
    overrides: &Overrides,
    variants: &[String],
) -> Result<Planned, CliError> {
    let mode = context.progress_mode();
    let mut files = ProjectFiles { digests: Workspace::open(context.runs())?.digests(), hub: None, mode };
    let loaded = recipe::load(context.project(), recipes, overrides, &mut files);
    files.digests.save();
    if let Some(hub) = &files.hub {
        tell_commits(hub, mode);
    }
    let mut recipes = loaded?;
    keep_variants(&mut recipes, variants)?;
    let mut plan = Plan::build(&recipes);
    plan_memory(&mut plan);
    Ok(Planned { recipes, plan })
}

/// Keeps the variants that one of `patterns` matches; without patterns, all of them.
fn keep_variants(recipes: &mut [LoadedRecipe], patterns: &[String]) -> Result<(), CliError> {
    if patterns.is_empty() {
        return Ok(());
    }
    let mut kept: Vec<BTreeSet<String>> = vec![BTreeSet::new(); recipes.len()];
    for text in patterns {
        let pattern = VariantFilter::new(text)?;
        let mut found = false;
        for (recipe, kept) in recipes.iter().zip(&mut kept) {
            for variant in recipe.variants.iter().filter(|variant| pattern.matches(&recipe.name, &variant.name)) {
                found = true;
                kept.insert(variant.name.clone());
            }
        }
        if !found {
            let variants = recipes.iter().flat_map(|recipe| &recipe.variants);
            return Err(pattern.matches_none(variants.map(|variant| variant.name.as_str())));
        }
    }
    for (recipe, kept) in recipes.iter_mut().zip(&kept) {
        recipe.variants.retain(|variant| kept.contains(&variant.name));
    }
    Ok(())
}

/// Returns the part of `plan` that leads to the stages named `only`; without names, all of it.
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

/// Warns of GPUs of the plan that other processes use.
pub(super) fn warn_busy_gpus<'a>(stages: impl Iterator<Item = &'a PlannedStage>) {
    for busy in busy_gpus(stages) {
        // A failed write to stderr cannot be reported.
        let _ = writeln!(io::stderr(), "warning: {busy}");
    }
}

/// Fails for stages that cannot fit into memory, all at once.
pub(super) fn refuse_too_large<'a>(stages: impl Iterator<Item = &'a PlannedStage>) -> Result<(), CliError> {
    let large: Vec<TooLarge> = stages.filter_map(too_large).collect();
    let Some(first) = large.first() else { return Ok(()) };
    let others: Vec<String> = large.iter().skip(1).map(|other| format!("; {}", other.message)).collect();
    let error = CliError::new(Kind::Recipe, format!("{}{}", first.message, others.concat()));
    Err(large.iter().fold(error, |error, stage| error.hint(stage.hint.clone())))
}

/// Returns the cache's status of each stage.
pub(super) fn statuses(context: &Context, plan: &Plan, workspace: &Workspace) -> Result<Vec<PlannedStatus>, CliError> {
    let mut statuses = Vec::with_capacity(plan.stages.len());
    let mut cached = None;
    for (index, stage) in plan.stages.iter().enumerate() {
        match workspace.lookup(&stage.key)? {
            Lookup::Hit(_) => {
                statuses.push(PlannedStatus { hit: true, reasons: Vec::new() });
                continue;
            }
            Lookup::Quarantined { reason, .. } => {
                let reasons = vec![format!("its result was damaged and is in quarantine: {reason}")];
                statuses.push(PlannedStatus { hit: false, reasons });
                continue;
            }
            Lookup::Miss => {}
        }
        let follows = stage.follows.map(|index| &statuses[index]);
        let reasons = if let (Some(until), Some(trained)) = (stage.spec.until, follows) {
            let trains = written_name(&stage.name);
            vec![if trained.hit {
                format!("trains {until} steps again: `{trains}` is in the cache without it")
            } else {
                format!("kept while `{trains}` trains")
            }]
        } else if let Some(step) = newest_resume_step(workspace, &stage.key) {
            vec![format!("interrupted, goes on after step {step}")]
        } else {
            let cached = match &mut cached {
                Some(cached) => cached,
                none => none.insert(CachedResults::load(workspace, context.project())?),
            };
            cached.reasons(plan, index)
        };
        statuses.push(PlannedStatus { hit: false, reasons });
    }
    Ok(statuses)
}
