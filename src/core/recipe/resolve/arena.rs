//! `[stages.NAME]` of the kind `arena`: one stage for all variants of a recipe.
//!
//! An arena is resolved in every variant, as other stages are, and must be the same in all of them ([`settle`]). Its
//! players are known once the plan has the stages' keys ([`crate::plan::Plan::build`]).

use crate::recipe::resolve::component_table::ComponentTable;
use crate::recipe::resolve::data_sets::{self, TemplateNeed};
use crate::recipe::resolve::resolved::ResolvedVariant;
use crate::recipe::resolve::resolver::{Resolver, stage_need};
use crate::recipe::resolve::reward_mix;
use crate::recipe::spec::{ArenaJudge, ArenaSpec, CompareWith, ModelSpec, Pairing, ParentAdapter, StageSpec, Work};
use crate::recipe::sweep::variant::Variant;
use crate::recipe::tables::arena::{ArenaJudgeTable, ArenaTable, PairJudgesTable, PairsName, SimilarityTable};
use crate::recipe::text::diagnostic::{Problem, Problems};
use crate::recipe::text::located::KeyPath;
use crate::rewards::{OF_A_PAIR, PAIR_PROMPT, TableContext as _, check_served};
use std::collections::BTreeMap;

/// The players of an arena beside the stages in its `after`.
#[derive(Clone, Debug, PartialEq)]
pub struct FanIn {
    /// The untrained model, if it plays.
    pub base: Option<ModelSpec>,
    /// Whether models that differ only in their seeds are one player.
    pub pool_seeds: bool,
    /// The arena's own seed.
    pub(in crate::recipe) seed: Option<u64>,
}

impl Resolver<'_> {
    /// Resolves the arena of `table`, without its players.
    pub(in crate::recipe) fn arena_stage(&mut self, key: &KeyPath, table: &ArenaTable) -> Option<(StageSpec, FanIn)> {
        let before = self.files.problems.len();
        let has_reference = self.data_table(&table.data).is_some_and(|data| data.reference.is_some());
        let judges: BTreeMap<String, Option<ArenaJudge>> = table
            .judges
            .iter()
            .map(|(name, judge)| (name.clone(), self.arena_judge(&key.key("judges").key(name), judge, has_reference)))
            .collect();
        let mut needs = vec![stage_need(key, "prompt")];
        for (name, judge) in &table.judges {
            if let ArenaJudgeTable::Similarity(SimilarityTable { compare_with: Some(CompareWith::Reference), .. }) =
                judge
            {
                let at = key.key("judges").key(name).key("compare_with");
                needs.push(TemplateNeed { template: "reference", by: format!("the judge `{name}`"), at });
            }
        }
        let split = self.held_out(key, ("data", &table.data), ("split", table.split));
        let data = self.data(&key.key("data"), &table.data, &needs, split);
        let pairing = self.pairing(key, table);
        // A new adapter of the untrained model would not change it.
        let base = if table.base { Some(self.model(key, None)) } else { None };
        let untrained = |model: ModelSpec| ModelSpec { lora: None, parent_adapter: ParentAdapter::Continue, ..model };
        let sampling = table.sampling.resolve(self, key, table.temperature);
        let seed = self.seed?;
        if self.files.problems.len() > before {
            return None;
        }
        let work = ArenaSpec {
            data: data?,
            by: self.data_table(&table.data).map(data_sets::slices).unwrap_or_default(),
            questions: table.questions,
            sampling,
            batch_size: table.batch_size,
            players: Vec::new(),
            pairing: pairing?,
            judges: judges.into_iter().map(|(name, judge)| Some((name, judge?))).collect::<Option<_>>()?,
            prior_sd: table.prior_sd,
            bootstrap_resamples: table.bootstrap_resamples,
            max_missing_fraction: table.max_missing_fraction,
        };
        let base = match base {
            Some(model) => Some(untrained(model?)),
            None => None,
        };
        let fan_in = FanIn { base, pool_seeds: table.pool_seeds, seed: table.seed };
        Some((
            StageSpec { seed: table.seed.unwrap_or(seed), model: None, until: None, work: Work::Arena(work) },
            fan_in,
        ))
    }

    fn pairing(&mut self, key: &KeyPath, table: &ArenaTable) -> Option<Pairing> {
        match (table.pairs, table.max_comparisons) {
            (PairsName::Full, None) => Some(Pairing::Full),
            (PairsName::Adaptive, Some(max_comparisons)) => Some(Pairing::Adaptive { max_comparisons }),
            (PairsName::Adaptive, None) => {
                let message = format!("`{key}` chooses its pairs without a budget");
                let help = "say how many pairs of answers may be compared: `max_comparisons = 500`";
                self.problem(&key.key("pairs"), message, "needs `max_comparisons`", help);
                None
            }
            (PairsName::Full, Some(_)) => {
                let message = format!("`{key}.max_comparisons` has no effect with `pairs = \"full\"`");
                let help = "with `pairs = \"adaptive\"` it is the budget; `questions` limits how much is asked";
                self.problem(&key.key("max_comparisons"), message, "no effect", help);
                None
            }
        }
    }

    fn arena_judge(&mut self, key: &KeyPath, judge: &ArenaJudgeTable, has_reference: bool) -> Option<ArenaJudge> {
        match judge {
            ArenaJudgeTable::Similarity(table) => {
                let scope = reward_mix::scope(&mut self.files, &key.key("scope"), &table.scope);
                let at = key.key("encoder");
                let encoder = self.files.directory("encoder", &table.encoder, &at, &mut self.found);
                let otherwise = if has_reference { CompareWith::Reference } else { CompareWith::Prompt };
                Some(ArenaJudge::Similarity {
                    encoder: encoder?,
                    dtype: table.dtype,
                    prompt: table.prompt.clone(),
                    scope: scope?,
                    compare_with: table.compare_with.unwrap_or(otherwise),
                    tie_margin: table.tie_margin,
                })
            }
            ArenaJudgeTable::Judge(table) => {
                let PairJudgesTable { judges, pair_prompt, .. } = table;
                let before = self.files.problems.len();
                let scope = reward_mix::scope(&mut self.files, &key.key("scope"), &table.scope);
                let mut recipe = ComponentTable { files: &mut self.files, key, found: &mut self.found };
                check_served(judges, &mut recipe);
                if let Some(prompt) = pair_prompt {
                    recipe.check_template("pair_prompt", prompt, OF_A_PAIR);
                }
                let prompt = pair_prompt.as_ref().unwrap_or(&PAIR_PROMPT).clone();
                let sampling = crate::recipe::spec::JudgeSampling {
                    temperature: table.temperature,
                    seed: table.seed,
                    max_tokens: table.max_tokens,
                };
                let spec = ArenaJudge::Models { judges: judges.clone(), scope: scope?, prompt, sampling };
                (self.files.problems.len() == before).then_some(spec)
            }
        }
    }
}

/// Gives the arenas of `variants` the seed of the recipe as written. Reports arenas that a sweep changes: answers to
/// other questions, or compared by other judges, cannot be compared.
pub(in crate::recipe) fn settle(
    base: &Variant<'_>,
    seed: u64,
    variants: &mut [ResolvedVariant],
    problems: &mut Problems,
) {
    report_lonely(base, variants, problems);
    let mut first: BTreeMap<String, (String, StageSpec, bool)> = BTreeMap::new();
    let mut reported: Vec<String> = Vec::new();
    for variant in variants {
        for stage in &mut variant.stages {
            let Some(fan_in) = &stage.fan_in else { continue };
            if fan_in.seed.is_none() {
                stage.spec.seed = seed;
            }
            let Some((other, spec, pool_seeds)) = first.get(&stage.name) else {
                let settled = (variant.name.clone(), stage.spec.clone(), fan_in.pool_seeds);
                first.insert(stage.name.clone(), settled);
                continue;
            };
            if (*spec != stage.spec || *pool_seeds != fan_in.pool_seeds) && !reported.contains(&stage.name) {
                reported.push(stage.name.clone());
                let place = base.value_place(&KeyPath::dotted("stages").key(&stage.name));
                let what = match (&spec.work, &stage.spec.work) {
                    (Work::Arena(one), Work::Arena(other)) if one.data != other.data => "asks other questions",
                    _ => "has other settings",
                };
                let message =
                    format!("the arena `{}` {what} in the variant `{}` than in `{other}`", stage.name, variant.name);
                let help = "all variants share one arena: a sweep must not change its data, sampling or judges";
                problems.push(Problem::at(place, message, "differs between variants").help(help));
            }
        }
    }
}

/// Reports arenas in which no two models can meet.
fn report_lonely(base: &Variant<'_>, variants: &[ResolvedVariant], problems: &mut Problems) {
    let mut players: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for stage in variants.iter().flat_map(|variant| &variant.stages) {
        let Some(fan_in) = &stage.fan_in else { continue };
        let players = players.entry(&stage.name).or_default();
        players.extend(stage.after.iter().map(String::as_str));
        if fan_in.base.is_some() && !players.contains(&"base") {
            players.push("base");
        }
    }
    for (name, players) in players {
        let who = match players[..] {
            [] => "no player".to_owned(),
            [only] => format!("one player, `{only}`"),
            _ => continue,
        };
        let place = base.value_place(&KeyPath::dotted("stages").key(name).key("after"));
        let problem = Problem::at(place, format!("the arena `{name}` has {who}"), "needs at least two players");
        problems.push(problem.help("name another stage, set `base = true`, or compare variants of a `[sweep]`"));
    }
}
