//! The deduplicated graph of all variants' stages.

use super::key::{StageKey, key_of_text, spec_text};
use super::kinds::Arenas;
use super::memory::StageMemory;
use crate::digest::Digest;
use crate::parallel;
use crate::recipe::spec::StageSpec;
use crate::recipe::{CompareSettings, LoadedRecipe, NamedData, ProgramRun, ResolvedStage, RuntimeSettings};
use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;

/// The graph of all stages that the recipes on the command line need. Each stage occurs once, and parents come before
/// children.
#[derive(Clone, Debug, Default)]
pub struct Plan {
    /// The stages; [`PlannedStage::parents`] are indices into this list and always smaller than the stage's own.
    pub stages: Vec<PlannedStage>,
    /// The variants of all recipes, in the order of the command line.
    pub variants: Vec<PlannedVariant>,
    /// The settings by which arms are compared, by recipe name, where the recipe has them. Not hashed.
    pub compare: BTreeMap<String, CompareSettings>,
}

/// A stage of the plan, shared by all variants that need it with exactly this spec.
#[derive(Clone, Debug)]
pub struct PlannedStage {
    /// The cache key.
    pub key: Digest,
    /// The document whose digest is the key, in its canonical form.
    pub key_text: String,
    /// The stage's name in the recipe that mentions it first.
    pub name: String,
    /// The indices of the stages whose results are inputs of this one: the checkpoints from which it starts, and then
    /// the stages whose results it reads as data.
    pub parents: Vec<usize>,
    /// The number of the last `parents`, those that are read as data.
    pub sources: usize,
    /// The index of the stage that must end before this one begins, although it reads nothing of it: the worker of a
    /// training stage writes its snapshots.
    pub follows: Option<usize>,
    /// The labels (`PlannedVariant::label`) of the variants that need the stage.
    pub variants: Vec<String>,
    /// The hashed spec.
    pub spec: StageSpec,
    /// The absolute paths of the content that `spec` names by digest.
    pub inputs: BTreeMap<Digest, PathBuf>,
    /// The settings of how the program of a `command` stage runs. Not hashed.
    pub program: Option<ProgramRun>,
    /// The settings of where and how often the stage runs, from the recipe's `[runtime]`. Not hashed.
    pub runtime: RuntimeSettings,
    /// The stage's memory, once the model and the machine have been examined. Not hashed.
    pub memory: StageMemory,
    /// The data sets that the stage trains on or measures on, by their names. Not hashed.
    pub data_sets: Vec<NamedData>,
}

/// A variant of a recipe's sweep.
#[derive(Clone, Debug)]
pub struct PlannedVariant {
    /// The recipe's `name`.
    pub recipe: String,
    /// The variant's name: `rouge`, `seed=1`, `rouge,seed=1`; without a sweep the recipe's name.
    pub name: String,
    /// `recipe/name`, unique in a plan.
    pub label: String,
    /// The stages of this variant, by name, parents first.
    pub stages: Vec<(String, usize)>,
}

impl PlannedStage {
    /// Returns the stages from whose checkpoints this one starts.
    pub fn checkpoints(&self) -> &[usize] {
        &self.parents[..self.parents.len() - self.sources]
    }

    /// Returns the stages that must end before this one begins.
    pub fn before(&self) -> Vec<usize> {
        self.parents.iter().copied().chain(self.follows).collect()
    }

    /// Returns the stages whose results this one reads as data, in the order in which its spec refers to them.
    pub fn data_stages(&self) -> &[usize] {
        &self.parents[self.parents.len() - self.sources..]
    }

    /// Adds the data sets of a variant that shares the stage. Of several limits the smallest counts.
    pub(super) fn add_data_sets(&mut self, sets: &[NamedData]) {
        for set in sets {
            let is_same = |known: &&mut NamedData| known.name == set.name && known.data == set.data;
            match self.data_sets.iter_mut().find(is_same) {
                Some(known) => {
                    let limit = |of: &NamedData| of.max_overlap.as_ref().map_or(f64::INFINITY, |limit| limit.fraction);
                    if limit(set) < limit(known) {
                        known.max_overlap.clone_from(&set.max_overlap);
                    }
                }
                None => self.data_sets.push(set.clone()),
            }
        }
    }

    /// Returns the document whose digest is the key, which is the content of `key.json`.
    pub fn key_json(&self) -> serde_json::Value {
        serde_json::from_str(&self.key_text).expect("it is canonical JSON")
    }
}

impl Plan {
    /// Builds the plan of `recipes`, whose names differ. Stages with equal keys become one stage, and an arena is one
    /// stage for all variants of its recipe.
    pub fn build(recipes: &[LoadedRecipe]) -> Self {
        let mut plan = Self::default();
        let mut known: HashMap<Digest, usize> = HashMap::new();
        for recipe in recipes {
            let stages: Vec<&ResolvedStage> = recipe.variants.iter().flat_map(|variant| &variant.stages).collect();
            let mut spec_texts = parallel::map(&stages, |stage| spec_text(&stage.spec)).into_iter();
            let mut arenas = Arenas::default();
            for variant in &recipe.variants {
                let label = format!("{}/{}", recipe.name, variant.name);
                let mut stages: Vec<(String, usize)> = Vec::with_capacity(variant.stages.len());
                let mut at: HashMap<&str, usize> = HashMap::new();
                for (stage, spec_text) in variant.stages.iter().zip(&mut spec_texts) {
                    if stage.fan_in.is_some() {
                        let parents: Vec<(&str, usize)> = stage
                            .after
                            .iter()
                            .filter_map(|name| Some((name.as_str(), *at.get(name.as_str())?)))
                            .collect();
                        arenas.add(&plan, stage, (&variant.name, plan.variants.len()), &parents);
                        continue;
                    }
                    let before = stage.after.iter().chain(&stage.sources);
                    let parents: Vec<usize> = before.filter_map(|name| at.get(name.as_str()).copied()).collect();
                    let parent_keys: Vec<Digest> = parents.iter().map(|at| plan.stages[*at].key.clone()).collect();
                    let StageKey { key, text } = key_of_text(&stage.spec.work, &spec_text, &parent_keys);
                    let index = *known.entry(key).or_insert_with_key(|key| {
                        plan.stages.push(PlannedStage {
                            key: key.clone(),
                            key_text: text,
                            name: stage.name.clone(),
                            parents,
                            sources: stage.sources.len(),
                            follows: stage.follows.as_deref().and_then(|name| at.get(name).copied()),
                            variants: Vec::new(),
                            spec: stage.spec.clone(),
                            inputs: stage.inputs.clone(),
                            program: stage.program.clone(),
                            runtime: recipe.runtime.clone(),
                            memory: StageMemory::default(),
                            data_sets: Vec::new(),
                        });
                        plan.stages.len() - 1
                    });
                    plan.stages[index].add_data_sets(&stage.data_sets);
                    let sharing = &mut plan.stages[index].variants;
                    // Labels are unique, and equal ones are adjacent.
                    if sharing.last() != Some(&label) {
                        sharing.push(label.clone());
                    }
                    at.insert(&stage.name, index);
                    stages.push((stage.name.clone(), index));
                }
                let (recipe, name) = (recipe.name.clone(), variant.name.clone());
                plan.variants.push(PlannedVariant { recipe, name, label, stages });
            }
            if !recipe.compare.is_empty() {
                plan.compare.insert(recipe.name.clone(), recipe.compare.clone());
            }
            arenas.plan(&mut plan, &recipe.runtime, &mut known);
        }
        plan
    }
}
