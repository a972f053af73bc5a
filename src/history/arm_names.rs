//! Groups the variants of runs into arms, and names arms and evaluations.

use crate::digest::Digest;
use crate::evidence::{Evidence, Problem, ProblemKind};
use crate::history::run_log::LoggedVariant;
use std::collections::{BTreeMap, BTreeSet, HashMap};

/// Splits a variant's name into the name without its seed, and the seed: `rouge,seed=2` is `rouge` and 2. The result is
/// empty for a recipe's only variant whose name is only a seed.
///
/// If several parts of the name are seeds, only the recipe's own `seed` is removed. The others stay in the arm's name.
pub fn without_seed(name: &str) -> (String, Option<u64>) {
    let seed_of = |part: &str| {
        let (key, value) = part.split_once('=')?;
        let seed: u64 = value.parse().ok()?;
        (key.rsplit('.').next() == Some("seed")).then_some((key == "seed", seed))
    };
    let parts: Vec<&str> = name.split(',').collect();
    let seeds: Vec<(usize, bool, u64)> = parts
        .iter()
        .enumerate()
        .filter_map(|(at, part)| seed_of(part).map(|(is_recipe, seed)| (at, is_recipe, seed)))
        .collect();
    let chosen = match seeds.as_slice() {
        [only] => Some(only),
        several => several.iter().find(|(_, is_recipe, _)| *is_recipe),
    };
    let Some(&(at, _, seed)) = chosen else { return (name.to_owned(), None) };
    let rest: Vec<&str> = parts.iter().enumerate().filter(|(other, _)| *other != at).map(|(_, part)| *part).collect();
    (rest.join(","), Some(seed))
}

/// One arm that a name refers to.
struct Known {
    recipe: String,
    name: String,
    /// The runs in which the name refers to this arm.
    runs: Vec<String>,
    /// Fingerprint by stage.
    prints: BTreeMap<String, Digest>,
    /// Cache key by stage and seed.
    keys: BTreeMap<(String, u64), Digest>,
}

/// The arms found so far.
#[derive(Default)]
pub(super) struct ArmNames {
    known: Vec<Known>,
    /// For each recipe and name, the positions in `known` of the arms with that name.
    meanings: HashMap<(String, String), Vec<usize>>,
}

impl ArmNames {
    /// Returns the position of the arm that `variant` of `run` belongs to, and adds the arm if it is new.
    ///
    /// It is an arm of the same recipe and name, unless a stage that both have differs in more than its seed. `stages`
    /// are name, seed, key and fingerprint.
    pub(super) fn arm(
        &mut self,
        run: &str,
        variant: &LoggedVariant,
        stages: &[(String, u64, Digest, Digest)],
    ) -> usize {
        let mut name = without_seed(&variant.name).0;
        if name.is_empty() {
            name.clone_from(&variant.recipe);
        }
        // Within a run a name refers to one arm.
        let is_of_run = |known: &Known| known.runs.iter().any(|other| other == run);
        let fits = |known: &Known| {
            stages.iter().all(|(stage, seed, key, print)| {
                let same_print = known.prints.get(stage).is_none_or(|other| other == print);
                let same_key = known.keys.get(&(stage.clone(), *seed)).is_none_or(|other| other == key);
                // A stage that never started has no fingerprint to compare.
                (same_print || print == key) && same_key
            })
        };
        let meanings = self.meanings.entry((variant.recipe.clone(), name.clone())).or_default();
        let of_run = meanings.iter().find(|&&place| is_of_run(&self.known[place]));
        let found = of_run.or_else(|| meanings.iter().find(|&&place| fits(&self.known[place]))).copied();
        let position = found.unwrap_or_else(|| {
            meanings.push(self.known.len());
            self.known.push(Known {
                recipe: variant.recipe.clone(),
                name,
                runs: Vec::new(),
                prints: BTreeMap::new(),
                keys: BTreeMap::new(),
            });
            self.known.len() - 1
        });
        let known = &mut self.known[position];
        if !known.runs.iter().any(|other| other == run) {
            known.runs.push(run.to_owned());
        }
        for (stage, seed, key, print) in stages {
            if print != key {
                known.prints.insert(stage.clone(), print.clone());
            }
            known.keys.insert((stage.clone(), *seed), key.clone());
        }
        position
    }

    /// Names every arm and every trial's evaluation. Returns a problem for each name that had to be made unique.
    pub(super) fn finish(self, evidence: &mut Evidence) -> Vec<Problem> {
        let mut problems = Vec::new();
        let mut recipes_of: HashMap<&str, BTreeSet<&str>> = HashMap::new();
        for (recipe, name) in self.meanings.keys() {
            recipes_of.entry(name).or_default().insert(recipe);
        }
        for (position, known) in self.known.iter().enumerate() {
            let mut name = known.name.clone();
            if recipes_of[known.name.as_str()].len() > 1 {
                name = format!("{}/{name}", known.recipe);
            }
            if self.meanings[&(known.recipe.clone(), known.name.clone())].len() > 1 {
                let first = &known.runs[0];
                name = format!("{name}@{}", &first[first.len().saturating_sub(6)..]);
                let message = format!(
                    "`{}` means different settings in different runs; `{name}` is that of {}",
                    known.name,
                    known.runs.join(", ")
                );
                problems.push(Problem::new(ProblemKind::DifferentSettings, message));
            }
            evidence.arms[position].name = name;
        }
        for curves in &mut evidence.training {
            for arm in &mut curves.arms {
                let position: usize = arm.parse().expect("positions are replaced by names here");
                arm.clone_from(&evidence.arms[position].name);
            }
        }
        name_evaluations(evidence);
        problems
    }
}

/// Names evaluations. Stages that share a question are one evaluation, named after the first of them. Where one variant
/// has several stages of an evaluation, each becomes an arm of its own.
fn name_evaluations(evidence: &mut Evidence) {
    let mut stages: Vec<String> = Vec::new();
    let mut asked: Vec<BTreeSet<usize>> = Vec::new();
    for trial in evidence.arms.iter().flat_map(|arm| &arm.trials) {
        let questions = trial.answers.iter().map(|answer| answer.question);
        if let Some(at) = stages.iter().position(|stage| *stage == trial.stage) {
            asked[at].extend(questions);
        } else {
            stages.push(trial.stage.clone());
            asked.push(questions.collect());
        }
    }
    // The evaluation of each stage is the first stage that it is linked with, even indirectly.
    let mut evaluation: Vec<usize> = (0..stages.len()).collect();
    for at in 0..stages.len() {
        for other in 0..at {
            if evaluation[at] != evaluation[other] && !asked[at].is_disjoint(&asked[other]) {
                let (from, to) = (evaluation[at].max(evaluation[other]), evaluation[at].min(evaluation[other]));
                evaluation.iter_mut().filter(|name| **name == from).for_each(|name| *name = to);
            }
        }
    }
    let of_stage = |stage: &str| stages.iter().position(|known| known == stage).map(|at| evaluation[at]);
    for trial in evidence.arms.iter_mut().flat_map(|arm| &mut arm.trials) {
        if let Some(at) = of_stage(&trial.stage) {
            trial.evaluation.clone_from(&stages[at]);
        }
    }
    split_arms(evidence, &|stage| of_stage(stage).map_or_else(|| stage.to_owned(), |at| stages[at].clone()));
}

/// Splits arms that have several stages of one evaluation.
fn split_arms(evidence: &mut Evidence, evaluation_of: &dyn Fn(&str) -> String) {
    let only_arm = evidence.arms.len() == 1;
    let mut arms = Vec::new();
    for arm in std::mem::take(&mut evidence.arms) {
        let mut stages: Vec<&str> = Vec::new();
        for trial in &arm.trials {
            if !stages.contains(&trial.stage.as_str()) {
                stages.push(&trial.stage);
            }
        }
        let rivals: Vec<String> = stages
            .iter()
            .filter(|stage| stages.iter().filter(|other| evaluation_of(other) == evaluation_of(stage)).count() > 1)
            .map(|stage| (*stage).to_owned())
            .collect();
        if rivals.is_empty() {
            arms.push(arm);
            continue;
        }
        let mut rest = arm;
        for stage in &rivals {
            let mut own = rest.clone();
            own.name = if only_arm { stage.clone() } else { format!("{} {stage}", rest.name) };
            own.trials.retain(|trial| trial.stage == *stage);
            own.missing.retain(|gap| gap.stage == *stage);
            rename_curves(evidence, &rest.name, &own.name);
            arms.push(own);
        }
        rest.trials.retain(|trial| !rivals.contains(&trial.stage));
        rest.missing.retain(|gap| !rivals.contains(&gap.stage));
        if !rest.trials.is_empty() || !rest.missing.is_empty() {
            arms.push(rest);
        }
    }
    evidence.arms = arms;
}

/// Adds the arm `to` to the training curves of the arm `from`.
fn rename_curves(evidence: &mut Evidence, from: &str, to: &str) {
    for curves in evidence.training.iter_mut().filter(|curves| curves.arms.iter().any(|arm| arm == from)) {
        curves.arms.push(to.to_owned());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_arm_is_a_variant_without_its_seed() {
        for (name, arm, seed) in [
            ("rouge,seed=2", "rouge", Some(2)),
            ("seed=17", "", Some(17)),
            ("rouge", "rouge", None),
            ("seed=1,lr=0.001", "lr=0.001", Some(1)),
            ("grpo.seed=4,lr=0.001", "lr=0.001", Some(4)),
            ("stages.sft.seed=4,stages.grpo.seed=5", "stages.sft.seed=4,stages.grpo.seed=5", None),
            ("seed=3,stages.grpo.seed=5", "stages.grpo.seed=5", Some(3)),
            ("seed=many", "seed=many", None),
        ] {
            assert_eq!(without_seed(name), (arm.to_owned(), seed), "{name}");
        }
    }
}
