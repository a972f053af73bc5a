//! `arena`: one stage for all variants of a recipe, whose players are stages of these variants.
//!
//! Players are in the order of their stages' keys. Neither this order nor their names depend on the order of variants,
//! which therefore changes no key.

use super::{DECODING, PlannedWork, ROW_BYTES};
use crate::digest::Digest;
use crate::plan::graph::{Plan, PlannedStage};
use crate::plan::key::{StageKey, stage_key};
use crate::plan::memory::{MemoryEstimate, StageMemory, StageModel};
use crate::recipe::spec::{
    ArenaJudge, ArenaSpec, Dtype, ModelSpec, Pairing, ParentAdapter, PlayerModel, PlayerSpec, StageSpec, Work,
};
use crate::recipe::{ResolvedStage, RuntimeSettings};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::PathBuf;

impl PlannedWork for ArenaSpec {
    /// Returns the version of the code, whose changes were:
    ///
    /// - 2: ratings differ in the last digits, and other pairs are chosen.
    /// - 3: a comparison is one game.
    fn version(&self) -> u32 {
        3
    }

    fn work_size(&self, data_bytes: u64) -> f64 {
        let models = self.models().count() as f64;
        data_bytes as f64 / ROW_BYTES * models * self.sampling.max_new_tokens as f64 * DECODING
    }

    /// Returns the estimate for one player, because players run one at a time.
    fn memory(&self, model: &StageModel<'_>) -> Option<MemoryEstimate> {
        Some(model.sampling(&self.sampling, self.batch_size))
    }

    fn encoders(&self) -> Vec<(&Digest, Dtype)> {
        let encoder = |judge| match judge {
            &ArenaJudge::Similarity { ref encoder, dtype, .. } => Some((encoder, dtype)),
            ArenaJudge::Models { .. } => None,
        };
        self.judges.values().filter_map(encoder).collect()
    }

    fn reads(&self) -> Value {
        json!(["arena", self.data, self.questions, self.sampling.max_prompt_tokens, self.by])
    }

    /// Counts every pair of players in both orders on every question, or as many as the budget allows.
    fn judge_calls(&self) -> BTreeMap<String, u64> {
        let sizes: Vec<u64> = self.players.iter().map(|player| player.models.len() as u64).collect();
        let all: u64 = sizes.iter().sum();
        let of_different_players = (all * all - sizes.iter().map(|size| size * size).sum::<u64>()) / 2;
        let everything = self.questions.map(|questions| questions as u64 * of_different_players);
        let comparisons = match self.pairing {
            Pairing::Full => everything,
            Pairing::Adaptive { max_comparisons } => {
                Some(everything.map_or(max_comparisons as u64, |all| all.min(max_comparisons as u64)))
            }
        };
        let Some(comparisons) = comparisons else { return BTreeMap::new() };
        let mut calls = BTreeMap::new();
        for judge in self.judges.values() {
            let ArenaJudge::Models { judges, .. } = judge else { continue };
            for name in judges {
                *calls.entry(name.clone()).or_default() += 2 * comparisons;
            }
        }
        calls
    }

    fn further_models(&self) -> Vec<&ModelSpec> {
        self.models().map(|player| &player.model).collect()
    }
}

/// The arenas of a recipe by name, while its variants are planned.
#[derive(Default)]
pub(in crate::plan) struct Arenas(BTreeMap<String, Gathered>);

/// The data of an arena from the variants added so far.
struct Gathered {
    /// The arena's stage in the first of these variants.
    stage: ResolvedStage,
    /// The indices of these variants in the plan.
    variants: Vec<usize>,
    /// The stages that play, by their key, each with its variants.
    parents: BTreeMap<Digest, Parent>,
    /// The untrained models that play.
    bases: Vec<ModelSpec>,
    inputs: BTreeMap<Digest, PathBuf>,
}

struct Parent {
    index: usize,
    /// The stage's name in the recipe.
    name: String,
    variants: BTreeSet<String>,
}

/// Models that are one player: their stages, by key, and the variants of all of them.
struct Arm<'a> {
    name: &'a str,
    parents: Vec<&'a Digest>,
    variants: BTreeSet<&'a str>,
}

impl Arenas {
    /// Adds the arena `stage` of the variant `variant` (its name and its index in the plan), whose parents are
    /// `parents` (their names and indices).
    pub(in crate::plan) fn add(
        &mut self,
        plan: &Plan,
        stage: &ResolvedStage,
        variant: (&str, usize),
        parents: &[(&str, usize)],
    ) {
        let gathered = self.0.entry(stage.name.clone()).or_insert_with(|| Gathered {
            stage: stage.clone(),
            variants: Vec::new(),
            parents: BTreeMap::new(),
            bases: Vec::new(),
            inputs: BTreeMap::new(),
        });
        gathered.variants.push(variant.1);
        gathered.inputs.extend(stage.inputs.clone());
        for &(name, index) in parents {
            let PlannedStage { key, spec, inputs, .. } = &plan.stages[index];
            let parent = gathered.parents.entry(key.clone()).or_insert_with(|| Parent {
                index,
                name: name.to_owned(),
                variants: BTreeSet::new(),
            });
            parent.variants.insert(variant.0.to_owned());
            let model = spec.model.as_ref().and_then(|model| inputs.get_key_value(&model.files));
            gathered.inputs.extend(model.map(|(digest, path)| (digest.clone(), path.clone())));
        }
        if let Some(base) = stage.fan_in.as_ref().and_then(|fan_in| fan_in.base.as_ref())
            && !gathered.bases.contains(base)
        {
            gathered.bases.push(base.clone());
        }
    }

    /// Adds every arena to `plan` and to its variants. `known` has the plan's stages by key.
    pub(in crate::plan) fn plan(self, plan: &mut Plan, runtime: &RuntimeSettings, known: &mut HashMap<Digest, usize>) {
        for (name, gathered) in self.0 {
            let parent_keys: Vec<Digest> = gathered.parents.keys().cloned().collect();
            let spec = gathered.spec(plan);
            let StageKey { key, text } = stage_key(&spec, &parent_keys);
            let index = *known.entry(key).or_insert_with_key(|key| {
                plan.stages.push(PlannedStage {
                    key: key.clone(),
                    key_text: text,
                    name: name.clone(),
                    parents: gathered.parents.values().map(|parent| parent.index).collect(),
                    sources: 0,
                    follows: None,
                    variants: Vec::new(),
                    spec,
                    inputs: gathered.inputs,
                    program: None,
                    runtime: runtime.clone(),
                    memory: StageMemory::default(),
                    data_sets: Vec::new(),
                });
                plan.stages.len() - 1
            });
            plan.stages[index].add_data_sets(&gathered.stage.data_sets);
            for variant in gathered.variants {
                plan.stages[index].variants.push(plan.variants[variant].label.clone());
                plan.variants[variant].stages.push((name.clone(), index));
            }
        }
    }
}

impl Gathered {
    fn spec(&self, plan: &Plan) -> StageSpec {
        let mut spec = self.stage.spec.clone();
        if let Work::Arena(ArenaSpec { players, .. }) = &mut spec.work {
            *players = self.players(plan);
        }
        spec
    }

    fn players(&self, plan: &Plan) -> Vec<PlayerSpec> {
        let pool_seeds = self.stage.fan_in.as_ref().is_some_and(|fan_in| fan_in.pool_seeds);
        let mut arms: Vec<(Digest, Arm<'_>)> = Vec::new();
        for (key, parent) in &self.parents {
            let group = if pool_seeds { without_seeds(plan, parent.index) } else { key.clone() };
            if let Some((_, arm)) = arms.iter_mut().find(|(other, arm)| *other == group && arm.name == parent.name) {
                arm.parents.push(key);
                arm.variants.extend(parent.variants.iter().map(String::as_str));
            } else {
                let variants = parent.variants.iter().map(String::as_str).collect();
                arms.push((group, Arm { name: &parent.name, parents: vec![key], variants }));
            }
        }
        let arms: Vec<Arm<'_>> = arms.into_iter().map(|(_, arm)| arm).collect();
        let places: BTreeMap<&Digest, usize> = self.parents.keys().enumerate().map(|(at, key)| (key, at)).collect();
        let model = |key: &Digest| {
            let StageSpec { seed, model, .. } = &plan.stages[self.parents[key].index].spec;
            let model = model.clone().map(|model| ModelSpec { parent_adapter: ParentAdapter::Continue, ..model })?;
            Some(PlayerModel { parent: Some(places[key]), seed: Some(*seed), model })
        };
        let trained = arms
            .iter()
            .zip(names(&arms))
            .map(|(arm, name)| PlayerSpec { name, models: arm.parents.iter().filter_map(|key| model(key)).collect() });
        let mut bases = self.bases.clone();
        bases.sort_by_key(|base| base.files.clone());
        let numbered = |at: usize| if bases.len() == 1 { "base".to_owned() } else { format!("base {}", at + 1) };
        let untrained = bases.iter().enumerate().map(|(at, base)| PlayerSpec {
            name: numbered(at),
            models: vec![PlayerModel { parent: None, seed: None, model: base.clone() }],
        });
        trained.chain(untrained).collect()
    }
}

/// Returns a digest that two stages share if they differ only in the seeds of themselves and their ancestors.
fn without_seeds(plan: &Plan, stage: usize) -> Digest {
    let planned = &plan.stages[stage];
    let parents: Vec<Digest> = planned.parents.iter().map(|&parent| without_seeds(plan, parent)).collect();
    stage_key(&StageSpec { seed: 0, ..planned.spec.clone() }, &parents).key
}

/// Returns a name for each arm. This is the name of its stage. Arms that share it also have the parts that their
/// variants' names have in common. Where names are still equal, they contain all these names, or numbers.
fn names(arms: &[Arm<'_>]) -> Vec<String> {
    let alone = |arm: &Arm<'_>| arms.iter().filter(|other| other.name == arm.name).count() == 1;
    let short: Vec<String> = arms
        .iter()
        .map(|arm| match common_parts(&arm.variants) {
            parts if alone(arm) || parts.is_empty() => arm.name.to_owned(),
            parts => format!("{} [{parts}]", arm.name),
        })
        .collect();
    let whole = |arm: &Arm<'_>| {
        let variants: Vec<&str> = arm.variants.iter().copied().collect();
        format!("{} [{}]", arm.name, variants.join(" "))
    };
    let mut names: Vec<String> = Vec::with_capacity(arms.len());
    for (arm, name) in arms.iter().zip(&short) {
        let unique = short.iter().filter(|other| *other == name).count() == 1;
        let name = if unique { name.clone() } else { whole(arm) };
        let again = names.iter().filter(|other| **other == name || other.starts_with(&format!("{name} #"))).count();
        names.push(if again == 0 { name } else { format!("{name} #{}", again + 1) });
    }
    names
}

/// Returns the parts, separated by commas, that all names of variants share.
fn common_parts(variants: &BTreeSet<&str>) -> String {
    let Some(first) = variants.first() else { return String::new() };
    let in_all = |part: &&str| variants.iter().all(|name| name.split(',').any(|other| other == *part));
    first.split(',').filter(in_all).collect::<Vec<_>>().join(",")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn arm<'a>(name: &'a str, variants: &[&'a str]) -> Arm<'a> {
        Arm { name, parents: Vec::new(), variants: variants.iter().copied().collect() }
    }

    #[test]
    fn players_are_called_what_tells_them_apart() {
        let arms = [
            arm("sft", &["rouge,seed=1", "semantic,seed=1", "rouge,seed=2"]),
            arm("grpo", &["rouge,seed=1", "rouge,seed=2"]),
            arm("grpo", &["semantic,seed=1"]),
        ];
        assert_eq!(names(&arms), ["sft", "grpo [rouge]", "grpo [semantic,seed=1]"]);
        assert_eq!(names(&[arm("grpo", &["plain"])]), ["grpo"]);
    }

    #[test]
    fn no_two_players_have_one_name() {
        let arms = [arm("grpo", &["a", "b"]), arm("grpo", &["c", "d"]), arm("grpo", &["a", "b"])];
        assert_eq!(names(&arms), ["grpo [a b]", "grpo [c d]", "grpo [a b] #2"]);
    }
}
