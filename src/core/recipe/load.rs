//! Loads the recipe files of a command line and resolves their stages.

use crate::recipe::resolve::arena;
use crate::recipe::resolve::best;
use crate::recipe::resolve::files::KnownFiles;
use crate::recipe::resolve::inputs::Inputs;
use crate::recipe::resolve::leakage;
use crate::recipe::resolve::measured;
use crate::recipe::resolve::resolved::ResolvedVariant;
use crate::recipe::resolve::stages::resolve;
use crate::recipe::runtime::settings::RuntimeSettings;
use crate::recipe::sweep::variant::Variant;
use crate::recipe::sweep::variants::all_variants;
use crate::recipe::tables::compare::CompareSettings;
use crate::recipe::tables::defaults;
use crate::recipe::tables::validate::{Demand, NAME_RULE, is_name, keep_fitting};
use crate::recipe::text::diagnostic::{Problem, Problems, RecipeError};
use crate::recipe::text::layers::{Layers, Overrides};
use crate::recipe::text::located::KeyPath;
use std::path::{Path, PathBuf};
use toml::{Table, Value};

/// A resolved recipe.
#[derive(Clone, Debug)]
pub struct LoadedRecipe {
    /// The recipe's name, unique on the command line.
    pub name: String,
    /// The file as named on the command line.
    pub path: PathBuf,
    /// The variants of the recipe's sweep, in order.
    pub variants: Vec<ResolvedVariant>,
    /// The values of `sweep.matrix.seed`, in order; empty without them.
    pub seeds: Vec<u64>,
    /// The settings by which the recipe's arms are compared.
    pub compare: CompareSettings,
    /// The settings of how the recipe's stages run.
    pub runtime: RuntimeSettings,
    /// The paths and texts of the files that were read: first the recipe, then the files that it extends.
    pub files: Vec<(PathBuf, String)>,
}

/// Reads and resolves the recipes at `paths`. These paths, and the paths in the recipes, are relative to the directory
/// `project`.
///
/// # Errors
/// Every problem of every recipe.
pub fn load(
    project: &Path,
    paths: &[PathBuf],
    overrides: &Overrides,
    inputs: &mut dyn Inputs,
) -> Result<Vec<LoadedRecipe>, RecipeError> {
    let mut problems = Problems::default();
    let mut recipes: Vec<LoadedRecipe> = Vec::new();
    let project = std::path::absolute(project).unwrap_or_else(|_| project.to_owned());
    let mut known = KnownFiles::default();
    for path in paths {
        let Some(recipe) = load_one(&project, path, overrides, (&mut known, inputs), &mut problems) else { continue };
        if let Some(other) = recipes.iter().find(|other| other.name == recipe.name) {
            let (one, two) = (other.path.display(), recipe.path.display());
            let message = format!("two recipes are named `{}`: `{one}` and `{two}`", recipe.name);
            problems.push(Problem::nowhere(message).help("give one of them another `name`"));
        }
        recipes.push(recipe);
    }
    problems.or(recipes)
}

/// The recipe at `path`, as far as it can be resolved; absent if its problems are in `problems` already.
fn load_one(
    project: &Path,
    path: &Path,
    overrides: &Overrides,
    (known, inputs): (&mut KnownFiles, &mut dyn Inputs),
    problems: &mut Problems,
) -> Option<LoadedRecipe> {
    let layers = Layers::read(project, path, overrides, problems)?;
    let merged = layers.merged();
    let name = recipe_name(path, &merged, &layers, problems);
    let mut base = Variant::base(&name, merged, &layers);
    keep_fitting(&mut base, Demand::WhatIsThere, problems);
    let runtime = defaults::runtime(&base.value);
    let written = stage_names(&base.value);
    let seeds = swept_seeds(&base.value);
    let seed = defaults::seed(&base.value);
    let marks = leakage::marks(&base.value);
    let (mut variants, mut asking, mut choosing) = (Vec::new(), Vec::new(), Vec::new());
    for mut variant in all_variants(&mut base, problems) {
        keep_fitting(&mut variant, Demand::Complete, problems);
        variant.value = defaults::filled_in(std::mem::take(&mut variant.value));
        let written = variant.value.get("stages").and_then(Value::as_table).map_or(0, Table::len);
        let stages = resolve(&variant, project, (known, inputs), problems);
        // Snapshots and their evaluations have no tables of their own.
        let found = stages.iter().filter(|stage| !stage.name.contains('@')).count();
        assert!(!problems.is_empty() || found == written, "a stage that cannot be resolved is reported");
        asking.push(measured::asking(&variant));
        choosing.push(best::choosing(&variant, &stages));
        variants.push(ResolvedVariant { name: variant.name, stages });
    }
    let compare = compare_settings(&base.value);
    measured::complete(&asking, &mut variants, problems);
    best::complete(&choosing, &compare, &mut variants, problems);
    leakage::check(&base, &marks, &variants, problems);
    arena::settle(&base, seed, &mut variants, problems);
    let names = || {
        let resolved = variants.iter().flat_map(|variant| variant.stages.iter().map(|stage| stage.name.as_str()));
        written.iter().map(String::as_str).chain(resolved).collect()
    };
    let runtime = RuntimeSettings::resolve(&base, names, runtime, problems)?;
    Some(LoadedRecipe { name, path: path.to_owned(), variants, seeds, compare, runtime, files: layers.files })
}

/// Returns the `[compare]` table, or an empty one where it does not fit the schema, which has been reported.
fn compare_settings(recipe: &Table) -> CompareSettings {
    recipe.get("compare").and_then(|table| table.clone().try_into().ok()).unwrap_or_default()
}

/// Returns the values of `sweep.matrix.seed`.
fn swept_seeds(recipe: &Table) -> Vec<u64> {
    let matrix = recipe.get("sweep").and_then(|sweep| sweep.get("matrix"));
    let seeds = matrix.and_then(|matrix| matrix.get("seed")).and_then(Value::as_array);
    seeds.into_iter().flatten().filter_map(Value::as_integer).filter_map(|seed| u64::try_from(seed).ok()).collect()
}

fn stage_names(recipe: &Table) -> Vec<String> {
    recipe.get("stages").and_then(Value::as_table).into_iter().flat_map(Table::keys).cloned().collect()
}

fn recipe_name(path: &Path, merged: &Table, layers: &Layers, problems: &mut Problems) -> String {
    let key = KeyPath::dotted("name");
    let written = merged.get("name").and_then(Value::as_str).map(str::to_owned);
    let is_written = written.is_some();
    let name = written.unwrap_or_else(|| path.file_stem().unwrap_or_default().to_string_lossy().into_owned());
    if !is_name(&name) {
        let place = layers.value_place(&key).filter(|_| is_written).unwrap_or_else(|| layers.beginning());
        let problem = Problem::at(place, format!("`{name}` is not a valid recipe name"), "not a name");
        problems.push(problem.help(format!("{NAME_RULE}; without the key `name`, a recipe is named after its file")));
    }
    name
}
